//! The block under Burn's autodiff. Of what lies between its input and its output it keeps the convolution's
//! output alone, and a byte for each pooled value.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, Backend};
use evenkeel_kernels::ConvBlock;

use super::ConvBlockOperations;
use crate::backend::no_second_derivative;

#[derive(Debug, Clone)]
struct BlockState<B: Backend> {
    /// x, weight, scale and shift.
    inputs: [NodeId; 4],
    /// Mean, reciprocal deviation, the convolution's output.
    kept: [FloatTensor<B>; 3],
    winners: IntTensor<B>,
    block: ConvBlock,
}

#[derive(Debug)]
struct BlockBackward;

impl<B: ConvBlockOperations> Backward<B, 4> for BlockBackward {
    type State = BlockState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let BlockState {
            inputs,
            kept: [mean, r, convolved],
            winners,
            block,
        } = ops.state;
        let [x, weight, scale, shift] =
            inputs.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        // The first layer's input has no gradient, a frozen convolution's weight none.
        let wanted = [ops.parents[0].is_some(), ops.parents[1].is_some()];
        let (x, weight, scale, shift) = B::conv_block_backward(
            x, gradient, weight, scale, shift, mean, r, convolved, winners, block, wanted,
        );
        for (parent, gradient) in ops.parents.into_iter().zip([x, weight, scale, shift]) {
            if let Some(node) = parent {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ConvBlockOperations, C: CheckpointStrategy> ConvBlockOperations for Autodiff<B, C> {
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
    ) {
        let inputs = [x, weight, scale, shift];
        let nodes = inputs.each_ref().map(|input| input.node());
        let forward = |inputs: [FloatTensor<Self>; 4]| {
            let [x, weight, scale, shift] = inputs.map(FloatTensor::<Self>::into_primitive);
            B::conv_block(x, weight, scale, shift, block)
        };
        let (output, (mean, variance, r, convolved, winners)) =
            match BlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let ids = inputs.each_ref().map(|input| prep.checkpoint(input));
                    let (output, mean, variance, r, convolved, winners) = forward(inputs);
                    let state = BlockState {
                        inputs: ids,
                        kept: [mean.clone(), r.clone(), convolved.clone()],
                        winners: winners.clone(),
                        block,
                    };
                    (
                        prep.finish(state, output),
                        (mean, variance, r, convolved, winners),
                    )
                }
                OpsKind::UnTracked(prep) => {
                    let (output, mean, variance, r, convolved, winners) = forward(inputs);
                    (prep.finish(output), (mean, variance, r, convolved, winners))
                }
            };
        let [mean, variance, r, convolved] =
            [mean, variance, r, convolved].map(<Self as AutodiffBackend>::from_inner);
        (output, mean, variance, r, convolved, winners)
    }

    fn conv_block_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: ConvBlock,
        _: [bool; 2],
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        no_second_derivative("a convolution block")
    }
}
