"""Mean, spread and the interval of the difference, from the lines that `run` gathered. Standard library only."""
import json, math, statistics, sys
from pathlib import Path

folder = Path(sys.argv[1])
# The 97.5 % quantile of Student's t by degrees of freedom: the interval is a 95 % one, two-sided.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def read(name):
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return {line["seed"]: (100 * line["test_accuracy"], 100 * line["train_accuracy"]) for line in lines}


print("| | test accuracy, % | train accuracy, % | gap | seeds |\n|---|---|---|---|---|")
runs = {}
for side in ["evenkeel", "torch"]:
    for recipe in ["default", "batch-norm-alone"]:
        runs[side, recipe] = found = read(f"{side}-{recipe}")
        test, train = ([values[i] for values in found.values()] for i in [0, 1])
        spread = statistics.stdev(test)
        print(f"| {side}, {recipe} | {statistics.mean(test):.2f} ± {spread:.2f} | {statistics.mean(train):.2f} "
              f"| {statistics.mean(train) - statistics.mean(test):.2f} | {len(test)} |")
print()
for side in ["evenkeel", "torch"]:
    ours, base = runs[side, "default"], runs[side, "batch-norm-alone"]
    differences = [ours[seed][0] - base[seed][0] for seed in sorted(ours.keys() & base.keys())]
    mean = statistics.mean(differences)
    half = T[len(differences) - 1] * statistics.stdev(differences) / math.sqrt(len(differences))
    print(f"{side}: default minus batch norm alone, by seed: {mean:+.2f} points, "
          f"95 % interval {mean - half:+.2f} to {mean + half:+.2f} (n = {len(differences)})")
a, b = ([values[0] for values in runs[side, "default"].values()] for side in ["evenkeel", "torch"])
error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
print(f"default, evenkeel minus torch: {statistics.mean(a) - statistics.mean(b):+.2f} points, standard error {error:.2f}")
