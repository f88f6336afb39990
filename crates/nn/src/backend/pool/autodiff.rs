//! Pooling under Burn's autodiff: what each saves for its backward, and the backward.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;
use evenkeel_kernels::{AvgPool, Channels, Planes, Window};

use super::{PoolOperations, planes};
use crate::backend::no_second_derivative;

#[derive(Debug)]
struct PoolBackward;

impl<B: PoolOperations> Backward<B, 1> for PoolBackward {
    type State = Shape;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let shape = ops.state;
        let channels = Channels {
            n: shape[0],
            c: shape[1],
            s: shape[2..].iter().product(),
        };
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::float_reshape(B::global_avg_pool_backward(gradient, channels), shape)
        });
    }
}

#[derive(Debug, Clone)]
struct MaxPoolState<B: Backend> {
    shape: Shape,
    window: Window,
    /// Places in the windows, a byte each: the input is not kept.
    winners: IntTensor<B>,
}

#[derive(Debug)]
struct MaxPoolBackward;

impl<B: PoolOperations> Backward<B, 1> for MaxPoolBackward {
    type State = MaxPoolState<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let MaxPoolState {
            shape,
            window,
            winners,
        } = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            let gradient = B::max_pool_backward(gradient, winners, planes(&shape), window);
            B::float_reshape(gradient, shape)
        });
    }
}

#[derive(Debug)]
struct AvgPoolBackward;

impl<B: PoolOperations> Backward<B, 1> for AvgPoolBackward {
    type State = (Shape, AvgPool);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (shape, pool) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            let gradient = B::avg_pool_backward(gradient, planes(&shape), pool);
            B::float_reshape(gradient, shape)
        });
    }
}

impl<B: PoolOperations, C: CheckpointStrategy> PoolOperations for Autodiff<B, C> {
    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.shape();
        match PoolBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(shape, B::global_avg_pool(x.into_primitive())),
            OpsKind::UnTracked(prep) => prep.finish(B::global_avg_pool(x.into_primitive())),
        }
    }

    fn global_avg_pool_backward(_: FloatTensor<Self>, _: Channels) -> FloatTensor<Self> {
        no_second_derivative("global_avg_pool")
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> (FloatTensor<Self>, IntTensor<Self>) {
        let shape = x.shape();
        let node = x.node();
        let (output, winners) = B::max_pool(x.into_primitive(), window);
        let output = match MaxPoolBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let winners = winners.clone();
                prep.finish(
                    MaxPoolState {
                        shape,
                        window,
                        winners,
                    },
                    output,
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (output, winners)
    }

    fn max_pool_backward(
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: Planes,
        _: Window,
    ) -> FloatTensor<Self> {
        no_second_derivative("max_pool")
    }

    fn avg_pool(x: FloatTensor<Self>, pool: AvgPool) -> FloatTensor<Self> {
        let state = (x.shape(), pool);
        match AvgPoolBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(state, B::avg_pool(x.into_primitive(), pool)),
            OpsKind::UnTracked(prep) => prep.finish(B::avg_pool(x.into_primitive(), pool)),
        }
    }

    fn avg_pool_backward(_: FloatTensor<Self>, _: Planes, _: AvgPool) -> FloatTensor<Self> {
        no_second_derivative("avg_pool")
    }
}
