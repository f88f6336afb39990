//! Convolution, batch norm, activation and pooling as one operation. It has kernels on the CPU alone; elsewhere
//! the layers run one after another.

mod autodiff;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::ConvBlock;

/// The operation, its output of the input's type; statistics and what is kept for the backward of the type that
/// the input is computed in.
#[allow(clippy::type_complexity, reason = "what the forward returns")]
#[allow(
    clippy::too_many_arguments,
    reason = "the backward's: the forward's, and what it keeps"
)]
#[backend_extension(Flex, Autodiff)]
pub trait ConvBlockOperations: Backend {
    /// Of images `[N, C, height, width]`: the output, mean, variance and reciprocal deviation of each channel, the
    /// convolution's output, and the places of the windows' winners (empty where nothing is pooled).
    fn conv_block(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        block: ConvBlock,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
    );

    /// The gradients by x, weight, scale and shift; the first two are empty where they are not wanted.
    fn conv_block_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        convolved: FloatTensor<Self>,
        winners: IntTensor<Self>,
        block: ConvBlock,
        wanted: [bool; 2],
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

/// What a block gives in training.
pub(crate) struct ConvBlockOutput {
    pub output: Tensor<4>,
    /// Per channel of the convolution's output.
    pub mean: Tensor<1>,
    /// Biased.
    pub variance: Tensor<1>,
}

/// A block with statistics of the batch, on a device that has kernels.
pub(crate) fn conv_block(
    x: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    block: ConvBlock,
) -> ConvBlockOutput {
    let (output, mean, variance, ..) = <Dispatch as ConvBlockOperations>::conv_block(
        x.into_dispatch(),
        weight.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        block,
    );
    ConvBlockOutput {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}
