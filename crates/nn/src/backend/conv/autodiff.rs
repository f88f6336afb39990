//! Convolution under Burn's autodiff: what it saves for its backward, and the backward.

use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use evenkeel_kernels::{Activation, BlockPool, Conv2d, ConvBlock};

use super::ConvOperations;
use crate::backend::pool::PoolOperations;
use crate::backend::{cast, no_second_derivative};

#[derive(Debug, Clone)]
struct ConvState {
    x: NodeId,
    weight: NodeId,
    bias_dtype: DType,
    conv: Conv2d,
}

#[derive(Debug)]
struct ConvBackward;

impl<B: ConvOperations> Backward<B, 3> for ConvBackward {
    type State = ConvState;

    fn backward(
        self,
        ops: Ops<ConvState, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ConvState {
            x,
            weight,
            bias_dtype,
            conv,
        } = ops.state;
        // Both are retrieved whether they are needed or not: the checkpointer counts.
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let weight_dtype = weight.dtype();
        // Only what somebody asks for is computed: the first layer's input has no gradient.
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(node) = of_x {
            let dx = B::convolution_input_gradient(gradient.clone(), weight, conv);
            gradients.register::<B>(node.id, dx);
        }
        if let Some(node) = of_weight {
            let dweight = B::convolution_weight_gradient(x, gradient.clone(), conv);
            gradients.register::<B>(node.id, cast::<B>(dweight, weight_dtype));
        }
        if let Some(node) = of_bias {
            let dbias = B::convolution_bias_gradient(gradient, conv);
            gradients.register::<B>(node.id, cast::<B>(dbias, bias_dtype));
        }
    }
}

impl<B: ConvOperations + PoolOperations, C: CheckpointStrategy> ConvOperations for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let bias_dtype = bias.dtype();
        let forward = |x: FloatTensor<Self>, weight: FloatTensor<Self>| {
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            B::convolution(x, weight, bias.into_primitive(), conv)
        };
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = ConvState {
                    x: prep.checkpoint(&x),
                    weight: prep.checkpoint(&weight),
                    bias_dtype,
                    conv,
                };
                prep.finish(state, forward(x, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, weight)),
        }
    }

    fn folded_block(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        block: ConvBlock,
    ) -> FloatTensor<Self> {
        let y = Self::convolution(x, weight, bias, block.conv);
        let y = match block.activation {
            Activation::None => y,
            Activation::Relu => Self::relu(y),
        };
        match block.pool {
            None => y,
            Some(BlockPool::Max(window)) => Self::max_pool(y, window).0,
            Some(BlockPool::GlobalAvg) => {
                let shape = Shape::new([block.conv.examples, block.conv.channels[1], 1, 1]);
                Self::float_reshape(Self::global_avg_pool(y), shape)
            }
        }
    }

    fn convolution_input_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Conv2d,
    ) -> FloatTensor<Self> {
        no_second_derivative("convolution")
    }

    fn convolution_weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Conv2d,
    ) -> FloatTensor<Self> {
        no_second_derivative("convolution")
    }

    fn convolution_bias_gradient(_: FloatTensor<Self>, _: Conv2d) -> FloatTensor<Self> {
        no_second_derivative("convolution")
    }
}
