//! What an output pixel of a resize is made of.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::size::Size;

/// What an output pixel of a resize is made of.
///
/// Output pixel i of n lies over the input's coordinate c = (i + ½)·s, where s is input length by
/// output length. It is Σ_j w((j + ½ − c)/t)·x_j / Σ_j w((j + ½ − c)/t) over the input pixels within
/// the filter's support, cut off at the border. With antialiasing t = max(s, 1): where the image
/// shrinks the filter widens, so that every input pixel counts. Without it t = 1.
///
/// Dialect: Pillow's `Image.resize` for 8 bits, to its version 12. Weights have 22 fractional bits;
/// each row is resampled first, then each column, rounded to 8 bits in between. (Pillow 13 takes
/// columns first where an image gets lower but not narrower, and in some other cases; that moves few
/// values, by a level, or two beside steep edges.) Pillow always antialiases; without it, bilinear is
/// PyTorch's `interpolate(antialias=False)`. Channels are filtered each for itself, opacity too (Pillow
/// multiplies colours by it first). Source of the cubic: Keys, "Cubic Convolution Interpolation for
/// Digital Image Processing" (1981).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The input pixel that holds the output pixel's centre (PyTorch's `nearest-exact`).
    Nearest,
    /// w(t) = 1 − |t|, of support 1.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −½, of support 2.
    Bicubic,
    /// w(t) = sinc(t)·sinc(t/3), of support 3.
    Lanczos,
}

impl Filter {
    /// How far from 0 w reaches.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// w(t).
    pub(crate) fn weight(self, t: f64) -> f64 {
        let t = t.abs();
        match self {
            Self::Nearest => f64::from(u8::from(t < 0.5)),
            Self::Bilinear => f64::max(0.0, 1.0 - t),
            Self::Bicubic => cubic(-0.5, t),
            Self::Lanczos if t < 3.0 => sinc(t) * sinc(t / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// (a + 2)t³ − (a + 3)t² + 1 up to 1, a(t³ − 5t² + 8t − 4) up to 2, then 0.
fn cubic(a: f64, t: f64) -> f64 {
    if t < 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        a * (((t - 5.0) * t + 8.0) * t - 4.0)
    } else {
        0.0
    }
}

fn sinc(t: f64) -> f64 {
    if t == 0.0 {
        1.0
    } else {
        (PI * t).sin() / (PI * t)
    }
}

/// Checks that a resize of this to that stays within the limits, the step in between included.
pub(super) fn check(from: Size, to: Size) -> Result<Size, String> {
    to.checked()?;
    let between = Size::new(to.width, from.height).checked();
    between.map_err(|problem| format!("{from} to {to} goes by way of {problem}"))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_the_limits_are_refused() {
        let (wide, high) = (Size::new(65_535, 1), Size::new(1, 65_535));
        assert!(check(wide, high).is_ok()); // by way of 1×1
        let error = check(high, wide).unwrap_err();
        assert!(
            error.contains("goes by way of") && error.contains("65535×65535"),
            "{error}"
        );
        assert!(check(wide, Size::new(0, 1)).is_err());
    }
}
