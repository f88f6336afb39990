//! Sums of products, a tile of them in registers at a time.
//!
//! A tile is as many sums as registers hold, so that a value that was loaded is used several times. Each sum is
//! one chain of fused multiplications and additions in the order of the terms, whatever the tile and the
//! machine's vectors: all tiles give the same bits.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Float;
use crate::lanes::{Lanes, lanes};

/// What the machine's tiles are like, for elements of one type.
#[derive(Clone, Copy)]
pub(super) struct Machine {
    arch: Arch,
    /// Elements in a vector.
    pub lanes: usize,
    registers: usize,
}

impl Machine {
    pub fn new<T: Float>() -> Self {
        Self::of::<T>(Arch::new())
    }

    /// The one that decisions which results depend on are made for, so that they do not depend on the machine.
    pub fn usual<T>() -> Self {
        Self {
            arch: Arch::Scalar,
            lanes: 64 / size_of::<T>(),
            registers: MANY_REGISTERS,
        }
    }

    fn of<T: Float>(arch: Arch) -> Self {
        struct Ask<T>(Arch, std::marker::PhantomData<T>);
        impl<T: Float> WithSimd for Ask<T> {
            type Output = Machine;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Machine {
                Machine {
                    arch: self.0,
                    lanes: lanes::<T, S>(),
                    registers: S::REGISTER_COUNT,
                }
            }
        }
        arch.dispatch(Ask::<T>(arch, std::marker::PhantomData))
    }

    /// Outputs of a tile of [`Wide`]: a channel that is alone in its group has no others.
    pub fn wide_outputs(&self, outputs: usize) -> usize {
        match outputs {
            1 => 1,
            _ if self.registers >= MANY_REGISTERS => WIDE_OUTPUTS,
            _ => 4,
        }
    }

    /// Vectors of outputs in a tile of [`Deep`] and [`Correlation`]: fewer where there are few outputs.
    pub fn deep_vectors(&self, outputs: usize) -> usize {
        if outputs <= self.lanes {
            1
        } else {
            DEEP_VECTORS
        }
    }

    pub fn run<Op: WithSimd>(&self, tiles: Op) -> Op::Output {
        self.arch.dispatch(tiles)
    }
}

/// Then a tile of [`Wide`] is twice as large.
const MANY_REGISTERS: usize = 32;

/// Vectors of outputs in a tile of [`Deep`] and [`Correlation`].
const DEEP_VECTORS: usize = 2;

/// Outputs of a wide tile, at most.
pub(super) const WIDE_OUTPUTS: usize = 8;

/// Vectors of neighbouring positions, which a wide tile has at most.
pub(super) const WIDE_VECTORS: usize = 3;

/// Sums for neighbouring positions, a vector of them at a time, and a few outputs:
/// `to`\[o, p\] = start\[o\] + Σ over k of weights\[k, o\]·planes\[offsets\[k\] + p\].
pub(super) struct Wide<'a, T> {
    pub planes: &'a [T],
    pub offsets: &'a [usize],
    /// `[offsets, outputs of a tile]`.
    pub weights: &'a [T],
    /// As many as a tile has.
    pub start: &'a [T],
    /// `[outputs of a tile, positions]`, whole vectors.
    pub to: &'a mut [T],
}

impl<T: Float> WithSimd for Wide<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.start.len() {
            1 => self.all::<S, 1>(simd),
            4 => self.all::<S, 4>(simd),
            _ => self.all::<S, WIDE_OUTPUTS>(simd),
        }
    }
}

impl<T: Float> Wide<'_, T> {
    #[inline(always)]
    fn all<S: Simd, const OUTPUTS: usize>(mut self, simd: S) {
        let vectors = self.to.len() / (OUTPUTS * lanes::<T, S>());
        let mut first = 0;
        while first < vectors {
            // Four are two and two, since a tile of one vector waits for each of its sums.
            match vectors - first {
                1 => {
                    self.tile::<S, OUTPUTS, 1>(simd, first);
                    first += 1;
                }
                2 | 4 => {
                    self.tile::<S, OUTPUTS, 2>(simd, first);
                    first += 2;
                }
                _ => {
                    self.tile::<S, OUTPUTS, WIDE_VECTORS>(simd, first);
                    first += WIDE_VECTORS;
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const OUTPUTS: usize, const VECTORS: usize>(&mut self, simd: S, first: usize) {
        let width = lanes::<T, S>();
        let planes = &self.planes[first * width..];
        let start = &self.start[..OUTPUTS];
        // Loops over indices: iterators over a tile, and closures, are not always inlined into functions with vector
        // features, and the tile then goes through memory at every term.
        let mut sums = [[T::splat(simd, start[0]); VECTORS]; OUTPUTS];
        for o in 1..OUTPUTS {
            sums[o] = [T::splat(simd, start[o]); VECTORS];
        }
        let (weights, _) = self.weights.as_chunks::<OUTPUTS>();
        for (weights, &offset) in weights.iter().zip(self.offsets) {
            let x = T::vectors::<S>(&planes[offset..][..VECTORS * width]);
            for o in 0..OUTPUTS {
                let weight = T::splat(simd, weights[o]);
                for v in 0..VECTORS {
                    sums[o][v] = T::multiply_add(simd, weight, x[v], sums[o][v]);
                }
            }
        }
        let row = self.to.len() / OUTPUTS;
        for o in 0..OUTPUTS {
            let to = &mut self.to[o * row + first * width..][..VECTORS * width];
            T::vectors_mut::<S>(to)[..VECTORS].copy_from_slice(&sums[o]);
        }
    }
}

/// Sums for outputs, a vector of them at a time, and a few neighbouring positions:
/// `sums`\[row, p, o\] += Σ over sources and taps of
/// planes\[source·`source_step` + row·`row_step` + tap.offset + p\]·weights\[source, tap.place, o\].
pub(super) struct Deep<'a, T> {
    pub planes: &'a [T],
    /// From one row of positions, and one source, to the next.
    pub row_step: usize,
    pub source_step: usize,
    pub sources: usize,
    pub taps: &'a [DeepTap],
    /// `[sources, places, outputs]`.
    pub weights: &'a [T],
    pub rows: usize,
    /// Tiles of a row.
    pub tiles: &'a Range<usize>,
    /// `[rows, positions of a row, outputs]`, whole tiles.
    pub sums: &'a mut [T],
    /// Of the outputs.
    pub vectors: usize,
}

/// What a [`Deep`] tile reads.
#[derive(Clone, Copy)]
pub(super) struct DeepTap {
    /// On a source's planes, for the first position.
    pub offset: usize,
    /// Of a source's weights.
    pub place: usize,
}

/// Positions of a deep tile.
pub(super) const DEEP_POSITIONS: usize = 8;

impl<T: Float> WithSimd for Deep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.vectors {
            1 => self.all::<S, 1>(simd),
            _ => self.all::<S, DEEP_VECTORS>(simd),
        }
    }
}

impl<T: Float> Deep<'_, T> {
    #[inline(always)]
    fn all<S: Simd, const VECTORS: usize>(self, simd: S) {
        let outputs = VECTORS * lanes::<T, S>();
        let of_row = self.sums.len() / self.rows;
        let of_source = self.weights.len() / self.sources;
        for (row, sums) in self.sums.chunks_exact_mut(of_row).enumerate() {
            for index in self.tiles.clone() {
                let planes = &self.planes[row * self.row_step + index * DEEP_POSITIONS..];
                let sums = &mut sums[index * DEEP_POSITIONS * outputs..];
                let sums = &mut sums[..DEEP_POSITIONS * outputs];
                let mut tile = load::<T, S, DEEP_POSITIONS, VECTORS>(sums);
                for (source, weights) in self.weights.chunks_exact(of_source).enumerate() {
                    let planes = &planes[source * self.source_step..];
                    for tap in self.taps {
                        let x = &planes[tap.offset..][..DEEP_POSITIONS];
                        let weights = T::vectors::<S>(&weights[tap.place * outputs..][..outputs]);
                        for p in 0..DEEP_POSITIONS {
                            let x = T::splat(simd, x[p]);
                            for v in 0..VECTORS {
                                tile[p][v] = T::multiply_add(simd, x, weights[v], tile[p][v]);
                            }
                        }
                    }
                }
                store::<T, S, DEEP_POSITIONS, VECTORS>(&tile, sums);
            }
        }
    }
}

/// Sums over positions: `sums`\[k, o\] += Σ over rows and p of
/// planes\[row·`row_step` + offsets\[k\] + p\]·gradient\[row, p, o\].
pub(super) struct Correlation<'a, T> {
    pub planes: &'a [T],
    /// From one row of positions to the next.
    pub row_step: usize,
    pub tiles: &'a [CorrelationTile],
    /// The rows that the planes are of.
    pub rows: &'a Range<usize>,
    /// `[rows, positions of a row, outputs]`.
    pub gradient: &'a [T],
    /// `[offsets, outputs]`.
    pub sums: &'a mut [T],
    /// Of the outputs.
    pub vectors: usize,
}

/// Offsets of a [`Correlation`] that are handled together.
pub(super) struct CorrelationTile {
    pub offsets: [usize; CORRELATION_OFFSETS],
    /// Where any of them sees more than zeros: rows, and positions of a row.
    pub rows: Range<usize>,
    pub positions: Range<usize>,
}

/// Offsets of a tile.
pub(super) const CORRELATION_OFFSETS: usize = 8;

impl<T: Float> WithSimd for Correlation<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.vectors {
            1 => self.all::<S, 1>(simd),
            _ => self.all::<S, DEEP_VECTORS>(simd),
        }
    }
}

impl<T: Float> Correlation<'_, T> {
    #[inline(always)]
    fn all<S: Simd, const VECTORS: usize>(self, simd: S) {
        const OFFSETS: usize = CORRELATION_OFFSETS;
        let outputs = VECTORS * lanes::<T, S>();
        let of_row = self.gradient.len() / self.rows.len();
        let sums = self.sums.chunks_exact_mut(OFFSETS * outputs);
        for (tile, sums) in self.tiles.iter().zip(sums) {
            let CorrelationTile {
                offsets,
                rows,
                positions,
            } = tile;
            let mut tile = load::<T, S, OFFSETS, VECTORS>(sums);
            for row in rows.start.max(self.rows.start)..rows.end.min(self.rows.end) {
                let row = row - self.rows.start;
                let first = row * self.row_step + positions.start;
                let mut x = [self.planes; OFFSETS];
                for k in 0..OFFSETS {
                    x[k] = &self.planes[first + offsets[k]..][..positions.len()];
                }
                let gradient = &self.gradient[row * of_row..][..of_row];
                let gradient = &gradient[positions.start * outputs..positions.end * outputs];
                for (p, gradient) in gradient.chunks_exact(outputs).enumerate() {
                    let gradient = T::vectors::<S>(gradient);
                    for k in 0..OFFSETS {
                        let x = T::splat(simd, x[k][p]);
                        for v in 0..VECTORS {
                            tile[k][v] = T::multiply_add(simd, x, gradient[v], tile[k][v]);
                        }
                    }
                }
            }
            store::<T, S, OFFSETS, VECTORS>(&tile, sums);
        }
    }
}

type Tile<T, S, const ROWS: usize, const VECTORS: usize> =
    [[<T as Lanes>::Vector<S>; VECTORS]; ROWS];

#[inline(always)]
fn load<T: Float, S: Simd, const ROWS: usize, const VECTORS: usize>(
    from: &[T],
) -> Tile<T, S, ROWS, VECTORS> {
    let from = T::vectors::<S>(from);
    let mut tile = [[from[0]; VECTORS]; ROWS];
    for row in 0..ROWS {
        for v in 0..VECTORS {
            tile[row][v] = from[row * VECTORS + v];
        }
    }
    tile
}

#[inline(always)]
fn store<T: Float, S: Simd, const ROWS: usize, const VECTORS: usize>(
    tile: &Tile<T, S, ROWS, VECTORS>,
    to: &mut [T],
) {
    let to = T::vectors_mut::<S>(to);
    for row in 0..ROWS {
        for v in 0..VECTORS {
            to[row * VECTORS + v] = tile[row][v];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut draws = Key::from_seed(seed).draws();
        (0..len).map(|_| draws.uniform() as f32 - 0.5).collect()
    }

    /// With each kind of vector that this machine has.
    fn on_each<R>(run: impl Fn(Arch) -> R) -> Vec<R> {
        let widest = std::iter::once(Arch::new());
        #[cfg(target_arch = "x86_64")]
        let kinds = widest.chain(pulp::x86::V3::try_new().map(Arch::V3));
        #[cfg(not(target_arch = "x86_64"))]
        let kinds = widest;
        kinds.map(run).collect()
    }

    const OUTPUTS: usize = 64;
    const POSITIONS: usize = 32;
    const TERMS: usize = 24;

    /// Σ over k of planes[offsets[k] + p]·weights[k, o], one output after another, by any tiles.
    fn wide(arch: Arch) -> Vec<f32> {
        let machine = Machine::of::<f32>(arch);
        let (planes, weights) = (values(1, 200), values(2, TERMS * OUTPUTS));
        let offsets: Vec<usize> = (0..TERMS).map(|k| 7 * k % 29).collect();
        let block = machine.wide_outputs(OUTPUTS);
        let mut y = vec![0.0; OUTPUTS * POSITIONS];
        for (index, to) in y.chunks_exact_mut(block * POSITIONS).enumerate() {
            let weights = (weights.chunks_exact(OUTPUTS))
                .flat_map(|row| &row[index * block..][..block])
                .copied();
            machine.run(Wide {
                planes: &planes,
                offsets: &offsets,
                weights: &weights.collect::<Vec<_>>(),
                start: &vec![0.0; block],
                to,
            });
        }
        y
    }

    /// The same by deep tiles, and the sums over positions of the same planes with those as gradient.
    fn deep(arch: Arch) -> [Vec<f32>; 2] {
        let machine = Machine::of::<f32>(arch);
        let (planes, weights) = (values(1, 200), values(2, TERMS * OUTPUTS));
        let offsets: Vec<usize> = (0..TERMS).map(|k| 7 * k % 29).collect();
        let taps = offsets.iter().enumerate();
        let taps = taps.map(|(place, &offset)| DeepTap { offset, place });
        let taps: Vec<DeepTap> = taps.collect();
        let (tiles, _) = offsets.as_chunks();
        let correlation = |&offsets| CorrelationTile {
            offsets,
            rows: 0..2,
            positions: 0..POSITIONS / 2,
        };
        let correlations: Vec<CorrelationTile> = tiles.iter().map(correlation).collect();
        let vectors = machine.deep_vectors(OUTPUTS);
        let block = vectors * machine.lanes;
        let mut y = vec![0.0; OUTPUTS * POSITIONS];
        let mut of_weights = vec![0.0; TERMS * OUTPUTS];
        for first in (0..OUTPUTS).step_by(block) {
            let weights: Vec<f32> = (weights.chunks_exact(OUTPUTS))
                .flat_map(|row| &row[first..][..block])
                .copied()
                .collect();
            let mut sums = vec![0.0; POSITIONS * block];
            machine.run(Deep {
                planes: &planes,
                row_step: POSITIONS / 2,
                source_step: 0,
                sources: 1,
                taps: &taps,
                weights: &weights,
                rows: 2,
                tiles: &(0..POSITIONS / 2 / DEEP_POSITIONS),
                sums: &mut sums,
                vectors,
            });
            let mut sums_of_weights = vec![0.0; TERMS * block];
            machine.run(Correlation {
                planes: &planes,
                row_step: POSITIONS / 2,
                tiles: &correlations,
                rows: &(0..2),
                gradient: &sums,
                sums: &mut sums_of_weights,
                vectors,
            });
            for lane in 0..block {
                for p in 0..POSITIONS {
                    y[(first + lane) * POSITIONS + p] = sums[p * block + lane];
                }
                for k in 0..TERMS {
                    of_weights[k * OUTPUTS + first + lane] = sums_of_weights[k * block + lane];
                }
            }
        }
        [y, of_weights]
    }

    #[test]
    fn all_vectors_and_tiles_give_the_same_bits() {
        let wide = on_each(wide);
        let deep = on_each(deep);
        assert!(wide.iter().all(|y| *y == wide[0]));
        assert!(deep.iter().all(|results| *results == deep[0]));
        assert_eq!(wide[0], deep[0][0]);
        assert!(deep[0][1].iter().all(|sum| *sum != 0.0));
    }
}
