"""Accuracy by rate of masking: plot.svg and the table. Standard library only.

    summarize.py RESULTS
"""
import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from curves import curves  # noqa: E402
from runs import interval, told  # noqa: E402

by_rate = {}
for row in csv.DictReader(Path(sys.argv[1]).open()):
    by_rate.setdefault(float(row["rate"]), {})[row["seed"]] = {key: float(value) for key, value in row.items()}
whole = by_rate[0.0]
test, train = [], []
print("| words masked | test accuracy, % | 95 % interval | minus none, points | 95 % interval | train accuracy, % | test loss | 95 % interval |")
print("|---|---|---|---|---|---|---|---|")
for rate, runs in sorted(by_rate.items()):
    of = lambda key: [run[key] for run in runs.values()]
    accuracy, trained = (interval([100 * value for value in of(key)]) for key in ["test_accuracy", "train_accuracy"])
    difference = [100 * (run["test_accuracy"] - whole[seed]["test_accuracy"]) for seed, run in runs.items()]
    against = told(*interval(difference)) if rate else "baseline | "
    test.append((100 * rate, *accuracy))
    train.append((100 * rate, *trained))
    print(f"| {100 * rate:.0f} % | {told(*accuracy)} | {against} | {trained[0]:.2f} | {told(*interval(of('test_loss')), 3)} |")
curves(Path(__file__).resolve().parent / "plot.svg", "Masked words: genre of a verse by the mean of its words", "words masked in training, %",
       "accuracy, %; mean and 95 % interval", [("test", test), ("training", train)])
