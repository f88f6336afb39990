//! Tensors on the host, for what is computed there in `f64`.

use burn::tensor::Tensor;

/// The values, in order.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().iter::<f64>().collect()
}
