//! Average pooling against its definition, and its gradient.

mod support;

use evenkeel_kernels::{AvgPool, Float, Planes, Window, avg_pool, avg_pool_backward, reference};
use support::{assert_close, bits, to_f64, unit, values, with_pools};

/// Of every class: none, one, odd sizes, rests that no window covers, overlap, gaps, padding, many images; each
/// with padding counted and not.
fn cases() -> Vec<(Planes, AvgPool)> {
    let cases = [
        ([0, 4, 4], [2, 2], [2, 2], [0, 0]),
        ([1, 1, 1], [1, 1], [1, 1], [0, 0]),
        ([5, 7, 9], [2, 2], [2, 2], [0, 0]),
        ([300, 14, 14], [2, 2], [2, 2], [0, 0]),
        ([3, 9, 11], [3, 3], [2, 2], [1, 1]),
        ([2, 33, 70], [3, 3], [1, 1], [1, 1]),
        ([3, 12, 17], [2, 3], [4, 5], [0, 1]),
        ([3, 5, 40], [5, 7], [3, 1], [2, 3]),
        ([2, 1, 1], [3, 3], [2, 2], [1, 1]),
        ([2, 20, 18], [16, 16], [1, 2], [8, 8]),
    ];
    let cases = cases
        .into_iter()
        .flat_map(|([count, height, width], size, stride, padding)| {
            [true, false].map(|count_padding| {
                let planes = Planes {
                    count,
                    height,
                    width,
                };
                let window = Window {
                    size,
                    stride,
                    padding,
                };
                let pool = AvgPool {
                    window,
                    count_padding,
                };
                (planes, pool)
            })
        });
    cases.collect()
}

fn check<T: Float>(planes: Planes, pool: AvgPool) {
    let what = format!("{planes:?} {pool:?}");
    let x: Vec<T> = values(1, planes.count * planes.height * planes.width);
    let expected = reference::avg_pool(&to_f64(&x), planes, pool);
    let y = avg_pool(&x, planes, pool);
    assert_close(&what, &y, &expected, |_| 256.0 * unit::<T>());
    let dy: Vec<T> = values(2, y.len());
    let expected = reference::avg_pool_backward(&to_f64(&dy), planes, pool);
    let dx = avg_pool_backward(&dy, planes, pool);
    assert_close(&what, &dx, &expected, |_| 256.0 * unit::<T>());
    with_pools(|| {
        [
            bits(&avg_pool(&x, planes, pool)),
            bits(&avg_pool_backward(&dy, planes, pool)),
        ]
        .concat()
    });
}

#[test]
fn matches_the_definition_with_any_threads() {
    for (planes, pool) in cases() {
        check::<f32>(planes, pool);
        check::<f64>(planes, pool);
    }
}

#[test]
fn by_hand() {
    let planes = Planes {
        count: 1,
        height: 2,
        width: 2,
    };
    let window = Window {
        size: [2, 2],
        stride: [2, 2],
        padding: [1, 1],
    };
    let x = [1.0, 2.0, 3.0, 4.0];
    let pool = |count_padding| AvgPool {
        window,
        count_padding,
    };
    assert_eq!(avg_pool(&x, planes, pool(false)), x);
    assert_eq!(avg_pool(&x, planes, pool(true)), [0.25, 0.5, 0.75, 1.0]);
}

#[test]
#[should_panic(expected = "avg_pool: a window of 2×2 does not fit images of 1×1")]
fn windows_that_do_not_fit_are_refused() {
    let (_, pool) = cases()[4];
    let planes = Planes {
        count: 1,
        height: 1,
        width: 1,
    };
    avg_pool(&[0.0_f32], planes, pool);
}
