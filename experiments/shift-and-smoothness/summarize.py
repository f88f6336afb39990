"""Shifts and smoothness by norm: results.csv, plot.svg and the table. Standard library only."""
import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from curves import curves  # noqa: E402
from runs import arms, interval, probed, told  # noqa: E402

folder, here = Path(sys.argv[1]), Path(sys.argv[2])
rows = [["instrument", "trained with", "reading", "seed", "value"]]
found = {}
smoothness = {}
for arm, runs in arms(folder):
    names = ["covariate-shift"] + (["internal-shift", "landscape"] if arm["name"] == "batch norm" else [])
    for seed, run in zip(arm["seeds"], runs):
        for name in names:
            instrument = probed(run, name)
            for reading in instrument["readings"]:
                rows.append([name, arm["name"], reading["of"], seed, reading["value"]])
                found.setdefault((name, arm["name"], reading["of"]), []).append(reading["value"])
            if name == "landscape":
                figure = next(one for one in instrument["figures"] if one["title"] == "Effective smoothness")
                for curve in figure["curves"]:
                    for point in curve["points"]:
                        smoothness.setdefault(curve["name"], {}).setdefault(point["x"], []).append(point["y"])
# The mean over layers of a seed, of what is told by layer.
norms = list(smoothness)
print("| norm | loss variation | 95 % interval | gradient predictiveness | 95 % interval | effective smoothness | 95 % interval | internal shift | 95 % interval | cosine | 95 % interval |")
print("|---|---|---|---|---|---|---|---|---|---|---|")
for norm in norms:
    cells = [found["landscape", "batch norm", f"{norm}: {what}"] for what in ["loss variation", "gradient predictiveness", "effective smoothness"]]
    for what in ["change of the gradient", "cosine"]:
        layers = [values for (name, _, of), values in found.items() if name == "internal-shift" and of.startswith(f"{norm}, ") and of.endswith(what)]
        cells.append([sum(values) / len(values) for values in zip(*layers)])
    print(f"| {norm} | " + " | ".join(told(*interval(values)) for values in cells) + " |")
print()
print("| trained with | layer | shift of the means from training to test, deviations | 95 % interval | ratio of the variances | 95 % interval |")
print("|---|---|---|---|---|---|")
for (name, norm, of), values in found.items():
    if name == "covariate-shift" and of.endswith("shift of the means"):
        layer = of.split(":")[0]
        ratios = found[name, norm, f"{layer}: ratio of the variances"]
        print(f"| {norm} | {layer} | {told(*interval(values), 3)} | {told(*interval(ratios), 3)} |")
series = [(norm, [(int(step), *interval(values)) for step, values in sorted(points.items())]) for norm, points in smoothness.items()]
curves(here / "plot.svg", "Effective smoothness along the gradient, by norm", "steps of training", "change of the gradient / distance", series, from_zero=True)
with (here / "results.csv").open("w", newline="") as file:
    csv.writer(file).writerows(rows)
