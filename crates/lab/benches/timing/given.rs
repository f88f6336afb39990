//! A backward from a gradient that is at hand. Burn's own begins by making ones of the output's shape, which would count
//! as the layer's time.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

#[backend_extension(Flex, Autodiff)]
pub trait GivenGradient: Backend {
    fn receive(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        start: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// `start`, a tensor of one value: its backward gives `gradient` to `y`.
pub fn receive<const D: usize>(y: Tensor<D>, gradient: Tensor<D>, start: Tensor<1>) -> Tensor<1> {
    let [y, gradient] = [y, gradient].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as GivenGradient>::receive(
        y,
        gradient,
        start.into_dispatch(),
    ))
}

impl GivenGradient for Flex {
    fn receive(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        start: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        start
    }
}

#[derive(Debug)]
struct ReceiveBackward;

impl<B: Backend> Backward<B, 1> for ReceiveBackward {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        let parent = parent.expect("the layer's output is tracked");
        gradients.register::<B>(parent.id, ops.state);
    }
}

impl<B: GivenGradient, C: CheckpointStrategy> GivenGradient for Autodiff<B, C> {
    fn receive(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        start: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let start = start.into_primitive();
        match ReceiveBackward
            .prepare::<C>([y.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(gradient.into_primitive(), start),
            OpsKind::UnTracked(prep) => prep.finish(start),
        }
    }
}
