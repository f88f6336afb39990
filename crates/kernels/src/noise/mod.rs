//! Noise kernels: masks that are computed where they are used.

mod mask;

pub use mask::{Dropout, Scaling, dropout, keeps};
