//! DropConnect: a mask over weights in training, mean weights, a Gaussian or Monte Carlo at test.

mod conv;
mod linear;
mod mean_weights;
mod pre_activation;

pub use conv::{DropConnectConv2d, DropConnectConv2dConfig};
pub use linear::{DropConnectLinear, DropConnectLinearConfig};
pub use pre_activation::PreActivation;
