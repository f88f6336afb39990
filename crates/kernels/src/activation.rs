//! The activation that a norm can apply in its last pass over memory.

use serde::{Deserialize, Serialize};

use crate::Float;

/// What follows a norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// y = max(x, 0), and NaN for NaN.
    Relu,
}

/// An activation known at compile time, so that the inner loops have no branch on it.
pub(crate) trait Activate: Copy + Sync {
    fn forward<T: Float>(self, y: T) -> T;
    /// The gradient by the activation's input `y`.
    fn backward<T: Float>(self, y: T, gradient: T) -> T;
}

#[derive(Clone, Copy)]
pub(crate) struct Identity;

impl Activate for Identity {
    #[inline(always)]
    fn forward<T: Float>(self, y: T) -> T {
        y
    }

    #[inline(always)]
    fn backward<T: Float>(self, _: T, gradient: T) -> T {
        gradient
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Activate for Relu {
    // Both compare with `<=`, which is false for NaN: it passes, as in PyTorch. (`f32::max` would
    // hide it.)
    #[inline(always)]
    fn forward<T: Float>(self, y: T) -> T {
        if y <= T::ZERO { T::ZERO } else { y }
    }

    #[inline(always)]
    fn backward<T: Float>(self, y: T, gradient: T) -> T {
        if y <= T::ZERO { T::ZERO } else { gradient }
    }
}

/// Calls `$body` with `$activation` bound to the compile-time form of the value.
macro_rules! with_activation {
    ($value:expr, |$activation:ident| $body:expr) => {
        match $value {
            $crate::Activation::None => {
                let $activation = $crate::activation::Identity;
                $body
            }
            $crate::Activation::Relu => {
                let $activation = $crate::activation::Relu;
                $body
            }
        }
    };
}
pub(crate) use with_activation;
