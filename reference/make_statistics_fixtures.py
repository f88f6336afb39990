"""Writes what SciPy and statsmodels compute for evenkeel-statistics into fixtures/statistics.json."""
import json
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(0)
CONFIDENCES = [0.9, 0.95, 0.999]


def numbers(values):
    return [float(value) for value in values]


def wilson():
    for successes, trials in [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (8994, 10000), (9999, 10000), (1, 60000)]:
        for confidence in CONFIDENCES:
            low, high = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
            yield {"successes": successes, "trials": trials, "confidence": confidence, "interval": numbers([low, high])}


def samples():
    for values in [
        [0.894, 0.8961],
        [0.8994, 0.9003, 0.8991, 0.8983, 0.9001],
        numbers(rng.normal(-3, 2, 30)),
        numbers(rng.exponential(1e6, 400)),
    ]:
        for confidence in CONFIDENCES:
            interval = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
            yield {
                "values": values,
                "confidence": confidence,
                "mean": float(np.mean(values)),
                "deviation": float(np.std(values, ddof=1)),
                "interval": numbers(interval),
            }


def paired():
    for count, shift in [(2, 0.1), (5, 0.0), (5, 2.0), (10, 0.5), (40, -3.0), (300, 1.0)]:
        baseline = rng.normal(0, 1, count)
        other = baseline + rng.normal(shift, 1, count)
        result = stats.ttest_rel(other, baseline)
        interval = result.confidence_interval(0.95)
        yield {
            "baseline": numbers(baseline),
            "other": numbers(other),
            "mean": float(np.mean(other - baseline)),
            "p_value": float(result.pvalue),
            "interval": numbers([interval.low, interval.high]),
        }


def discordant():
    for fixed, broken in [(0, 0), (1, 0), (0, 5), (5, 5), (12, 3), (40, 71), (500, 431), (2000, 1600)]:
        p = mcnemar([[0, broken], [fixed, 0]], exact=True).pvalue
        yield {"fixed": fixed, "broken": broken, "p_value": float(p)}


def holm():
    for p_values in [[0.03], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], numbers(rng.uniform(0, 0.1, 12))]:
        yield {"p_values": p_values, "corrected": numbers(multipletests(p_values, method="holm")[1])}


def bootstrap():
    """BCa intervals, and how far the ends of one with as many resamples lie from those of many (a deviation)."""
    cases = {
        "mean": (rng.exponential(1, 40), np.mean),
        "deviation": (rng.normal(0, 1, 60), lambda x, axis=-1: np.std(x, axis=axis, ddof=1)),
        "median": (rng.normal(5, 2, 51), np.median),
    }
    for name, (values, statistic) in cases.items():
        def ends(resamples, seed):
            interval = stats.bootstrap(
                (values,), statistic, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)
            ).confidence_interval
            return numbers([interval.low, interval.high])

        spread = np.std([ends(20_000, seed) for seed in range(30)], axis=0, ddof=1)
        yield {"statistic": name, "values": numbers(values), "interval": ends(500_000, 1), "spread": numbers(spread)}


fixtures = {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__}
for make in [wilson, samples, paired, discordant, holm, bootstrap]:
    fixtures[make.__name__] = list(make())
lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in fixtures.items())
(Path(__file__).resolve().parent / "fixtures/statistics.json").write_text(f"{{{lines}}}\n")
