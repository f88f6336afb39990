//! Numbers that may be none: JSON knows neither NaN nor infinity, serde writes them as `null`.

use serde::{Deserialize, Deserializer};

/// Reads `null` as NaN, so that whatever was written can be read.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same for an interval's ends.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let ends = <[Option<f64>; 2]>::deserialize(deserializer)?;
    Ok(ends.map(|end| end.unwrap_or(f64::NAN)))
}
