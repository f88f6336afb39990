"""Accuracy of random parts of nets with and without dropout: results.csv, plot.svg and the table. Standard library only."""
import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from curves import curves  # noqa: E402
from runs import arms, interval, probed, told  # noqa: E402

folder, here = Path(sys.argv[1]), Path(sys.argv[2])
series, table = [], []
rows = [["dropout", "seed", "share kept", "test accuracy"]]
for arm, runs in arms(folder):
    dropout = arm["name"].split()[1]
    by_share = {}
    halves = []
    for seed, run in zip(arm["seeds"], runs):
        readings = {one["of"]: one["value"] for one in probed(run, "redundancy")["readings"]}
        for of, value in readings.items():
            if of.endswith("of the channels kept"):
                share = int(of.split()[0])
                by_share.setdefault(share, []).append(100 * value)
                rows.append([dropout, seed, share / 100, value])
        halves.append(100 * (readings["best of 12 halves"] - readings["worst of 12 halves"]))
    points = [(share, *interval(values)) for share, values in sorted(by_share.items())]
    series.append((f"dropout {dropout}", points))
    lost = interval([a - b for a, b in zip(by_share[50], by_share[100])])
    table.append((dropout, interval(by_share[100]), interval(by_share[50]), lost, interval(halves)))
print("| dropout | whole net, % | 95 % interval | mean of 12 halves, % | 95 % interval | halves minus whole, points | 95 % interval | best minus worst half, points | 95 % interval |")
print("|---|---|---|---|---|---|---|---|---|")
for dropout, *numbers in table:
    print(f"| {dropout} | " + " | ".join(told(*number) for number in numbers) + " |")
curves(here / "plot.svg", "Random parts of nets trained with and without dropout", "share of the units kept, %", "test accuracy, %; mean and 95 % interval", series)
with (here / "results.csv").open("w", newline="") as file:
    csv.writer(file).writerows(rows)
