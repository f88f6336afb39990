"""What an ablation's folder holds, for summaries. Standard library only."""
import json
import shutil
from pathlib import Path

from forest import interval


def slug(name):
    """As `evenkeel ablate` names folders."""
    parts = "".join(c if c.isalnum() else " " for c in name).split()
    return "-".join(part.lower() for part in parts)


def arms(folder):
    """The arms of a comparison, and the folders of each one's runs in the order of the seeds."""
    folder = Path(folder)
    found = json.loads((folder / "comparison.json").read_text())["arms"]
    return [(arm, [folder / "runs" / f"{slug(arm['name'])}-seed-{seed}" for seed in arm["seeds"]]) for arm in found]


def lines(run, kind):
    """A run's metrics of a kind, `step` or `epoch`."""
    every = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in every if line["kind"] == kind]


def probed(run, instrument):
    """What an instrument measured of a run."""
    found = json.loads((run / "probe.json").read_text())["instruments"]
    return next(one for one in found if one["name"] == instrument)


def percent(accuracy):
    """An estimate's mean and interval, in percent."""
    return tuple(100 * value for value in (accuracy["value"], accuracy["interval"]["low"], accuracy["interval"]["high"]))


def told(mean, low, high, digits=2):
    return f"{mean:.{digits}f} | {low:.{digits}f} to {high:.{digits}f}".replace("-", "−")


def keep(folder, experiment, name="results.csv"):
    shutil.copy(Path(folder) / "comparison.csv", Path(experiment) / name)


__all__ = ["arms", "interval", "keep", "lines", "percent", "probed", "slug", "told"]
