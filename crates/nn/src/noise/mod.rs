//! Layers that draw noise in training and take its average at test.

mod dropout;

pub use dropout::{Dropout, DropoutConfig};
