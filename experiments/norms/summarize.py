"""Norms, rates, starts and activations: results.csv, plot.svg and the table. Standard library only."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from curves import curves  # noqa: E402
from runs import arms, interval, keep, lines, percent, told  # noqa: E402

# Training loss that is to be reached, as the mean of so many batches.
TARGET, WINDOW = 0.65, 20


def reached(run):
    """Steps until the target; none where the training does not reach it."""
    losses = [line["loss"] for line in lines(run, "step")]
    for end in range(WINDOW, len(losses) + 1):
        if sum(losses[end - WINDOW : end]) / WINDOW < TARGET:
            return end
    return None


folder, here = Path(sys.argv[1]), Path(sys.argv[2])
series = []
print(f"| arm | test accuracy, % | 95 % interval | steps to a training loss of {TARGET} | seeds that reach it |")
print("|---|---|---|---|---|")
for arm, runs in arms(folder):
    steps = [step for step in map(reached, runs) if step is not None]
    mean = f"{sum(steps) / len(steps):.0f}" if steps else "–"
    accuracy = told(*percent(arm["test_accuracy"])) if len(runs) > 1 else "diverged | "
    print(f"| {arm['name']} | {accuracy} | {mean} | {len(steps)} of {len(runs) + len(arm['failures'])} |")
    if arm["name"].startswith(("batch norm, rate", "no norm, rate")) and len(runs) > 1:
        epochs = zip(*(lines(run, "epoch") for run in runs))
        points = [(epoch[0]["step"], *interval([100 * line["test_accuracy"] for line in epoch])) for epoch in epochs]
        series.append((arm["name"], points))
curves(here / "plot.svg", "With batch norm and without, at three rates", "steps", "test accuracy, %; mean and 95 % interval", series)
keep(folder, here)
