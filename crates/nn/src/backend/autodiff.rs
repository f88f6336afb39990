//! The operations under Burn's autodiff: what each saves for its backward, and the backward.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};
use evenkeel_kernels::{Activation, Channels, Conv2d, Dropout, Planes, RowNorm, Window};

use super::{Operations, planes};

/// What a batch norm's backward needs besides its input and parameters.
type Saved<B> = (FloatTensor<B>, FloatTensor<B>);

#[derive(Debug, Clone)]
struct NormState<B: Backend> {
    x: NodeId,
    scale: NodeId,
    shift: NodeId,
    /// Mean and reciprocal deviation.
    statistics: Saved<B>,
    norm: Norm,
}

/// Where the statistics came from: constants have no gradient of their own.
#[derive(Debug, Clone, Copy)]
enum Norm {
    OfTheBatch(Activation),
    Constant(Activation),
    OfTheRows(RowNorm),
}

#[derive(Debug)]
struct NormBackward;

impl<B: Operations> Backward<B, 3> for NormBackward {
    type State = NormState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let NormState {
            x,
            scale,
            shift,
            statistics: (mean, r),
            norm,
        } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let scale = checkpointer.retrieve_node_output::<FloatTensor<B>>(scale);
        let shift = checkpointer.retrieve_node_output::<FloatTensor<B>>(shift);
        let (x, scale, shift) = match norm {
            Norm::OfTheBatch(activation) => {
                B::channel_norm_backward(x, gradient, mean, r, scale, shift, activation)
            }
            Norm::Constant(activation) => {
                B::channel_norm_apply_backward(x, gradient, mean, r, scale, shift, activation)
            }
            Norm::OfTheRows(norm) => B::row_norm_backward(x, gradient, mean, r, scale, shift, norm),
        };
        for (parent, gradient) in ops.parents.into_iter().zip([x, scale, shift]) {
            if let Some(node) = parent {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: Operations> Backward<B, 1> for DropoutBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Dropout, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::dropout(gradient, ops.state)
        });
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: Operations> Backward<B, 1> for PoolBackward {
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
struct ConvState {
    x: NodeId,
    weight: NodeId,
    bias_dtype: DType,
    conv: Conv2d,
}

#[derive(Debug)]
struct ConvBackward;

impl<B: Operations> Backward<B, 3> for ConvBackward {
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
            gradients.register::<B>(node.id, B::float_cast(dweight, weight_dtype.into()));
        }
        if let Some(node) = of_bias {
            let dbias = B::convolution_bias_gradient(gradient, conv);
            gradients.register::<B>(node.id, B::float_cast(dbias, bias_dtype.into()));
        }
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

impl<B: Operations> Backward<B, 1> for MaxPoolBackward {
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

impl<B: Operations, C: CheckpointStrategy> Operations for Autodiff<B, C> {
    fn channel_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let nodes = [x.node(), scale.node(), shift.node()];
        let (output, mean, variance, reciprocal_deviation);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let checkpoints = (
                    prep.checkpoint(&x),
                    prep.checkpoint(&scale),
                    prep.checkpoint(&shift),
                );
                let forward;
                (forward, mean, variance, reciprocal_deviation) = B::channel_norm(
                    x.into_primitive(),
                    scale.into_primitive(),
                    shift.into_primitive(),
                    epsilon,
                    activation,
                );
                let statistics = (mean.clone(), reciprocal_deviation.clone());
                let state = norm_state(checkpoints, statistics, Norm::OfTheBatch(activation));
                output = prep.finish(state, forward);
            }
            OpsKind::UnTracked(prep) => {
                let forward;
                (forward, mean, variance, reciprocal_deviation) = B::channel_norm(
                    x.into_primitive(),
                    scale.into_primitive(),
                    shift.into_primitive(),
                    epsilon,
                    activation,
                );
                output = prep.finish(forward);
            }
        }
        let constant = <Self as burn::backend::AutodiffBackend>::from_inner;
        (
            output,
            constant(mean),
            constant(variance),
            constant(reciprocal_deviation),
        )
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let statistics = (mean.into_primitive(), reciprocal_deviation.into_primitive());
        let apply = |x: FloatTensor<Self>, scale: FloatTensor<Self>, shift: FloatTensor<Self>| {
            let (mean, reciprocal_deviation) = statistics.clone();
            let (scale, shift) = (scale.into_primitive(), shift.into_primitive());
            B::channel_norm_apply(
                x.into_primitive(),
                mean,
                reciprocal_deviation,
                scale,
                shift,
                activation,
            )
        };
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let checkpoints = (
                    prep.checkpoint(&x),
                    prep.checkpoint(&scale),
                    prep.checkpoint(&shift),
                );
                let output = apply(x, scale, shift);
                let norm = Norm::Constant(activation);
                prep.finish(norm_state(checkpoints, statistics, norm), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(apply(x, scale, shift)),
        }
    }

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), scale.node(), shift.node()];
        let forward = |x: FloatTensor<Self>, scale: FloatTensor<Self>, shift: FloatTensor<Self>| {
            let (scale, shift) = (scale.into_primitive(), shift.into_primitive());
            B::row_norm(x.into_primitive(), scale, shift, norm)
        };
        let (output, mean, reciprocal_deviation) =
            match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let checkpoints = (
                        prep.checkpoint(&x),
                        prep.checkpoint(&scale),
                        prep.checkpoint(&shift),
                    );
                    let (output, mean, r) = forward(x, scale, shift);
                    let statistics = (mean.clone(), r.clone());
                    let state = norm_state(checkpoints, statistics, Norm::OfTheRows(norm));
                    (prep.finish(state, output), mean, r)
                }
                OpsKind::UnTracked(prep) => {
                    let (output, mean, r) = forward(x, scale, shift);
                    (prep.finish(output), mean, r)
                }
            };
        let constant = <Self as burn::backend::AutodiffBackend>::from_inner;
        (output, constant(mean), constant(reciprocal_deviation))
    }

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

    fn channel_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        no_second_derivative("channel_norm")
    }

    fn channel_norm_apply_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        no_second_derivative("channel_norm_apply")
    }

    fn row_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        no_second_derivative("row_norm")
    }

    fn global_avg_pool_backward(_: FloatTensor<Self>, _: Channels) -> FloatTensor<Self> {
        no_second_derivative("global_avg_pool")
    }
}

fn norm_state<B: Backend>(
    (x, scale, shift): (NodeId, NodeId, NodeId),
    statistics: Saved<B>,
    norm: Norm,
) -> NormState<B> {
    NormState {
        x,
        scale,
        shift,
        statistics,
        norm,
    }
}

fn no_second_derivative(operation: &str) -> ! {
    panic!(
        "evenkeel: the backward of {operation} cannot itself be differentiated; Burn's autodiff \
         runs it on the inner backend, so it was called directly on an autodiff tensor"
    )
}
