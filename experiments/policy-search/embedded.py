"""The table of both searches on the embedded data, and results.csv and plot.svg. Standard library only.

    embedded.py FOLDER EXPERIMENT
"""

import csv
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from forest import forest

folder, experiment = Path(sys.argv[1]), Path(sys.argv[2])


def arms(method):
    search = json.loads((folder / method / "search.json").read_text())
    return {arm["name"]: arm for arm in search["comparison"]["arms"]}


def told(method):
    return json.loads((folder / f"{method}.json").read_text())


density, grid = arms("density"), arms("grid")
# The arms that both have are the same trainings.
for name in density.keys() & grid.keys() - {"found"}:
    assert density[name]["test_accuracy"] == grid[name]["test_accuracy"], name
rows = {**density, "found": density["found"]} if "found" in density else dict(density)
names = {name: name for name in rows}
if "found" in grid:
    rows["grid"] = grid["found"]
    names["grid"] = "RandAugment, tuned by grid"
names["found"] = "ours: density matching"
accuracies = {key: dict(zip(arm["seeds"], arm["accuracies"])) for key, arm in rows.items()}
baseline = accuracies["no policy"]
costs = {"found": told("density")["seconds"], "grid": told("grid")["seconds"]}

STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 % points


def interval(values):
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    reach = STUDENT[len(values) - 1] * (variance / len(values)) ** 0.5
    return mean, mean - reach, mean + reach


print("| policy | test accuracy, % | minus no policy, points | 95 % interval | search, minutes |")
print("|---|---|---|---|---|")
points, lines = [], []
for key, by_seed in accuracies.items():
    mean = sum(by_seed.values()) / len(by_seed)
    cells, cost = ["baseline", ""], costs.get(key)
    if key != "no policy":
        difference = interval([100 * (by_seed[seed] - baseline[seed]) for seed in baseline])
        points.append((names[key], *difference))
        cells = [f"{difference[0]:+.2f}", f"{difference[1]:+.2f} to {difference[2]:+.2f}"]
    print(f"| {names[key]} | {100 * mean:.2f} | {' | '.join(cells)} | {f'{cost / 60:.1f}' if cost else '–'} |")
    lines += [(names[key], seed, accuracy) for seed, accuracy in sorted(by_seed.items())]
for method in ("density", "grid"):
    about = told(method)
    print(f"{method}: {about['candidates']} candidates, {about['trials']} trials, {about['seconds'] / 60:.1f} minutes; "
          f"a candidate {about['scoring_seconds']:.3f} s, a training {about['training_seconds']:.1f} s; {about['verdict']}")
forest(experiment / "plot.svg", "What each policy does to the test accuracy", "minus no policy, points; mean and 95 % interval over seeds", points)
with open(experiment / "results.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["policy", "seed", "test_accuracy"])
    writer.writerows(lines)
