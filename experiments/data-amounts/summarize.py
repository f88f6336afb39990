"""Regularizers by amount of data: results-*.csv, plot.svg and the tables. Standard library only."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from forest import forest  # noqa: E402
from runs import arms, keep, percent, told  # noqa: E402

folder, here = Path(sys.argv[1]), Path(sys.argv[2])
rows = []
print("| images | arm | test accuracy, % | 95 % interval | minus none, points | 95 % interval | p, corrected | gap, points | test loss |")
print("|---|---|---|---|---|---|---|---|---|")
for images in [1000, 5000, 10000]:
    for arm, _ in arms(folder / str(images)):
        difference, against = arm["difference"], "baseline | | "
        if difference:
            mean, low, high = percent(difference["accuracy"])
            p = difference["corrected"]
            against = f"{told(mean, low, high)} | {f'{p:.3f}' if p >= 1e-3 else '< 0.001'}"
            rows.append((f"{images:,}: {arm['name']}", mean, low, high))
        print(f"| {images:,} | {arm['name']} | {told(*percent(arm['test_accuracy']))} | {against} "
              f"| {100 * arm['gap']['value']:.2f} | {arm['test_loss']['value']:.3f} |")
    keep(folder / str(images), here, f"results-{images}.csv")
forest(here / "plot.svg", "Regularizers on 1,000, 5,000 and 10,000 images", "test accuracy minus none, points; mean and 95 % interval over seeds", rows)
