"""The table of an ablation's folder, and plot.svg and results.csv in the experiment's. Standard library only.

    arms.py ABLATION EXPERIMENT TITLE
"""
import json
import shutil
import sys
from pathlib import Path

from forest import forest

ablation, experiment, title = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
comparison = json.loads((ablation / "comparison.json").read_text())
baseline = comparison["arms"][0]["name"]
print(f"| arm | test accuracy, % | 95 % interval | minus {baseline}, points | 95 % interval | p, corrected | gap, points | test loss |")
print("|---|---|---|---|---|---|---|---|")
rows = []
for arm in comparison["arms"]:
    accuracy, difference = arm["test_accuracy"], arm["difference"]
    ends = [100 * accuracy["interval"][end] for end in ["low", "high"]]
    cells = ["baseline", "", ""]
    if difference:
        mean = 100 * difference["accuracy"]["value"]
        low, high = (100 * difference["accuracy"]["interval"][end] for end in ["low", "high"])
        rows.append((arm["name"], mean, low, high))
        cells = [f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{p:.3f}" if (p := difference["corrected"]) >= 1e-3 else "< 0.001"]
    print(f"| {arm['name']} | {100 * accuracy['value']:.2f} | {ends[0]:.2f} to {ends[1]:.2f} | {' | '.join(cells)} "
          f"| {100 * arm['gap']['value']:.2f} | {arm['test_loss']['value']:.3f} |")
forest(experiment / "plot.svg", title, f"minus {baseline}, points; mean and 95 % interval over seeds", rows)
shutil.copy(ablation / "comparison.csv", experiment / "results.csv")
