//! Rows to columns.

use multiversion::multiversion;
use multiversion::target::match_target;

use crate::Float;

/// Rows and columns that are exchanged at a time: a vector of AVX.
const TILE: usize = 8;

/// As many values are copied at once where a tile is not full.
const HALF: usize = TILE / 2;

type Tile<T> = [[T; TILE]; TILE];

/// `to`\[column·`to_step` + row\] = `from`\[row·`from_step` + column\].
///
/// # Panics
/// If a slice is too short.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn transpose<T: Float>(
    from: &[T],
    from_step: usize,
    [rows, columns]: [usize; 2],
    to: &mut [T],
    to_step: usize,
) {
    let (height, width) = (TILE.min(rows), TILE.min(columns));
    // The last tile begins earlier where it would be cut: what two tiles have is written twice.
    for row in (0..rows).step_by(TILE) {
        let row = row.min(rows - height);
        for column in (0..columns).step_by(TILE) {
            let column = column.min(columns - width);
            let from = &from[row * from_step + column..];
            let to = &mut to[column * to_step + row..];
            // A copy of the tile, so that the compiler knows that reading and writing do not meet.
            let mut tile = [[T::ZERO; TILE]; TILE];
            if height == TILE && width == TILE {
                for i in 0..TILE {
                    tile[i].copy_from_slice(&from[i * from_step..][..TILE]);
                }
            } else {
                for i in 0..height {
                    let from = &from[i * from_step..];
                    match from.first_chunk() {
                        // What is beyond the last column is not written.
                        Some(from) => tile[i] = *from,
                        None => tile[i][..width].copy_from_slice(&from[..width]),
                    }
                }
            }
            match_target! {
                "x86_64+avx512f" => exchange_f32(&mut tile),
                "x86_64+avx2" => exchange_f32(&mut tile),
                _ => exchange(&mut tile),
            }
            if height == TILE && width == TILE {
                for j in 0..TILE {
                    to[j * to_step..][..TILE].copy_from_slice(&tile[j]);
                }
            } else {
                for j in 0..width {
                    let to = &mut to[j * to_step..][..height];
                    if height == TILE {
                        to.copy_from_slice(&tile[j]);
                    } else if height >= HALF {
                        to[..HALF].copy_from_slice(&tile[j][..HALF]);
                        to[height - HALF..].copy_from_slice(&tile[j][height - HALF..height]);
                    } else {
                        for (to, &value) in to.iter_mut().zip(&tile[j]) {
                            *to = value;
                        }
                    }
                }
            }
        }
    }
}

/// The definition.
#[inline(always)]
fn exchange<T: Float>(tile: &mut Tile<T>) {
    let copy = *tile;
    for i in 0..TILE {
        for j in 0..TILE {
            tile[j][i] = copy[i][j];
        }
    }
}

/// [`exchange`], of `f32` by shuffles: compilers make them of no loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
fn exchange_f32<T: Float>(tile: &mut Tile<T>) {
    match T::as_f32s(tile.as_flattened_mut()).and_then(|tile| tile.as_mut_array()) {
        Some(tile) => shuffle::exchange(tile),
        None => exchange(tile),
    }
}

#[cfg(target_arch = "x86_64")]
mod shuffle {
    use std::arch::x86_64::{
        __m256, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    use bytemuck::cast;

    use super::TILE;

    #[target_feature(enable = "avx")]
    #[inline]
    pub fn exchange(tile: &mut [f32; TILE * TILE]) {
        let mut rows: [__m256; TILE] = cast(*tile);
        // Pairs of rows, then fours, then all.
        let mut pairs = [rows[0]; 8];
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = [rows[0]; 8];
        for i in [0, 4] {
            for j in 0..2 {
                let (first, second) = (pairs[i + j], pairs[i + j + 2]);
                fours[i + 2 * j] = _mm256_shuffle_ps::<0x44>(first, second);
                fours[i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(first, second);
            }
        }
        for i in 0..4 {
            rows[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            rows[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        }
        *tile = cast(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_changes_places() {
        for [rows, columns] in [
            [0, 3],
            [1, 1],
            [3, 40],
            [16, 16],
            [17, 33],
            [40, 5],
            [8, 14],
        ] {
            let (from_step, to_step) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_step).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_step];
            transpose(&from, from_step, [rows, columns], &mut to, to_step);
            for (index, &value) in to.iter().enumerate() {
                let (column, row) = (index / to_step, index % to_step);
                let expected = if row < rows {
                    (row * from_step + column) as f32
                } else {
                    -1.0
                };
                assert_eq!(value, expected, "{rows}×{columns} at {row}, {column}");
            }
        }
    }
}
