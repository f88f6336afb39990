//! Norms under Burn's autodiff: what each saves for its backward, and the backward.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend};
use evenkeel_kernels::{Activation, RowNorm};

use super::{NormOperations, Normalization};
use crate::backend::no_second_derivative;

#[derive(Debug, Clone)]
struct NormState<B: Backend> {
    x: NodeId,
    scale: NodeId,
    shift: NodeId,
    /// Mean and reciprocal deviation.
    statistics: [FloatTensor<B>; 2],
    normalization: Normalization,
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
            statistics: [mean, r],
            normalization,
        } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let scale = checkpointer.retrieve_node_output::<FloatTensor<B>>(scale);
        let shift = checkpointer.retrieve_node_output::<FloatTensor<B>>(shift);
        let (x, scale, shift) = B::norm_backward(x, gradient, mean, r, scale, shift, normalization);
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
        let forward = |[x, scale, shift]: [FloatTensor<B>; 3]| {
            let (output, mean, variance, r) = B::channel_norm(x, scale, shift, epsilon, activation);
            (output, [mean, variance, r])
        };
        let saved = |[mean, _, r]: &[FloatTensor<B>; 3]| [mean.clone(), r.clone()];
        let normalization = Normalization::ByBatch(activation);
        let (output, statistics) =
            normalize::<B, C, _>([x, scale, shift], normalization, forward, saved);
        let [mean, variance, r] = statistics.map(<Self as AutodiffBackend>::from_inner);
        (output, mean, variance, r)
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let statistics = [mean, reciprocal_deviation].map(FloatTensor::<Self>::into_primitive);
        let [mean, r] = statistics.clone();
        let forward = |[x, scale, shift]: [FloatTensor<B>; 3]| {
            let output = B::channel_norm_apply(x, mean, r, scale, shift, activation);
            (output, ())
        };
        let normalization = Normalization::ByConstants(activation);
        let saved = |(): &()| statistics;
        normalize::<B, C, _>([x, scale, shift], normalization, forward, saved).0
    }

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let forward = |[x, scale, shift]: [FloatTensor<B>; 3]| {
            let (output, mean, r) = B::row_norm(x, scale, shift, norm);
            (output, [mean, r])
        };
        let normalization = Normalization::ByRows(norm);
        let (output, statistics) =
            normalize::<B, C, _>([x, scale, shift], normalization, forward, Clone::clone);
        let [mean, r] = statistics.map(<Self as AutodiffBackend>::from_inner);
        (output, mean, r)
    }

    fn norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        no_second_derivative("a norm")
    }
}

/// Runs a norm's `forward` of x, scale and shift, and keeps for its backward what it is given of them
/// and the statistics, mean and reciprocal deviation, that `saved` takes from what else it returns.
fn normalize<B: NormOperations, C: CheckpointStrategy, S>(
    [x, scale, shift]: [FloatTensor<Autodiff<B, C>>; 3],
    normalization: Normalization,
    forward: impl FnOnce([FloatTensor<B>; 3]) -> (FloatTensor<B>, S),
    saved: impl FnOnce(&S) -> [FloatTensor<B>; 2],
) -> (FloatTensor<Autodiff<B, C>>, S) {
    let nodes = [x.node(), scale.node(), shift.node()];
    let into_primitive = FloatTensor::<Autodiff<B, C>>::into_primitive;
    match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let [x_id, scale_id, shift_id] =
                [&x, &scale, &shift].map(|input| prep.checkpoint(input));
            let (output, statistics) = forward([x, scale, shift].map(into_primitive));
            let state = NormState {
                x: x_id,
                scale: scale_id,
                shift: shift_id,
                statistics: saved(&statistics),
                normalization,
            };
            (prep.finish(state, output), statistics)
        }
        OpsKind::UnTracked(prep) => {
            let (output, statistics) = forward([x, scale, shift].map(into_primitive));
            (prep.finish(output), statistics)
        }
    }
}
