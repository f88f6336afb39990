//! How the work on a shape is divided among cubes.

use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use crate::backend::cube::UNITS;

/// Below this many positions a slab is too short to be read by itself, and rows of all channels are
/// read as columns.
pub(super) const LEAST_SLAB: usize = 16;
/// Vectors that a unit takes, at least, before work is divided among more cubes.
const LEAST_WORK: usize = 8;
/// Cubes that keep a large GPU busy.
const ENOUGH_CUBES: usize = 2048;
/// Vectors of columns of a cube, and the rows that it reads at a time.
pub(super) const COLUMNS: usize = 32;
pub(super) const ROWS: usize = UNITS / COLUMNS;
/// Units of a cube that merges partial results.
pub(super) const FINISHING: usize = 64;

/// `[n, c, s]` by slabs, of `slab` vectors each; each channel's in so many parts.
pub(super) struct Slabs {
    examples: usize,
    pub channels: usize,
    pub slab: usize,
    pub parts: usize,
}

impl Slabs {
    pub fn new(examples: usize, channels: usize, slab: usize) -> Self {
        let parts = parts(examples * slab / UNITS, channels);
        Self {
            examples,
            channels,
            slab,
            parts,
        }
    }

    /// Vectors of a channel.
    pub fn of_channel(&self) -> usize {
        self.examples * self.slab
    }

    /// Vectors of a part.
    pub fn length(&self) -> usize {
        self.of_channel().div_ceil(self.parts)
    }
}

/// `[rows, columns]`, the columns as vectors; the rows in so many parts.
pub(super) struct Columns {
    pub rows: usize,
    pub columns: usize,
    pub parts: usize,
}

impl Columns {
    pub fn new(rows: usize, columns: usize) -> Self {
        let parts = parts(rows / ROWS, columns.div_ceil(COLUMNS));
        Self {
            rows,
            columns,
            parts,
        }
    }

    pub fn cubes(&self) -> usize {
        self.columns.div_ceil(COLUMNS) * self.parts
    }

    /// Rows of a part.
    pub fn length(&self) -> usize {
        self.rows.div_ceil(self.parts)
    }
}

/// Parts of each of `wholes` that take a unit `steps` vectors.
fn parts(steps: usize, wholes: usize) -> usize {
    (steps / LEAST_WORK).clamp(1, (ENOUGH_CUBES / wholes).max(1))
}

/// At least `cubes` cubes of `units`: kernels check their position.
pub(super) fn one_cube_each(client: &Client, cubes: usize, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(units as u32);
    (
        calculate_cube_count_elemwise(client, cubes * units, dim),
        dim,
    )
}
