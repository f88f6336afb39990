//! What must hold beside the fixtures: coverage, edges, and what is told of too few values.

use evenkeel_random::Key;
use evenkeel_statistics::{
    Bootstrap, Discordant, Interval, Paired, Sample, bootstrap, holm, wilson,
};

/// How often an interval must hold the truth of `rounds` draws: 95 % less three standard deviations.
fn least(rounds: u64) -> u64 {
    let n = rounds as f64;
    (0.95 * n - 3.0 * (0.95 * 0.05 * n).sqrt()) as u64
}

#[test]
fn intervals_of_a_difference_of_accuracies_hold_it() {
    let rounds = 2000;
    // (fixed, broken) probabilities, and examples: few, many, and hardly any change.
    for (case, (fixed, broken, examples)) in [
        (0.10, 0.05, 100),
        (0.02, 0.03, 1000),
        (0.004, 0.001, 500),
        (0.3, 0.3, 30),
    ]
    .into_iter()
    .enumerate()
    {
        let mut draws = Key::from_seed(case as u64).child("coverage").draws();
        let held = (0..rounds)
            .filter(|_| {
                let pairs = (0..examples).map(|_| match draws.uniform() {
                    u if u < fixed => (false, true),
                    u if u < fixed + broken => (true, false),
                    _ => (true, true),
                });
                Discordant::of(pairs)
                    .interval(0.95)
                    .contains(fixed - broken)
            })
            .count() as u64;
        assert!(
            held >= least(rounds),
            "{fixed}, {broken}: {held} of {rounds}"
        );
        // Nor is it so wide that it says nothing.
        let width = |i: Interval| i.high - i.low;
        let counts = Discordant {
            fixed: (fixed * 1e6) as u64,
            broken: (broken * 1e6) as u64,
            examples: 1_000_000,
        };
        assert!(width(counts.interval(0.95)) < 4e-3);
    }
}

#[test]
fn the_means_interval_holds_it_and_a_true_null_is_rarely_refused() {
    let rounds = 2000;
    let mut draws = Key::from_seed(1).child("coverage").draws();
    let (mut held, mut refused) = (0, 0);
    for _ in 0..rounds {
        let mut five = || -> Vec<f64> { (0..5).map(|_| 3.0 + draws.normal()).collect() };
        let (baseline, other) = (five(), five());
        let sample = Sample::of(&baseline).unwrap();
        held += u64::from(sample.interval(0.95).unwrap().contains(3.0));
        let paired = Paired::of(&baseline, &other).unwrap();
        let p = paired.p_value().unwrap();
        refused += u64::from(p < 0.05);
        // The test and the interval say the same.
        assert_eq!(p < 0.05, !paired.interval(0.95).unwrap().contains(0.0));
    }
    assert!(
        held >= least(rounds) && rounds - refused >= least(rounds),
        "{held}, {refused}"
    );
}

#[test]
fn too_few_values_say_nothing() {
    assert_eq!(Sample::of(&[]), None);
    assert_eq!(Sample::of(&[1.0, f64::NAN]), None);
    let one = Sample::of(&[0.9]).unwrap();
    assert_eq!((one.deviation, one.interval(0.95)), (None, None));
    let one = Paired::of(&[0.9], &[0.8]).unwrap();
    assert_eq!((one.p_value(), one.interval(0.95)), (None, None));
    // Equal differences, but for rounding: their spread is unknown.
    let equal = Paired::of(&[0.1, 0.2, 0.3], &[0.4, 0.5, 0.6]).unwrap();
    assert_eq!(equal.p_value(), None);
    let none = Paired::of(&[0.1, 0.2], &[0.1, 0.2]).unwrap();
    assert_eq!(none.p_value(), None);
    assert_eq!(bootstrap(1, Bootstrap::default(), |_| 1.0), None);
    assert_eq!(bootstrap(5, Bootstrap::default(), |_| f64::NAN), None);
    let whole = Interval {
        low: 0.0,
        high: 1.0,
    };
    assert_eq!(wilson(0, 0, 0.95), whole);
    let nothing = Discordant::default();
    assert_eq!((nothing.difference(), nothing.p_value()), (0.0, 1.0));
    let interval = nothing.interval(0.95);
    assert!(interval.low >= -1.0 && interval.high <= 1.0 && interval.contains(0.0));
}

#[test]
fn holm_leaves_out_what_was_no_test() {
    assert_eq!(
        holm(&[None, Some(0.01), Some(f64::NAN), Some(0.2)]),
        [None, Some(0.02), None, Some(0.2)]
    );
    assert_eq!(holm(&[]), []);
}

#[test]
fn a_bootstrap_is_a_function_of_its_seed() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
    let mean =
        |indices: &[usize]| indices.iter().map(|&i| values[i]).sum::<f64>() / indices.len() as f64;
    let of = |seed| {
        let options = Bootstrap {
            seed,
            ..Bootstrap::default()
        };
        bootstrap(values.len(), options, mean).unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // Of many values, close to the interval of the mean by t.
    let many: Vec<f64> = (0..2000).map(|i| f64::from(i * i % 101)).collect();
    let drawn = bootstrap(many.len(), Bootstrap::default(), |indices| {
        indices.iter().map(|&i| many[i]).sum::<f64>() / indices.len() as f64
    });
    let (drawn, student) = (
        drawn.unwrap(),
        Sample::of(&many).unwrap().interval(0.95).unwrap(),
    );
    assert!((drawn.low - student.low).abs() < 0.2 && (drawn.high - student.high).abs() < 0.2);
    // A statistic that does not vary is known.
    let one = Interval {
        low: 1.0,
        high: 1.0,
    };
    assert_eq!(bootstrap(5, Bootstrap::default(), |_| 1.0), Some(one));
}
