"""The comparison's table and plot.svg. Standard library only."""
import json
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.append(str(here.parent))
from forest import forest  # noqa: E402

comparison = json.loads((Path(sys.argv[1]) / "comparison.json").read_text())
print("| arm | test accuracy, % | 95 % interval | minus none, points | 95 % interval | p, corrected | gap, points | test loss |")
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
        cells = [f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{difference['corrected']:.3f}"]
    print(f"| {arm['name']} | {100 * accuracy['value']:.2f} | {ends[0]:.2f} to {ends[1]:.2f} | {' | '.join(cells)} "
          f"| {100 * arm['gap']['value']:.2f} | {arm['test_loss']['value']:.3f} |")
forest(here / "plot.svg", "What each regularizer does to the test accuracy", "minus none, points; mean and 95 % interval over seeds", rows)
