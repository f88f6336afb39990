//! Norms under Burn's autodiff: what each saves for its backward, and the backward.

use burn::backend::Backend;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use evenkeel_kernels::{Activation, RowNorm};

use super::{Norm, NormOperations};
use crate::backend::no_second_derivative;

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

#[derive(Debug)]
struct NormBackward;

impl<B: NormOperations> Backward<B, 3> for NormBackward {
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

impl<B: NormOperations, C: CheckpointStrategy> NormOperations for Autodiff<B, C> {
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
