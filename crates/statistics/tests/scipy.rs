//! The same as SciPy and statsmodels.

use evenkeel_statistics::{Bootstrap, Discordant, Paired, Sample, bootstrap, holm, wilson};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    wilson: Vec<WilsonCase>,
    samples: Vec<SampleCase>,
    paired: Vec<PairedCase>,
    discordant: Vec<DiscordantCase>,
    holm: Vec<HolmCase>,
    bootstrap: Vec<BootstrapCase>,
}

#[derive(Deserialize)]
struct WilsonCase {
    successes: u64,
    trials: u64,
    confidence: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct SampleCase {
    values: Vec<f64>,
    confidence: f64,
    mean: f64,
    deviation: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct PairedCase {
    baseline: Vec<f64>,
    other: Vec<f64>,
    mean: f64,
    p_value: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct DiscordantCase {
    fixed: u64,
    broken: u64,
    p_value: f64,
}

#[derive(Deserialize)]
struct HolmCase {
    p_values: Vec<f64>,
    corrected: Vec<f64>,
}

#[derive(Deserialize)]
struct BootstrapCase {
    statistic: String,
    values: Vec<f64>,
    interval: [f64; 2],
    spread: [f64; 2],
}

fn fixtures() -> Fixtures {
    let text = include_str!("../../../reference/fixtures/statistics.json");
    serde_json::from_str(text).unwrap()
}

/// Equal but for the last digits of the special functions.
fn assert_near(found: f64, expected: f64) {
    let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1e-12);
    assert!(near, "{found}, expected {expected}");
}

#[test]
fn shares() {
    for case in fixtures().wilson {
        let found = wilson(case.successes, case.trials, case.confidence);
        // statsmodels leaves rounding at the ends that are 0 and 1.
        for (found, expected) in [found.low, found.high].into_iter().zip(case.interval) {
            assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        }
    }
}

#[test]
fn means() {
    for case in fixtures().samples {
        let sample = Sample::of(&case.values).unwrap();
        assert_near(sample.mean, case.mean);
        assert_near(sample.deviation.unwrap(), case.deviation);
        let interval = sample.interval(case.confidence).unwrap();
        assert_near(interval.low, case.interval[0]);
        assert_near(interval.high, case.interval[1]);
    }
}

#[test]
fn pairs_of_runs() {
    for case in fixtures().paired {
        let paired = Paired::of(&case.baseline, &case.other).unwrap();
        assert_near(paired.mean(), case.mean);
        assert_near(paired.p_value().unwrap(), case.p_value);
        let interval = paired.interval(0.95).unwrap();
        assert_near(interval.low, case.interval[0]);
        assert_near(interval.high, case.interval[1]);
    }
}

#[test]
fn pairs_of_predictions() {
    for case in fixtures().discordant {
        let counts = Discordant {
            fixed: case.fixed,
            broken: case.broken,
            examples: 10_000,
        };
        assert_near(counts.p_value(), case.p_value);
    }
}

#[test]
fn corrections() {
    for case in fixtures().holm {
        let p_values: Vec<_> = case.p_values.iter().copied().map(Some).collect();
        for (found, expected) in holm(&p_values).into_iter().zip(case.corrected) {
            assert_near(found.unwrap(), expected);
        }
    }
}

#[test]
fn resampling() {
    for case in fixtures().bootstrap {
        let options = Bootstrap {
            resamples: 20_000,
            ..Bootstrap::default()
        };
        let interval = bootstrap(case.values.len(), options, |indices| {
            let values: Vec<f64> = indices.iter().map(|&i| case.values[i]).collect();
            match case.statistic.as_str() {
                "mean" => Sample::of(&values).unwrap().mean,
                "deviation" => Sample::of(&values).unwrap().deviation.unwrap(),
                "median" => median(values),
                other => panic!("{other}"),
            }
        });
        let interval = interval.unwrap();
        for ((found, expected), spread) in [interval.low, interval.high]
            .into_iter()
            .zip(case.interval)
            .zip(case.spread)
        {
            // Both are drawn; a median moves in jumps from value to value.
            let room = 4.0 * spread
                + if case.statistic == "median" {
                    1e-2
                } else {
                    0.0
                };
            let name = &case.statistic;
            assert!(
                (found - expected).abs() < room,
                "{name}: {found}, {expected} ± {spread}"
            );
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => 0.5 * (values[half - 1] + values[half]),
        _ => values[half],
    }
}
