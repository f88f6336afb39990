"""Accuracy by batch size and norm: results.csv, plot.svg and the table. Standard library only."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from curves import curves  # noqa: E402
from runs import arms, keep, percent, told  # noqa: E402

folder, here = Path(sys.argv[1]), Path(sys.argv[2])
norms = {}
print("| norm | examples a batch | test accuracy, % | 95 % interval | minus batch norm of 128, points | 95 % interval | p, corrected |")
print("|---|---|---|---|---|---|---|")
for arm, _ in arms(folder):
    norm, size = arm["name"].split(", ")
    accuracy = percent(arm["test_accuracy"])
    norms.setdefault(norm, []).append((int(size), *accuracy))
    difference = arm["difference"]
    against = "baseline | | "
    if difference:
        p = difference["corrected"]
        against = f"{told(*percent(difference['accuracy']))} | {f'{p:.3f}' if p >= 1e-3 else '< 0.001'}"
    print(f"| {norm} | {size} | {told(*accuracy)} | {against} |")
series = [(norm, sorted(points)) for norm, points in norms.items()]
curves(here / "plot.svg", "Norms by batch size, 20,000 images each", "examples a batch", "test accuracy, %; mean and 95 % interval", series, logarithmic=True)
keep(folder, here)
