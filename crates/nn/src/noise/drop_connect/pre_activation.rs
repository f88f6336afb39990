//! The distribution of a unit's sum over masks, as a Gaussian of its moments.

use burn::tensor::{Tensor, TensorData};
use evenkeel_kernels::normals;

use crate::Pass;
use crate::backend::computed_in;

/// Mean and variance of sums over the masks of DropConnect, each a normal number by the central limit
/// theorem.
#[derive(Clone, Debug)]
pub struct PreActivation<const D: usize> {
    /// In the shape of the layer's output.
    pub mean: Tensor<D>,
    /// The same.
    pub variance: Tensor<D>,
}

impl<const D: usize> PreActivation<D> {
    /// Normal numbers of these moments, independent of one another; the mean where the pass draws no
    /// noise. The paper averages the outputs of the rest of the net over such draws.
    #[must_use]
    pub fn draw(&self, pass: &Pass) -> Tensor<D> {
        let Some(key) = pass.next_noise() else {
            return self.mean.clone();
        };
        let shape = self.mean.shape();
        let numbers = TensorData::new(normals(key, shape.num_elements()), shape);
        let dtype = computed_in(self.mean.dtype());
        let z = Tensor::from_data(numbers, (&self.mean.device(), dtype.into()));
        let spread = self.variance.clone().cast(dtype).sqrt() * z;
        (self.mean.clone().cast(dtype) + spread).cast(self.mean.dtype())
    }
}
