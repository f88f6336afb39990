//! The transforms of Winograd's way to a convolution with 3×3 kernels, F(2×2, 3×3).
//!
//! The four outputs of a 2×2 tile are Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A of the kernel g and the 4×4 inputs d that they see:
//! 16 multiplications where the definition has 36. Summed over channels, each of the 16 is a matrix product of
//! transformed weights and transformed inputs. The gradient by the weight is, likewise,
//! Gᵀ\[Σ (A dy Aᵀ) ⊙ (Bᵀ d B)\]G, summed over tiles. The transforms have no factors but ±1 and ½, so the rounding error
//! is only a few times that of the definition's sum, and none for small whole numbers; but a value that is not finite
//! makes its whole tile so.
//!
//! Lavin & Gray, [Fast Algorithms for Convolutional Neural Networks](https://arxiv.org/abs/1509.09308), 2016.

mod tiles;

use multiversion::multiversion;

use super::gather::Class;
use super::tiles::WIDE_OUTPUTS;
use crate::Float;
use crate::parallel;
use crate::pool::larger_of;
use crate::simd::LANES;

pub(super) use tiles::{ALTERNATING, Tiles};

/// Products of a tile.
pub(super) const PRODUCTS: usize = 16;
/// Of [`PRODUCTS`], the one that all four outputs have with a factor of 1.
pub(super) const IN_ALL: usize = 5;

/// What is written in whole blocks of lanes goes beyond its end by less than this.
pub(super) const SLACK: usize = LANES;

/// Places of a kernel.
pub(super) const TAPS: usize = 9;

/// Transformed kernels, G g Gᵀ: from `[blocks, sources, taps, outputs of a block]` to
/// `[blocks, products, sources, outputs of a block]`.
pub(super) fn transform_weights<T: Float>(
    packed: &[T],
    [down, across]: [&Class; 2],
    sources: usize,
    block: usize,
) -> Vec<T> {
    let place = |offset: usize| {
        let tap = |class: &Class, offset| class.taps.iter().position(|tap| tap.offset() == offset);
        let places = [tap(down, offset / 3), tap(across, offset % 3)];
        let [a, b] = places.map(|place| place.expect("a tap for each offset"));
        3 * a + b
    };
    let places: [usize; TAPS] = std::array::from_fn(place);
    let of_block = sources * block;
    let mut transformed = vec![T::ZERO; packed.len() / TAPS * PRODUCTS];
    let parts = transformed.chunks_mut(PRODUCTS * of_block);
    parallel::collect_with(
        parts,
        packed.len(),
        || (),
        |part, transformed, ()| {
            let packed = &packed[part * TAPS * of_block..][..TAPS * of_block];
            transform_block(packed, &places, block, transformed);
        },
    );
    transformed
}

/// [`transform_weights`] of one block.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn transform_block<T: Float>(packed: &[T], places: &[usize; TAPS], block: usize, to: &mut [T]) {
    let step = to.len() / PRODUCTS;
    for (source, packed) in packed.chunks_exact(TAPS * block).enumerate() {
        let to = &mut to[source * block..];
        match block {
            1 => transform_kernels::<T, 1>(packed, places, to, step),
            4 => transform_kernels::<T, 4>(packed, places, to, step),
            _ => transform_kernels::<T, WIDE_OUTPUTS>(packed, places, to, step),
        }
    }
}

/// One source's kernels for N outputs: product k of output o goes to `to`\[k·`step` + o\].
#[inline(always)]
fn transform_kernels<T: Float, const N: usize>(
    packed: &[T],
    places: &[usize; TAPS],
    to: &mut [T],
    step: usize,
) {
    // G·(g0, g1, g2) = (g0, (g0 + g1 + g2)/2, (g0 − g1 + g2)/2, g2), down and then across.
    let half = T::from_f64(0.5);
    let mut g = [[T::ZERO; N]; TAPS];
    for k in 0..TAPS {
        g[k].copy_from_slice(&packed[places[k] * N..][..N]);
    }
    let mut columns = [[[T::ZERO; N]; 4]; 3];
    for b in 0..3 {
        for o in 0..N {
            let outer = half * (g[b][o] + g[6 + b][o]);
            let inner = half * g[3 + b][o];
            columns[b][0][o] = g[b][o];
            columns[b][1][o] = outer + inner;
            columns[b][2][o] = outer - inner;
            columns[b][3][o] = g[6 + b][o];
        }
    }
    for a in 0..4 {
        let mut row = [[T::ZERO; N]; 4];
        for o in 0..N {
            let outer = half * (columns[0][a][o] + columns[2][a][o]);
            let inner = half * columns[1][a][o];
            row[0][o] = columns[0][a][o];
            row[1][o] = outer + inner;
            row[2][o] = outer - inner;
            row[3][o] = columns[2][a][o];
        }
        for b in 0..4 {
            to[(4 * a + b) * step..][..N].copy_from_slice(&row[b]);
        }
    }
}

/// A row of tiles' inputs, Bᵀ d B, from the four padded rows that they see, split into even and odd columns, of A images
/// whose values alternate: product k of tile j, of all images, goes to `to`\[k·`step` + j\]. Whole blocks of N are read and
/// written.
#[inline(always)]
fn inputs_of<T: Float, const N: usize, const A: usize>(
    rows: &[T],
    pitch: usize,
    across: usize,
    to: &mut [T],
    step: usize,
) {
    for first in (0..across).step_by(N) {
        // Across: (x0 − x2, x1 + x2, x2 − x1, x1 − x3).
        let mut h = [[[T::ZERO; N]; 4]; 4];
        for a in 0..4 {
            let even = &rows[2 * a * pitch + first..][..N + A];
            let odd = &rows[(2 * a + 1) * pitch + first..][..N + A];
            for j in 0..N {
                h[a][0][j] = even[j] - even[j + A];
            }
            for j in 0..N {
                h[a][1][j] = odd[j] + even[j + A];
            }
            for j in 0..N {
                h[a][2][j] = even[j + A] - odd[j];
            }
            for j in 0..N {
                h[a][3][j] = odd[j] - odd[j + A];
            }
        }
        // And down.
        for b in 0..4 {
            let mut v = [[T::ZERO; N]; 4];
            for j in 0..N {
                v[0][j] = h[0][b][j] - h[2][b][j];
            }
            for j in 0..N {
                v[1][j] = h[1][b][j] + h[2][b][j];
            }
            for j in 0..N {
                v[2][j] = h[2][b][j] - h[1][b][j];
            }
            for j in 0..N {
                v[3][j] = h[1][b][j] - h[3][b][j];
            }
            for a in 0..4 {
                to[(4 * a + b) * step + first..][..N].copy_from_slice(&v[a]);
            }
        }
    }
}

/// The transformed inputs of rows of tiles: see [`inputs_of`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn transform_inputs<T: Float, const A: usize>(
    padded: &[T],
    pitch: usize,
    [down, across]: [usize; 2],
    to: &mut [T],
    step: usize,
) {
    let across = A * across;
    for row in 0..down {
        let padded = &padded[4 * row * pitch..];
        let to = &mut to[row * across..];
        match across {
            0..=4 => inputs_of::<T, 4, A>(padded, pitch, across, to, step),
            5..=8 => inputs_of::<T, 8, A>(padded, pitch, across, to, step),
            _ => inputs_of::<T, LANES, A>(padded, pitch, across, to, step),
        }
    }
}

/// The values of a row, of A images whose values alternate, into even and odd columns of a padded one, which are `pitch`
/// apart, from a column on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn split<T: Float, const A: usize>(x: &[T], before: usize, padded: &mut [T], pitch: usize) {
    let (even, odd) = padded.split_at_mut(pitch);
    let [first, second] = if before.is_multiple_of(2) {
        [even, odd]
    } else {
        [odd, even]
    };
    let (first, _) = first[A * (before / 2)..].as_chunks_mut::<A>();
    let (second, _) = second[A * before.div_ceil(2)..].as_chunks_mut::<A>();
    let (pairs, last) = x.as_chunks::<A>().0.as_chunks::<2>();
    for ((pair, first), second) in pairs.iter().zip(&mut *first).zip(second) {
        *first = pair[0];
        *second = pair[1];
    }
    if let [last] = last {
        first[pairs.len()] = *last;
    }
}

/// Where [`transform_outputs`] writes the outputs of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// As they lie in an image.
    Row,
    /// So too, of [`ALTERNATING`] images whose values alternate.
    AlternatingRow,
    /// The left ones of the tiles in the first half, and the right ones in the second.
    Halves,
}

/// Tiles' outputs, Aᵀ m A, from their products: product k of tile j is `products`\[k·`step` + j\]. The two rows of
/// outputs are the halves of `lines`. Whole blocks of lanes are read and written.
pub(super) fn transform_outputs<T: Float>(
    products: &[T],
    step: usize,
    tiles: usize,
    lines: &mut [T],
    order: Order,
) {
    match order {
        Order::Row => outputs_in_rows::<T, 1>(products, step, tiles, lines),
        Order::AlternatingRow => outputs_in_rows::<T, ALTERNATING>(products, step, tiles, lines),
        Order::Halves => outputs_in_halves(products, step, tiles, lines),
    }
}

/// [`transform_outputs`] of A images whose values alternate.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn outputs_in_rows<T: Float, const A: usize>(
    products: &[T],
    step: usize,
    tiles: usize,
    lines: &mut [T],
) {
    let (upper, lower) = lines.split_at_mut(lines.len() / 2);
    for first in (0..tiles).step_by(LANES) {
        let y = outputs_of(products, step, first);
        for (y, line) in y.iter().zip([&mut *upper, &mut *lower]) {
            let line = &mut line[2 * first..][..2 * LANES];
            for j in 0..LANES / A {
                for image in 0..A {
                    line[2 * j * A + image] = y[0][j * A + image];
                    line[(2 * j + 1) * A + image] = y[1][j * A + image];
                }
            }
        }
    }
}

/// [`transform_outputs`] in [`Order::Halves`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn outputs_in_halves<T: Float>(products: &[T], step: usize, tiles: usize, lines: &mut [T]) {
    let (upper, lower) = lines.split_at_mut(lines.len() / 2);
    for first in (0..tiles).step_by(LANES) {
        let y = outputs_of(products, step, first);
        for (y, line) in y.iter().zip([&mut *upper, &mut *lower]) {
            let (left, right) = line.split_at_mut(line.len() / 2);
            left[first..][..LANES].copy_from_slice(&y[0]);
            right[first..][..LANES].copy_from_slice(&y[1]);
        }
    }
}

/// The outputs of a block of tiles: rows, and of each the left and the right ones.
#[inline(always)]
fn outputs_of<T: Float>(products: &[T], step: usize, first: usize) -> [[[T; LANES]; 2]; 2] {
    // Down: (m0 + m1 + m2, m1 − m2 − m3).
    let mut s = [[[T::ZERO; LANES]; 4]; 2];
    for b in 0..4 {
        let mut m = [products; 4];
        for a in 0..4 {
            m[a] = &products[(4 * a + b) * step + first..][..LANES];
        }
        for j in 0..LANES {
            s[0][b][j] = m[0][j] + m[1][j] + m[2][j];
            s[1][b][j] = m[1][j] - m[2][j] - m[3][j];
        }
    }
    // And across.
    let mut y = [[[T::ZERO; LANES]; 2]; 2];
    for a in 0..2 {
        for j in 0..LANES {
            y[a][0][j] = s[a][0][j] + s[a][1][j] + s[a][2][j];
            y[a][1][j] = s[a][1][j] - s[a][2][j] - s[a][3][j];
        }
    }
    y
}

/// The largest of each tile's outputs, from the quarters of `lines`, to the first of them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn largest<T: Float>(lines: &mut [T]) {
    let quarter = lines.len() / 4;
    let (first, others) = lines.split_at_mut(quarter);
    for others in others.chunks_exact(quarter) {
        for (largest, &value) in first.iter_mut().zip(others) {
            *largest = larger_of(*largest, value);
        }
    }
}

/// Tiles' gradients, A dy Aᵀ but for the sign of what has a 3 among its two places (see [`transform_sums`]), from
/// `[rows, columns, outputs]` with so many columns and outputs: product k of output o of tile j goes to
/// `to`\[k·steps\[0\] + j·steps\[1\] + o\].
pub(super) fn transform_gradients<T: Float>(
    dy: &[T],
    [columns, outputs]: [usize; 2],
    to: &mut [T],
    steps: [usize; 2],
) {
    match outputs {
        _ if outputs.is_multiple_of(16) => gradients_of::<T, 16>(dy, [columns, outputs], to, steps),
        _ if outputs.is_multiple_of(4) => gradients_of::<T, 4>(dy, [columns, outputs], to, steps),
        _ => gradients_of::<T, 1>(dy, [columns, outputs], to, steps),
    }
}

/// [`transform_gradients`] of N outputs at a time.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gradients_of<T: Float, const N: usize>(
    dy: &[T],
    [columns, outputs]: [usize; 2],
    to: &mut [T],
    steps: [usize; 2],
) {
    let rows = dy.len() / (columns * outputs);
    let across = columns.div_ceil(2);
    for first in (0..outputs).step_by(N) {
        for down in 0..rows.div_ceil(2) {
            for j in 0..across {
                // What is beyond the last row and column is zero.
                let mut y = [[[T::ZERO; N]; 2]; 2];
                for a in 0..2.min(rows - 2 * down) {
                    for b in 0..2.min(columns - 2 * j) {
                        let position = (2 * down + a) * columns + 2 * j + b;
                        y[a][b].copy_from_slice(&dy[position * outputs + first..][..N]);
                    }
                }
                let mut v = [y[0], y[0], y[0], y[1]];
                for b in 0..2 {
                    for o in 0..N {
                        v[1][b][o] = y[0][b][o] + y[1][b][o];
                        v[2][b][o] = y[0][b][o] - y[1][b][o];
                    }
                }
                let to = &mut to[(down * across + j) * steps[1] + first..];
                for a in 0..4 {
                    let [left, right] = v[a];
                    let mut middle = [[T::ZERO; N]; 2];
                    for o in 0..N {
                        middle[0][o] = left[o] + right[o];
                        middle[1][o] = left[o] - right[o];
                    }
                    for (b, values) in [left, middle[0], middle[1], right].iter().enumerate() {
                        to[(4 * a + b) * steps[0]..][..N].copy_from_slice(values);
                    }
                }
            }
        }
    }
}

/// Kernels' gradients by a source, Gᵀ m G, from the sums of their products, given [`transform_gradients`]' signs: of
/// output o, product k's sum is `sums`\[k·`step` + o\], and place k of its gradient goes to
/// `to`\[o·`of_output` + `places`\[k\]\], for as many of the `outputs` as there are.
pub(super) fn transform_sums<T: Float>(
    sums: &[T],
    step: usize,
    to: &mut [T],
    [of_output, outputs]: [usize; 2],
    places: &[usize],
) {
    let places = places.try_into().expect("a place for each offset");
    match outputs {
        _ if outputs.is_multiple_of(16) => sums_of::<T, 16>(sums, step, to, of_output, places),
        _ if outputs.is_multiple_of(4) => sums_of::<T, 4>(sums, step, to, of_output, places),
        _ => sums_of::<T, 1>(sums, step, to, of_output, places),
    }
}

/// [`transform_sums`] of N outputs at a time.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn sums_of<T: Float, const N: usize>(
    sums: &[T],
    step: usize,
    to: &mut [T],
    of_output: usize,
    places: &[usize; TAPS],
) {
    let half = T::from_f64(0.5);
    for (index, to) in to.chunks_mut(N * of_output).enumerate() {
        // Across, and then down: (m0 + (m1 + m2)/2, (m1 − m2)/2, (m1 + m2)/2 − m3).
        let mut rows = [[[T::ZERO; N]; 3]; 4];
        for a in 0..4 {
            let mut m = [[T::ZERO; N]; 4];
            for b in 0..4 {
                m[b].copy_from_slice(&sums[(4 * a + b) * step + index * N..][..N]);
            }
            for o in 0..N {
                let outer = half * (m[1][o] + m[2][o]);
                rows[a][0][o] = m[0][o] + outer;
                rows[a][1][o] = half * (m[1][o] - m[2][o]);
                rows[a][2][o] = outer - m[3][o];
            }
        }
        let mut g = [[T::ZERO; N]; TAPS];
        for b in 0..3 {
            for o in 0..N {
                let outer = half * (rows[1][b][o] + rows[2][b][o]);
                g[b][o] = rows[0][b][o] + outer;
                g[3 + b][o] = half * (rows[1][b][o] - rows[2][b][o]);
                g[6 + b][o] = outer - rows[3][b][o];
            }
        }
        for (o, to) in to.chunks_mut(of_output).enumerate() {
            for k in 0..TAPS {
                to[places[k]] = g[k][o];
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::Conv2d;
    use evenkeel_random::Key;

    /// Whole numbers from −4 to 4, whose sums are exact in all ways of adding them.
    pub fn whole_numbers(seed: u64, len: usize) -> Vec<f32> {
        let mut draws = Key::from_seed(seed).draws();
        (0..len)
            .map(|_| (draws.uniform() * 9.0).floor() as f32 - 4.0)
            .collect()
    }

    /// A usual convolution, of square images.
    pub fn usual(examples: usize, channels: [usize; 2], side: usize) -> Conv2d {
        Conv2d {
            examples,
            channels,
            image: [side; 2],
            kernel: [3, 3],
            stride: [1, 1],
            padding: [(1, 1); 2],
            dilation: [1, 1],
            groups: 1,
        }
    }
}
