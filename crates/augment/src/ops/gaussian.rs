//! The Gaussian's weights, and the convolution with them, side by side.
//!
//! Beyond its border the image is mirrored at the border's pixel, which is not repeated, as often as
//! it takes.

use crate::size::Size;

/// Weights in proportion to exp(−d²/2σ²) at d = −radius..=radius, with sum 1.
pub(super) fn kernel(sigma: f64, radius: usize) -> Vec<f32> {
    let distances = (0..=2 * radius).map(|i| i as f64 - radius as f64);
    let heights: Vec<f64> = distances
        .map(|d| (-0.5 * (d / sigma).powi(2)).exp())
        .collect();
    let sum: f64 = heights.iter().sum();
    heights.iter().map(|height| (height / sum) as f32).collect()
}

/// Convolves each channel of rows of values with the kernel, along columns and then along rows.
/// `add(y, weight, sums)` adds row y, times the weight, to the sums; `write(y, values)` takes what
/// becomes of it. Rows are written in order.
pub(super) fn convolve(
    kernel: &[f32],
    size: Size,
    channels: usize,
    add: impl Fn(usize, f32, &mut [f32]),
    mut write: impl FnMut(usize, &[f32]),
) {
    let Size { width, height } = size;
    let (radius, stride) = (kernel.len() / 2, width * channels);
    // A row with its mirror images on both sides.
    let mut row = vec![0.0; stride + 2 * radius * channels];
    let mut sums = vec![0.0; stride];
    for y in 0..height {
        let middle = radius * channels..radius * channels + stride;
        row[middle.clone()].fill(0.0);
        for (j, &weight) in kernel.iter().enumerate() {
            let y = mirrored(y as isize + j as isize - radius as isize, height);
            add(y, weight, &mut row[middle.clone()]);
        }
        for x in (0..radius).chain(radius + width..2 * radius + width) {
            let from = radius + mirrored(x as isize - radius as isize, width);
            row.copy_within(from * channels..(from + 1) * channels, x * channels);
        }
        sums.fill(0.0);
        for (i, &weight) in kernel.iter().enumerate() {
            let values = &row[i * channels..][..stride];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        write(y, &sums);
    }
}

/// The place that is seen at `position` between mirrors at the first and the last one.
fn mirrored(position: isize, length: usize) -> usize {
    let last = length as isize - 1;
    if last == 0 {
        return 0;
    }
    let position = position.rem_euclid(2 * last);
    position.min(2 * last - position) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_at_the_border_pixels() {
        let seen: Vec<usize> = (-5..9).map(|position| mirrored(position, 3)).collect();
        assert_eq!(
            seen,
            [1, 2, 1, 0, 1, 2, 1, 0][..]
                .iter()
                .cycle()
                .skip(6)
                .take(14)
                .copied()
                .collect::<Vec<_>>()
        );
        assert!((-5..9).all(|position| mirrored(position, 1) == 0));
    }

    #[test]
    fn matches_the_definition() {
        for (width, height, channels) in [(1, 1, 3), (5, 1, 1), (1, 4, 2), (7, 6, 3)] {
            for (sigma, radius) in [(0.5, 0), (1.0, 2), (3.0, 9)] {
                let kernel = kernel(sigma, radius);
                let value = |x: usize, y: usize, c: usize| ((x * 5 + y * 3 + c * 7) % 11) as f32;
                let mut rows = 0;
                convolve(
                    &kernel,
                    Size { width, height },
                    channels,
                    |y, weight, sums| {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum += weight * value(i / channels, y, i % channels);
                        }
                    },
                    |y, values| {
                        assert_eq!(y, rows);
                        rows += 1;
                        for (i, &found) in values.iter().enumerate() {
                            let r = radius as isize;
                            let mut sum = 0.0;
                            for (dy, dx) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx)))
                            {
                                let at = |start: usize, d: isize, length| {
                                    mirrored(start as isize + d, length)
                                };
                                let value = value(
                                    at(i / channels, dx, width),
                                    at(y, dy, height),
                                    i % channels,
                                );
                                let weight = |d: isize| f64::from(kernel[(d + r) as usize]);
                                sum += weight(dx) * weight(dy) * f64::from(value);
                            }
                            assert!((f64::from(found) - sum).abs() < 1e-4);
                        }
                    },
                );
                assert_eq!(rows, height);
            }
        }
    }
}
