"""The differences that averages make, over seeds, as results.csv, a table and plot.svg. Standard library only."""
import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.append(str(here.parent))
from forest import forest, interval  # noqa: E402

found = defaultdict(list)
for line in (Path(sys.argv[1]) / "averages.jsonl").read_text().splitlines():
    result = json.loads(line)
    arm, _, seed = Path(result["run"]).name.rpartition("-seed-")
    found[arm.replace("-", " "), result["tta"]].append((int(seed), result["averaging"]))

with (here / "results.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["trained with", "views", "seed", "forwards", "one view", "average", "fixed", "broken",
                    "one view loss", "average loss", "one view calibration error", "average calibration error"])
    for (arm, views), runs in sorted(found.items()):
        for seed, average in sorted(runs, key=lambda run: run[0]):
            single, mean = average["single"], average["averaged"]
            table.writerow([arm, views, seed, average["forwards"], single["accuracy"]["value"],
                            mean["accuracy"]["value"], average["changes"]["fixed"], average["changes"]["broken"],
                            round(single["loss"]["value"], 5), round(mean["loss"]["value"], 5),
                            round(single["calibration_error"]["value"], 5),
                            round(mean["calibration_error"]["value"], 5)])

print("| trained with | views | forwards | one view, % | average minus one view, points | fixed | broken | loss | calibration error, % |")
print("|---|---|---|---|---|---|---|---|---|")
rows = []
for (arm, views), runs in sorted(found.items()):
    averages = [average for _, average in runs]
    of = lambda key, which: [average[which][key]["value"] for average in averages]
    single = [100 * value for value in of("accuracy", "single")]
    differences = [100 * (b - a) for a, b in zip(of("accuracy", "single"), of("accuracy", "averaged"))]
    mean, low, high = interval(differences)
    rows.append((f"trained with {arm}, average over {views}", mean, low, high))
    count = lambda key: statistics.mean(average["changes"][key] for average in averages)
    print(f"| {arm} | {views} | {averages[0]['forwards']} | {statistics.mean(single):.2f} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) "
          f"| {count('fixed'):.0f} | {count('broken'):.0f} | {statistics.mean(of('loss', 'single')):.3f} → {statistics.mean(of('loss', 'averaged')):.3f} "
          f"| {100 * statistics.mean(of('calibration_error', 'single')):.1f} → {100 * statistics.mean(of('calibration_error', 'averaged')):.1f} |")
forest(here / "plot.svg", "What averages at test do to the accuracy", "average minus one view, points; mean and 95 % interval over seeds", rows)
