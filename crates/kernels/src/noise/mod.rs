//! Noise kernels: masks and factors that are computed where they are used.

mod block;
mod connect;
mod gaussian;
mod mask;
mod mix;
mod normal;
mod words;

pub use block::{DropBlock, drop_block};
pub use connect::{
    DropConnect, drop_connect, drop_connect_input_gradient, drop_connect_weight_gradient,
};
pub use gaussian::{GaussianDropout, gaussian_dropout};
pub use mask::{Dropout, Scaling, dropout, dropout_add, dropout_around, keeps};
pub use mix::{Branch, Shares, mix, share};
pub use normal::normals;

use std::borrow::Cow;

use crate::Float;

/// Factors that elements are multiplied by, as a function of a key: never stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Factors {
    /// A mask.
    Dropout(Dropout),
    /// Normal numbers around 1.
    Gaussian(GaussianDropout),
    /// A mask of squares.
    Blocks(DropBlock),
}

/// y\[i\] = x\[i\] times factor i. Its gradient is the same function.
pub fn multiply<'a, T: Float>(x: impl Into<Cow<'a, [T]>>, factors: &Factors) -> Vec<T> {
    match factors {
        Factors::Dropout(mask) => dropout(x, mask, 0),
        Factors::Gaussian(gaussian) => gaussian_dropout(x, gaussian),
        Factors::Blocks(blocks) => drop_block(x, blocks),
    }
}
