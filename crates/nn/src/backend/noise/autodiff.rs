//! Noise under Burn's autodiff: the key is saved, never the mask.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use evenkeel_kernels::Dropout;

use super::NoiseOperations;

#[derive(Debug)]
struct DropoutBackward;

impl<B: NoiseOperations> Backward<B, 1> for DropoutBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Dropout, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::dropout(gradient, ops.state)
        });
    }
}

impl<B: NoiseOperations, C: CheckpointStrategy> NoiseOperations for Autodiff<B, C> {
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        match DropoutBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(dropout, B::dropout(x.into_primitive(), dropout)),
            OpsKind::UnTracked(prep) => prep.finish(B::dropout(x.into_primitive(), dropout)),
        }
    }
}
