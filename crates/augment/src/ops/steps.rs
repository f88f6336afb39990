//! What operations that choose among others draw: the chosen ones' parameters, in order.

use serde::{Deserialize, Serialize};

use super::{Apply, Parameters};
use crate::Image;
use crate::size::Size;

/// Parameters applied one after another; none leave the image as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// In order.
    pub steps: Vec<Parameters>,
}

impl Steps {
    /// See [`Apply::check`].
    pub(super) fn check_all(steps: &[Parameters], size: Size) -> Result<Size, String> {
        let mut steps = steps.iter().enumerate();
        steps.try_fold(size, |size, (step, parameters)| {
            let output = parameters.check(size);
            output.map_err(|problem| format!("steps[{step}] ({}): {problem}", parameters.name()))
        })
    }
}

impl Apply for Steps {
    fn check(&self, size: Size) -> Result<Size, String> {
        Self::check_all(&self.steps, size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        for parameters in &self.steps {
            parameters.apply(image, scratch);
        }
    }

    fn steps(&self) -> Option<&[Parameters]> {
        Some(&self.steps)
    }

    fn nested(&self) -> Vec<&[Parameters]> {
        vec![&self.steps]
    }
}
