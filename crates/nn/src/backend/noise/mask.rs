//! Masks on GPUs: the one kind of noise that has kernels there, which the composed operations use.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::Dropout;

use super::autodiff::Again;

/// Fused masks on GPUs; those on the CPU are [`NoiseOperations`](super::NoiseOperations).
#[backend_extension(Cube, Autodiff)]
pub trait MaskOperations: Backend {
    /// Multiplication by a mask that is computed, never stored, from its element `first` on, which must be 0 where
    /// runs share an element. Its own gradient.
    fn mask(x: FloatTensor<Self>, dropout: Dropout, first: u64) -> FloatTensor<Self>;
}

/// Multiplies by the mask that `dropout` names, from its element `first` on, on a GPU that has kernels for `x`.
pub(super) fn mask<const D: usize>(x: Tensor<D>, dropout: Dropout, first: u64) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as MaskOperations>::mask(
        x.into_dispatch(),
        dropout,
        first,
    ))
}

#[derive(Debug)]
struct MaskBackward;

impl<B: MaskOperations> Backward<B, 1> for MaskBackward {
    type State = (Dropout, u64);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (dropout, first) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::mask(gradient, dropout, first)
        });
    }
}

impl<B: MaskOperations, C: CheckpointStrategy> MaskOperations for Autodiff<B, C> {
    fn mask(x: FloatTensor<Self>, dropout: Dropout, first: u64) -> FloatTensor<Self> {
        let forward = move |[x]: [FloatTensor<B>; 1]| B::mask(x, dropout, first);
        match MaskBackward
            .prepare::<C>([x.node()])
            .memory_bound()
            .retro_forward(Again::<B, _, 1>::new([x.id()], forward))
            .parents([&x])
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((dropout, first), forward([x.into_primitive()])),
            OpsKind::UnTracked(prep) => prep.finish(forward([x.into_primitive()])),
        }
    }
}
