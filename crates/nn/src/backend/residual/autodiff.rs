//! A residual addition with an activation under Burn's autodiff: only its output is kept. (Burn's ReLU keeps the sum.)

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::DType;
use evenkeel_kernels::Activation;

use super::ResidualOperations;
use crate::backend::{cast, no_second_derivative};

#[derive(Debug, Clone)]
struct AddActivatedState<B: Backend> {
    output: FloatTensor<B>,
    activation: Activation,
    /// Of x and the residual.
    dtypes: [DType; 2],
}

#[derive(Debug)]
struct AddActivatedBackward;

impl<B: ResidualOperations> Backward<B, 2> for AddActivatedBackward {
    type State = AddActivatedState<B>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let AddActivatedState {
            output,
            activation,
            dtypes,
        } = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        // Both parents have the same.
        let gradient = B::add_activated_backward(gradient, output, activation);
        for (parent, dtype) in ops.parents.into_iter().zip(dtypes) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, cast::<B>(gradient.clone(), dtype));
            }
        }
    }
}

impl<B: ResidualOperations, C: CheckpointStrategy> ResidualOperations for Autodiff<B, C> {
    fn add_activated(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let dtypes = [x.dtype(), residual.dtype()];
        let prep = AddActivatedBackward
            .prepare::<C>([x.node(), residual.node()])
            .compute_bound()
            .stateful();
        let output = B::add_activated(x.into_primitive(), residual.into_primitive(), activation);
        match prep {
            OpsKind::Tracked(prep) => {
                let state = AddActivatedState {
                    output: output.clone(),
                    activation,
                    dtypes,
                };
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn add_activated_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> FloatTensor<Self> {
        no_second_derivative("add_activated")
    }
}
