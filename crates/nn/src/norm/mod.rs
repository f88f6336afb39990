//! Normalization layers.

mod affine;
mod any;
mod batch;
mod group;
mod instance;
mod layer;
mod recalibrate;
mod replicas;
mod rows;
mod running;

pub use any::{Norm, NormKind, Norms, replace_batch_norms};
pub use batch::{BatchNorm, BatchNormConfig, Dispersion};
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
pub use recalibrate::recalibrate_exactly;
pub use replicas::{BatchPart, Replica, in_process};
pub use running::RunningAverage;

pub(crate) use recalibrate::{LayerByLayer, Turn};
