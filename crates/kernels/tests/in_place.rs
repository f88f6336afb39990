//! An output that is written over an input given away is, bit for bit, that which is written beside it.

mod support;

use std::borrow::Cow;

use evenkeel_kernels::{
    Activation, Affine, Branch, DropBlock, Dropout, Factors, Float, GaussianDropout, Gradients,
    RowNorm, RowStatistics, Rows, Scaling, Shares, add_activated, add_activated_backward,
    batch_norm_apply, batch_norm_apply_backward, batch_norm_gradient_of_sums,
    batch_norm_train_backward, channel_gradient_sums, dropout, dropout_add, dropout_around, mix,
    multiply, row_norm_backward, share,
};
use evenkeel_random::Key;
use support::{bits, shapes, values};

const KEY: Key = Key::from_seed(42);

/// Asserts it of what `work` makes of `x`, its first vector being the output; and that the memory is that of the input.
fn check<T: Float, const K: usize>(
    what: &str,
    x: &[T],
    work: impl Fn(Cow<'_, [T]>) -> [Vec<T>; K],
) {
    let beside = work(Cow::Borrowed(x));
    let given = x.to_vec();
    let place = given.as_ptr();
    let over = work(Cow::Owned(given));
    for (over, beside) in over.iter().zip(&beside) {
        assert_eq!(bits(over), bits(beside), "{what}");
    }
    assert!(
        x.is_empty() || over[0].as_ptr() == place,
        "{what}: a new buffer"
    );
}

fn all<T>(gradients: Gradients<T>) -> [Vec<T>; 3] {
    [gradients.input, gradients.scale, gradients.shift]
}

fn norms<T: Float>() {
    for shape in shapes() {
        let (c, count) = (shape.c, shape.count() as f64);
        let [x, dy]: [Vec<T>; 2] = [1, 2].map(|seed| values(seed, shape.len()));
        let [scale, shift, mean]: [Vec<T>; 3] = [3, 4, 5].map(|seed| values(seed, c));
        let r: Vec<T> = (0..c).map(|i| T::from_f64(0.5 + (i % 7) as f64)).collect();
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        for activation in [Activation::None, Activation::Relu] {
            for affine in [None, Some(affine)] {
                let what = format!("{shape:?} {activation:?}");
                check(&what, &x, |x| {
                    [batch_norm_apply(x, shape, &mean, &r, affine, activation)]
                });
                check(&what, &dy, |dy| {
                    all(batch_norm_train_backward(
                        &x, dy, shape, &mean, &r, affine, activation,
                    ))
                });
                check(&what, &dy, |dy| {
                    all(batch_norm_apply_backward(
                        &x, dy, shape, &mean, &r, affine, activation,
                    ))
                });
                let sums = channel_gradient_sums(&x, &dy, shape, &mean, &r, affine, activation);
                check(&what, &dy, |dy| {
                    [batch_norm_gradient_of_sums(
                        &x, dy, shape, &mean, &r, affine, activation, &sums, count,
                    )]
                });
            }
            for groups in [1, c] {
                let rows = Rows {
                    examples: shape.n,
                    groups,
                    channels: c / groups.max(1),
                    positions: shape.s,
                };
                let norm = RowNorm {
                    shape: rows,
                    statistics: RowStatistics::Deviation,
                    epsilon: 1e-5,
                    activation,
                };
                let [mean, r] = [6, 7].map(|seed| values(seed, rows.count()));
                let what = format!("{norm:?}");
                check(&what, &dy, |dy| {
                    all(row_norm_backward(&x, dy, &mean, &r, affine, &norm))
                });
            }
        }
    }
}

fn noise<T: Float>() {
    for shape in shapes() {
        let [x, other]: [Vec<T>; 2] = [1, 2].map(|seed| values(seed, shape.len()));
        let what = format!("{shape:?}");
        let mask = Dropout::new(KEY, 0.3, Scaling::Inverted);
        for (mask, offset) in [(mask, 0), (mask, 3), (mask.over_runs_of(shape.s), 5)] {
            check(&what, &x, |x| [dropout(x, &mask, offset)]);
            check(&what, &x, |x| [dropout_add(x, &other, &mask)]);
            check(&what, &x, |x| [dropout_around(x, &mask, -1.7, 0.4)]);
        }
        let factors = [
            Factors::Gaussian(GaussianDropout::new(KEY, 0.5)),
            Factors::Blocks(DropBlock::new(KEY, 0.2, 3, [shape.s, 1])),
        ];
        for factors in factors {
            check(&what, &x, |x| [multiply(x, &factors)]);
        }
        let shares = Shares::new(KEY, shape.c * shape.s);
        check(&what, &x, |x| [mix(x, &other, &shares)]);
        for branch in [Branch::First, Branch::Second] {
            check(&what, &x, |x| [share(x, branch, &shares)]);
        }
        for activation in [Activation::None, Activation::Relu] {
            check(&what, &x, |x| [add_activated(x, &other, activation)]);
            check(&what, &x, |x| {
                [add_activated_backward(x, &other, activation)]
            });
        }
    }
}

#[test]
fn norms_in_place() {
    norms::<f32>();
    norms::<f64>();
}

#[test]
fn noise_in_place() {
    noise::<f32>();
    noise::<f64>();
}
