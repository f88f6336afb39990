//! Masks over runs, normal numbers, blocks, shares and masked connections: their definitions, their
//! statistics, and their independence of how work is divided.

mod support;

use evenkeel_kernels::{
    Branch, DropBlock, DropConnect, Dropout, Factors, GaussianDropout, Scaling, Shares, drop_block,
    drop_connect, drop_connect_input_gradient, drop_connect_weight_gradient, dropout, dropout_add,
    dropout_around, gaussian_dropout, keeps, mix, multiply, normals, reference, share,
};
use evenkeel_random::Key;
use proptest::prelude::*;
use support::{assert_close, bits, shapes, to_f64, unit, values, with_pools};

const KEY: Key = Key::from_seed(42);

fn inverted(prob: f64) -> Dropout {
    Dropout::new(KEY, prob, Scaling::Inverted)
}

/// Σ (found − expected)² / expected.
fn chi_squared(found: &[u64], expected: &[f64]) -> f64 {
    let terms = found.iter().zip(expected);
    terms
        .map(|(&found, expected)| (found as f64 - expected).powi(2) / expected)
        .sum()
}

// Masks over runs.

#[test]
fn runs_match_the_definition_on_all_shapes() {
    for shape in shapes() {
        let len = shape.n * shape.c * shape.s;
        for run in [shape.s, shape.c * shape.s, 3] {
            for (prob, offset) in [(0.0, 0), (0.3, 0), (0.9, 12_345)] {
                let mask = inverted(prob).over_runs_of(run);
                let kept = 1.0 / (1.0 - prob);
                let x: Vec<f64> = values(1, len);
                let expected = reference::dropout(&x, &mask, kept, offset);
                assert_eq!(dropout(&x, &mask, offset), expected, "{shape:?} {run}");
                let x: Vec<f32> = values(1, len);
                let expected = reference::dropout(&to_f64(&x), &mask, kept, offset);
                assert_close("y", &dropout(&x, &mask, offset), &expected, |_| {
                    4.0 * unit::<f32>() * kept
                });
            }
        }
    }
}

/// So all that is known of the mask of elements is known of the mask of runs: each of its elements,
/// which are channels or examples, is kept independently with the probability.
#[test]
fn a_mask_of_runs_is_the_mask_of_elements_repeated() {
    let ones = vec![1.0_f32; 7000];
    let elements = dropout(&ones, &inverted(0.4), 0);
    for run in [2, 7, 128, 1000] {
        let runs = dropout(&ones, &inverted(0.4).over_runs_of(run), 0);
        assert!((0..7000).all(|i| runs[i] == elements[i / run]));
    }
    let of_one = dropout(&ones, &inverted(0.4).over_runs_of(1), 0);
    assert_eq!(of_one, elements);
}

#[test]
fn the_residual_is_added_to_the_product() {
    for shape in shapes() {
        let len = shape.n * shape.c * shape.s;
        let (x, residual): (Vec<f32>, Vec<f32>) = (values(1, len), values(2, len));
        for run in [1, shape.s, shape.c * shape.s] {
            let mask = inverted(0.25).over_runs_of(run);
            let product = dropout(&x, &mask, 0);
            let sum: Vec<f32> = residual.iter().zip(product).map(|(r, y)| r + y).collect();
            let found = dropout_add(&x, &residual, &mask);
            assert_eq!(bits(&found), bits(&sum), "{shape:?} {run}");
            let (x, residual) = (to_f64(&x), to_f64(&residual));
            let expected = reference::dropout_add(&x, &residual, &mask, 1.0 / 0.75);
            assert_close("f64", &dropout_add(&x, &residual, &mask), &expected, |_| {
                0.0
            });
        }
    }
}

#[test]
fn masks_around_a_value_match_the_definition() {
    for shape in shapes() {
        let len = shape.n * shape.c * shape.s;
        let mask = inverted(0.25).with_kept(1.1);
        let x: Vec<f64> = values(1, len);
        let expected = reference::dropout_around(&x, &mask, 1.1, -1.7, 0.4);
        assert_eq!(dropout_around(&x, &mask, -1.7, 0.4), expected, "{shape:?}");
        let x: Vec<f32> = values(1, len);
        let expected = reference::dropout_around(&to_f64(&x), &mask, 1.1, -1.7, 0.4);
        let near = |_| 16.0 * unit::<f32>();
        assert_close("y", &dropout_around(&x, &mask, -1.7, 0.4), &expected, near);
    }
}

#[test]
#[should_panic(expected = "residual: as long as x")]
fn a_residual_of_another_length_is_refused() {
    dropout_add(&[1.0_f32; 3], &[1.0], &inverted(0.5));
}

proptest! {
    #[test]
    fn parts_of_runs_make_the_whole(
        len in 0..1000_usize, cut in 0..1000_usize, offset: u32, run in 1..300_usize, prob in 0.0..=1.0_f64
    ) {
        let cut = cut.min(len);
        let x: Vec<f32> = values(3, len);
        let (mask, offset) = (inverted(prob).over_runs_of(run), u64::from(offset));
        let mut parts = dropout(&x[..cut], &mask, offset);
        parts.extend(dropout(&x[cut..], &mask, offset + cut as u64));
        prop_assert_eq!(bits(&parts), bits(&dropout(&x, &mask, offset)));
    }

    #[test]
    fn runs_are_whole(run in 1..300_usize, prob in 0.0..=1.0_f64) {
        let mask = inverted(prob).over_runs_of(run);
        for (i, y) in dropout(&[1.0_f64; 900], &mask, 0).into_iter().enumerate() {
            prop_assert_eq!(y != 0.0, keeps(&mask, i as u64));
            prop_assert_eq!(keeps(&mask, i as u64), keeps(&mask, (i / run * run) as u64));
        }
    }
}

// Normal numbers.

#[test]
fn normals_match_the_definition() {
    for count in [0, 1, 2, 127, 128, 129, 70_001] {
        for key in [KEY, KEY.at(3)] {
            let expected = reference::normals(key, count);
            let found = normals(key, count);
            assert_close("z", &found, &expected, |i| 4e-7 * (1.0 + expected[i].abs()));
        }
    }
}

/// Pins the numbers: block 0 of key 0 is Random123's 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
#[test]
fn normals_are_pinned() {
    let by_hand = |first: u32, second: u32| {
        let u = (f64::from(first >> 9) + 0.5) / f64::from(1 << 23);
        let angle = std::f64::consts::TAU * f64::from(second >> 8) / f64::from(1 << 24);
        let radius = (-2.0 * u.ln()).sqrt();
        [radius * angle.cos(), radius * angle.sin()]
    };
    let [a, b] = by_hand(0x6627_e8d5, 0xe169_c58d);
    let [c, d] = by_hand(0xbc57_ac4c, 0x9b00_dbd8);
    let found = normals(Key::from_seed(0), 4);
    assert_close("z", &found, &[a, b, c, d], |_| 1e-6);
    let bits = found.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits, PINNED_NORMALS);
}

const PINNED_NORMALS: [u32; 4] = [0x3F7D_BB2F, 0xBF6C_B6B3, 0xBF1E_1BA1, 0xBEF6_D1A9];

/// The octiles of the normal distribution.
const OCTILES: [f32; 7] = [
    -1.150_349_4,
    -0.674_489_75,
    -0.318_639_36,
    0.0,
    0.318_639_36,
    0.674_489_75,
    1.150_349_4,
];

/// Each number in its octile, and each pair (of one radius; of neighbouring pairs) in its 64 cells.
#[test]
fn normals_are_normal_and_independent() {
    let octile = |z: f32| OCTILES.iter().filter(|edge| z > **edge).count();
    let z = normals(KEY, 400_000);
    for distance in [1, 2, 3, 128] {
        let mut counts = [0_u64; 64];
        let pairs = (0..z.len() - distance).step_by(2);
        for i in pairs.clone() {
            counts[8 * octile(z[i]) + octile(z[i + distance])] += 1;
        }
        let expected = [pairs.len() as f64 / 64.0; 64];
        // 63 degrees of freedom exceed 103.4 once in a thousand; the seed is fixed.
        let chi = chi_squared(&counts, &expected);
        assert!(chi < 103.4, "distance {distance}: {chi}");
    }
    let moment = |power: i32| z.iter().map(|&z| f64::from(z).powi(power)).sum::<f64>() / 4e5;
    // Five standard errors: those of z, z², z³, z⁴ are 1, √2, √15 and √96 over √n.
    for (power, expected, variance) in [
        (1, 0.0, 1.0),
        (2, 1.0, 2.0),
        (3, 0.0, 15.0),
        (4, 3.0, 96.0_f64),
    ] {
        let error = (moment(power) - expected).abs();
        assert!(error < 5.0 * (variance / 4e5).sqrt(), "{power}: {error}");
    }
}

#[test]
fn gaussian_dropout_matches_the_definition() {
    for shape in shapes() {
        let len = shape.n * shape.c * shape.s;
        for deviation in [0.0, 0.5, 3.0] {
            let noise = GaussianDropout::new(KEY, deviation);
            let x: Vec<f32> = values(1, len);
            let expected = reference::gaussian_dropout(&to_f64(&x), KEY, deviation);
            let near = |_: usize| 1e-5 * (1.0 + deviation);
            assert_close("f32", &gaussian_dropout(&x, &noise), &expected, near);
            let x = to_f64(&x);
            assert_close("f64", &gaussian_dropout(&x, &noise), &expected, near);
        }
    }
}

#[test]
#[should_panic(expected = "deviation: expected a finite number not below 0, got inf")]
fn an_infinite_deviation_is_refused() {
    GaussianDropout::new(KEY, f64::INFINITY);
}

// Blocks.

#[test]
fn blocks_match_the_definition() {
    for [planes, height, width] in [
        [0, 3, 3],
        [3, 0, 5],
        [3, 5, 0],
        [1, 1, 1],
        [4, 7, 5],
        [2, 1, 200],
        [2, 200, 1],
        [3, 14, 130],
        [70, 28, 28],
        [2, 190, 181],
    ] {
        for (block_size, prob) in [(1, 0.3), (3, 0.2), (7, 0.1), (7, 1.0), (20, 0.6), (3, 0.0)] {
            let blocks = DropBlock::new(KEY, prob, block_size, [height, width]);
            let x: Vec<f64> = values(1, planes * height * width);
            let what = format!("{planes}×{height}×{width}, {block_size}, {prob}");
            let expected = reference::drop_block(&x, &blocks);
            assert_close(&what, &drop_block(&x, &blocks), &expected, |_| 0.0);
            let x: Vec<f32> = values(1, x.len());
            let expected = reference::drop_block(&to_f64(&x), &blocks);
            assert_close(&what, &drop_block(&x, &blocks), &expected, |i| {
                4.0 * unit::<f32>() * expected[i].abs()
            });
        }
    }
}

#[test]
fn blocks_drop_nothing_at_zero_and_all_at_one() {
    let x: Vec<f32> = values(1, 8 * 49);
    for block_size in [1, 3, 7, 50] {
        let blocks = |prob| DropBlock::new(KEY, prob, block_size, [7, 7]);
        assert_eq!(drop_block(&x, &blocks(0.0)), x);
        assert!(drop_block(&x, &blocks(1.0)).iter().all(|&y| y == 0.0));
    }
}

/// What is kept is scaled so that the mean over the tensor stays.
#[test]
fn blocks_keep_the_mean_of_a_constant() {
    for (block_size, prob) in [(1, 0.5), (5, 0.1), (7, 0.4)] {
        let blocks = DropBlock::new(KEY, prob, block_size, [14, 14]);
        let y = drop_block(vec![1.0_f64; 64 * 196], &blocks);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
        assert!(y.contains(&0.0));
    }
}

/// A block begins at each valid place with probability γ, as many as the binomial distribution says;
/// and for small p about a share p is dropped.
#[test]
fn blocks_drop_the_share() {
    let planes = 4000;
    let [height, width] = [12, 10];
    let (block_size, prob) = (3, 0.05);
    let blocks = DropBlock::new(KEY, prob, block_size, [height, width]);
    let dropped = reference::dropped_by_blocks(planes * height * width, &blocks);
    let share = dropped.iter().filter(|dropped| **dropped).count() as f64 / dropped.len() as f64;
    // An element of the middle is kept if none of the 9 blocks that cover it begins; at the edges fewer
    // do. The mean over the plane, exactly:
    let gamma = prob / 9.0 * (12.0 * 10.0) / (10.0 * 8.0);
    let covering = |at: usize, side: usize| {
        (0..=side - block_size)
            .filter(|first| (*first..first + block_size).contains(&at))
            .count()
    };
    let kept = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    let kept = kept.map(|(row, column)| {
        f64::powi(
            1.0 - gamma,
            (covering(row, height) * covering(column, width)) as i32,
        )
    });
    let expected = 1.0 - kept.sum::<f64>() / (height * width) as f64;
    assert!(
        (expected - prob).abs() < 0.01,
        "the formula's own error: {expected}"
    );
    // Blocks are independent between planes; 9 elements or so go at once.
    let deviation = (9.0 * prob / dropped.len() as f64).sqrt();
    assert!(
        (share - expected).abs() < 4.0 * deviation,
        "{share}, expected {expected}"
    );
    // Corners are covered by one block only, so they count where blocks begin: γ for each, and
    // independently between neighbouring planes.
    let mut counts = [0_u64; 4];
    for pair in 0..planes / 2 {
        let at = |plane: usize| usize::from(dropped[plane * height * width]);
        counts[2 * at(2 * pair) + at(2 * pair + 1)] += 1;
    }
    let pairs = planes as f64 / 2.0;
    let (drop, keep) = (gamma, 1.0 - gamma);
    let expected = [keep * keep, keep * drop, drop * keep, drop * drop].map(|share| share * pairs);
    // 3 degrees of freedom exceed 16.3 once in a thousand.
    assert!(chi_squared(&counts, &expected) < 16.3, "{counts:?}");
}

#[test]
#[should_panic(expected = "x: expected planes of [3, 3], got 10 elements")]
fn elements_that_make_no_planes_are_refused() {
    drop_block(&[0.0_f32; 10], &DropBlock::new(KEY, 0.5, 2, [3, 3]));
}

#[test]
#[should_panic(expected = "block_size: expected at least 1, got 0")]
fn blocks_of_nothing_are_refused() {
    DropBlock::new(KEY, 0.5, 0, [3, 3]);
}

// Shares.

#[test]
fn shares_match_the_definition() {
    for shape in shapes() {
        let len = shape.n * shape.c * shape.s;
        for run in [1, shape.s, shape.c * shape.s, len] {
            let (first, second): (Vec<f64>, Vec<f64>) = (values(1, len), values(2, len));
            let (shares, run) = (Shares::new(KEY, run), run.max(1));
            let expected = reference::mix(&first, &second, &shares, run);
            assert_eq!(mix(&first, &second, &shares), expected);
            // The parts of a branch are the mix with nothing.
            let nothing = vec![0.0; len];
            let of_first = reference::mix(&first, &nothing, &shares, run);
            assert_eq!(share(&first, Branch::First, &shares), of_first);
            let of_second = reference::mix(&nothing, &second, &shares, run);
            assert_eq!(share(&second, Branch::Second, &shares), of_second);
            let (first, second): (Vec<f32>, Vec<f32>) = (values(1, len), values(2, len));
            let expected = reference::mix(&to_f64(&first), &to_f64(&second), &shares, run);
            let near = |_| 8.0 * unit::<f32>();
            assert_close("y", &mix(&first, &second, &shares), &expected, near);
        }
    }
}

#[test]
fn shares_are_uniform_and_independent() {
    let shares = Shares::new(KEY, 5);
    let mut counts = [0_u64; 64];
    for pair in 0..20_000 {
        let octile = |index| (8.0 * shares.share(index)) as usize;
        counts[8 * octile(2 * pair) + octile(2 * pair + 1)] += 1;
    }
    let chi = chi_squared(&counts, &[20_000.0 / 64.0; 64]);
    // 63 degrees of freedom exceed 103.4 once in a thousand.
    assert!(chi < 103.4, "{chi}");
}

#[test]
#[should_panic(expected = "second: as long as first")]
fn branches_of_two_lengths_are_refused() {
    mix(&[1.0_f32; 3], &[1.0], &Shares::new(KEY, 1));
}

// Masked connections.

fn connections() -> Vec<DropConnect> {
    let sizes = [
        [0, 2, 3, 4],
        [2, 0, 3, 4],
        [2, 2, 0, 4],
        [2, 2, 3, 0],
        [1, 1, 1, 1],
        [5, 1, 7, 3],
        [3, 4, 5, 130],
        [2, 3, 131, 1],
        [6, 1, 64, 257],
    ];
    let of = |[examples, positions, inputs, outputs]: [usize; 4]| DropConnect {
        dropout: inverted(0.4),
        examples,
        positions,
        inputs,
        outputs,
    };
    sizes.map(of).into()
}

#[test]
fn connections_match_the_definition() {
    for connect in connections() {
        let rows = connect.examples * connect.positions;
        let x: Vec<f32> = values(1, rows * connect.inputs);
        let weight: Vec<f32> = values(2, connect.inputs * connect.outputs);
        let dy: Vec<f32> = values(3, rows * connect.outputs);
        let (xs, weights, dys) = (to_f64(&x), to_f64(&weight), to_f64(&dy));
        let kept = 1.0 / 0.6;
        let y = reference::drop_connect(&xs, &weights, &connect, kept);
        let [dx, dweight] = reference::drop_connect_backward(&xs, &weights, &dys, &connect, kept);
        // Terms are at most 4/0.6; their number times a rounding each bounds the error.
        let near = |terms: usize| move |_| 7.0 * unit::<f32>() * (1 + terms) as f64;
        assert_close(
            "y",
            &drop_connect(&x, &weight, &connect),
            &y,
            near(connect.inputs),
        );
        let found = drop_connect_input_gradient(&dy, &weight, &connect);
        assert_close("dx", &found, &dx, near(connect.outputs));
        let found = drop_connect_weight_gradient(&x, &dy, &connect);
        assert_close("dweight", &found, &dweight, near(rows));
        let near = |_| 1e-12;
        assert_close("y", &drop_connect(&xs, &weights, &connect), &y, near);
        let found = drop_connect_input_gradient(&dys, &weights, &connect);
        assert_close("dx", &found, &dx, near);
        let found = drop_connect_weight_gradient(&xs, &dys, &connect);
        assert_close("dweight", &found, &dweight, near);
    }
}

/// With x the unit vectors, the output is the masked weights themselves.
#[test]
fn connections_are_dropped_as_the_mask_says() {
    let (inputs, outputs) = (5, 7);
    for prob in [0.0, 0.5, 1.0] {
        let connect = DropConnect {
            dropout: Dropout::new(KEY, prob, Scaling::Classic),
            examples: 3,
            positions: inputs,
            inputs,
            outputs,
        };
        let unit = |i: usize| f64::from(u8::from(i / inputs % inputs == i % inputs));
        let x: Vec<f64> = (0..3 * inputs * inputs).map(unit).collect();
        let y = drop_connect(&x, &vec![1.0; inputs * outputs], &connect);
        let mask = dropout(vec![1.0; 3 * inputs * outputs], &connect.dropout, 0);
        assert_eq!(y, mask);
    }
}

#[test]
#[should_panic(expected = "weight: of the length that")]
fn weights_of_another_shape_are_refused() {
    let connect = connections().pop().unwrap();
    drop_connect(&vec![0.0_f32; 6 * 64], &[0.0], &connect);
}

// All of them.

#[test]
fn bits_do_not_depend_on_threads() {
    let x: Vec<f32> = values(1, 180 * 1000);
    let residual: Vec<f32> = values(2, x.len());
    let runs = inverted(0.3).over_runs_of(900);
    with_pools(|| bits(&dropout(&x, &runs, 7)));
    with_pools(|| bits(&dropout_add(&x, &residual, &runs)));
    with_pools(|| bits(&dropout_around(&x, &inverted(0.3), -1.5, 0.2)));
    with_pools(|| bits(&normals(KEY, 100_001)));
    with_pools(|| bits(&gaussian_dropout(&x, &GaussianDropout::new(KEY, 1.0))));
    let blocks = DropBlock::new(KEY, 0.2, 7, [40, 45]);
    with_pools(|| bits(&drop_block(&x, &blocks)));
    let shares = Shares::new(KEY, 1000);
    with_pools(|| bits(&mix(&x, &residual, &shares)));
    with_pools(|| bits(&share(&x, Branch::Second, &shares)));
    let connect = DropConnect {
        dropout: inverted(0.5),
        examples: 20,
        positions: 3,
        inputs: 90,
        outputs: 70,
    };
    let (x, weight, dy) = (&x[..60 * 90], &residual[..90 * 70], &residual[..60 * 70]);
    with_pools(|| bits(&drop_connect(x, weight, &connect)));
    with_pools(|| bits(&drop_connect_input_gradient(dy, weight, &connect)));
    with_pools(|| bits(&drop_connect_weight_gradient(x, dy, &connect)));
}

#[test]
fn factors_are_those_of_their_kind() {
    let x: Vec<f32> = values(1, 4 * 81);
    let mask = inverted(0.3);
    let gaussian = GaussianDropout::new(KEY, 1.0);
    let blocks = DropBlock::new(KEY, 0.3, 3, [9, 9]);
    assert_eq!(multiply(&x, &Factors::Dropout(mask)), dropout(&x, &mask, 0));
    assert_eq!(
        multiply(&x, &Factors::Gaussian(gaussian)),
        gaussian_dropout(&x, &gaussian)
    );
    assert_eq!(
        multiply(&x, &Factors::Blocks(blocks)),
        drop_block(&x, &blocks)
    );
}
