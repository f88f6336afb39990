//! Rows to columns.

use multiversion::multiversion;

use crate::Float;

/// Rows and columns that are exchanged at a time: a cache line of `f32`.
const TILE: usize = 16;

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
    let whole = |size: usize| size - size % TILE;
    for row in (0..whole(rows)).step_by(TILE) {
        for column in (0..whole(columns)).step_by(TILE) {
            // A copy of the tile, so that the compiler knows that reading and writing do not meet.
            let mut tile = [[T::ZERO; TILE]; TILE];
            for i in 0..TILE {
                tile[i].copy_from_slice(&from[(row + i) * from_step + column..][..TILE]);
            }
            for j in 0..TILE {
                let to = &mut to[(column + j) * to_step + row..][..TILE];
                for i in 0..TILE {
                    to[i] = tile[i][j];
                }
            }
        }
        for column in whole(columns)..columns {
            let to = &mut to[column * to_step + row..][..TILE];
            for i in 0..TILE {
                to[i] = from[(row + i) * from_step + column];
            }
        }
    }
    for row in whole(rows)..rows {
        let from = &from[row * from_step..][..columns];
        for column in 0..columns {
            to[column * to_step + row] = from[column];
        }
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
