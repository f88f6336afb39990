//! Dropout's mask: a function of a key and an element's index.
//!
//! Element i is dropped iff word i mod 4 of the key's Philox block i div 4 is below ⌊p·2³²⌋, both
//! as integers. So forward and backward compute the same mask and none is stored, parts of a
//! tensor can be computed by any number of threads, and a GPU can do the same.

use evenkeel_random::{Key, philox4x32_lanes};
use serde::{Deserialize, Serialize};

use crate::Float;
use crate::output::{Grid, Writer, build};
use multiversion::multiversion;

/// Where the mean is kept right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// In training: kept values are multiplied by 1/(1 − p), and the test takes values as they are.
    #[default]
    Inverted,
    /// At test: values are multiplied by 1 − p, and training keeps them as they are.
    Classic,
}

/// A mask and the factor of what it keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: Key,
    /// Words below this one are dropped.
    threshold: u32,
    kept: f64,
}

impl Dropout {
    /// Drops each element with probability `prob`.
    ///
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn new(key: Key, prob: f64, scaling: Scaling) -> Self {
        assert!(
            (0.0..=1.0).contains(&prob),
            "prob: expected 0 to 1, got {prob}"
        );
        // As an integer; at p = 1 the threshold 2³² does not fit, and the factor 0 of what is kept
        // gives the zeros (and no division by zero).
        let threshold = (prob * 4_294_967_296.0) as u32;
        let kept = match scaling {
            _ if prob == 1.0 => 0.0,
            Scaling::Inverted => 1.0 / (1.0 - prob),
            Scaling::Classic => 1.0,
        };
        Self {
            key,
            threshold,
            kept,
        }
    }
}

/// Whether element `index` is kept: the definition.
pub fn keeps(dropout: &Dropout, index: u64) -> bool {
    let word = dropout.key.block(index / 4)[(index % 4) as usize];
    word >= dropout.threshold && dropout.kept != 0.0
}

/// Blocks computed side by side: a vector of lanes for each of the four words.
const BLOCKS: usize = 32;
/// Elements that they make.
const GROUP: usize = 4 * BLOCKS;
/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 15;

/// y\[i\] = x\[i\] times the factor of element `offset` + i: 0 if dropped, 1/(1 − p) or 1 if kept.
/// The gradient by x is the same function of the gradient by y.
///
/// It is a product, so a dropped NaN or infinity gives NaN, as in PyTorch.
pub fn dropout<T: Float>(x: &[T], dropout: &Dropout, offset: u64) -> Vec<T> {
    let (output, _) = build(Grid::chunks(x.len(), CHUNK), |_, elements, writer| {
        let offset = offset + elements.start as u64;
        fill(&x[elements], dropout, offset, writer);
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill<T: Float>(x: &[T], dropout: &Dropout, offset: u64, writer: &mut Writer<'_, T>) {
    let kept = T::from_f64(dropout.kept);
    let single = |x: &[T], offset: u64, writer: &mut Writer<'_, T>| {
        writer.append(x.len(), |i| {
            x[i] * if keeps(dropout, offset + i as u64) {
                kept
            } else {
                T::ZERO
            }
        });
    };
    let head = ((4 - offset % 4) % 4).min(x.len() as u64) as usize;
    if head > 0 {
        single(&x[..head], offset, writer);
    }
    let (groups, tail) = x[head..].as_chunks::<GROUP>();
    let first_block = (offset + head as u64) / 4;
    for (group, x) in groups.iter().enumerate() {
        let words = words(dropout.key, first_block + (group * BLOCKS) as u64);
        writer.append(GROUP, |i| {
            x[i] * if words[i] >= dropout.threshold {
                kept
            } else {
                T::ZERO
            }
        });
    }
    if !tail.is_empty() {
        single(tail, offset + (x.len() - tail.len()) as u64, writer);
    }
}

/// The words of the blocks from `first_block` on, in order.
#[inline(always)]
fn words(key: Key, first_block: u64) -> [u32; GROUP] {
    let (mut low, mut high) = ([0; BLOCKS], [0; BLOCKS]);
    for (block, (low, high)) in (first_block..).zip(low.iter_mut().zip(&mut high)) {
        (*low, *high) = (block as u32, (block >> 32) as u32);
    }
    let [a, b, c, d] = philox4x32_lanes(key.words(), [low, high, [0; BLOCKS], [0; BLOCKS]]);
    let mut words = [0; GROUP];
    for (i, words) in words.as_chunks_mut().0.iter_mut().enumerate() {
        *words = [a[i], b[i], c[i], d[i]];
    }
    words
}
