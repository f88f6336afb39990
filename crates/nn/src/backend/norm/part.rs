//! Batch norm of a part of a batch: the whole is spread over replicas.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, TensorMetadata, backend_extension};
use evenkeel_kernels::{self as kernels, Affine, Float};

use super::NormOperations;
use crate::backend::flex::{cast, channels, slice, tensor, values, vector, with_slices};
use crate::backend::no_second_derivative;
use crate::norm::BatchPart;

/// What replicas need besides [`NormOperations`].
#[backend_extension(Flex, Autodiff)]
pub trait PartOperations: Backend {
    /// The mean and the biased variance per channel, in `f64`: constants to the gradient.
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Batch norm of a part by the statistics of the whole.
    fn channel_norm_of_part(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        part: BatchPart,
    ) -> FloatTensor<Self>;

    /// Gradients of `channel_norm_of_part` with respect to `x`, `scale`, `shift`: through the
    /// statistics that of `x` depends on all parts; the others are the part's.
    fn channel_norm_of_part_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        part: BatchPart,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl PartOperations for Flex {
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let moments = with_slices!([x], |F| {
            kernels::channel_moments::<F>(slice(&x), channels(&shape))
        });
        let of_all = |value: fn(&kernels::Moments) -> f64| {
            vector(moments.iter().map(value).collect::<Vec<_>>())
        };
        (
            of_all(|moments| moments.mean),
            of_all(kernels::Moments::variance),
        )
    }

    fn channel_norm_of_part(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        part: BatchPart,
    ) -> FloatTensor<Self> {
        Self::channel_norm_apply(
            x,
            mean,
            reciprocal_deviation,
            scale,
            shift,
            part.activation(),
        )
    }

    fn channel_norm_of_part_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        part: BatchPart,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let dtypes = [x.dtype(), scale.dtype(), shift.dtype()];
        let gradients = with_slices!(
            [x, gradient, mean, reciprocal_deviation, scale, shift],
            |F| {
                let affine = Affine {
                    scale: slice(&scale),
                    shift: slice(&shift),
                };
                let (x, dy) = (slice::<F>(&x), values::<F>(&mut gradient));
                let (mean, r) = (slice(&mean), slice::<F>(&reciprocal_deviation));
                let own = kernels::channel_gradient_sums(
                    x,
                    &dy,
                    channels(&shape),
                    mean,
                    r,
                    Some(affine),
                    part.activation(),
                );
                let dx = kernels::batch_norm_gradient_of_sums(
                    x,
                    dy,
                    channels(&shape),
                    mean,
                    r,
                    Some(affine),
                    part.activation(),
                    &part.whole_sums(&own),
                    part.count(),
                );
                let products = own.iter().zip(r);
                let dscale = products.map(|(sums, r)| F::from_f64(sums[1] * r.to_f64()));
                let dshift = own.iter().map(|sums| F::from_f64(sums[0]));
                [
                    tensor(dx, shape),
                    vector(dscale.collect::<Vec<_>>()),
                    vector(dshift.collect::<Vec<_>>()),
                ]
            }
        );
        let [dx, dscale, dshift] = gradients;
        (
            cast(dx, dtypes[0]),
            cast(dscale, dtypes[1]),
            cast(dshift, dtypes[2]),
        )
    }
}

#[derive(Debug, Clone)]
struct PartState<B: Backend> {
    x: NodeId,
    scale: NodeId,
    shift: NodeId,
    mean: FloatTensor<B>,
    reciprocal_deviation: FloatTensor<B>,
    part: BatchPart,
}

#[derive(Debug)]
struct PartBackward;

impl<B: PartOperations> Backward<B, 3> for PartBackward {
    type State = PartState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let state = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.x);
        let scale = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.scale);
        let shift = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.shift);
        let (x, scale, shift) = B::channel_norm_of_part_backward(
            x,
            gradient,
            state.mean,
            state.reciprocal_deviation,
            scale,
            shift,
            state.part,
        );
        for (parent, gradient) in ops.parents.into_iter().zip([x, scale, shift]) {
            if let Some(node) = parent {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: PartOperations, C: CheckpointStrategy> PartOperations for Autodiff<B, C> {
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, variance) = B::channel_moments(x.into_primitive());
        let constant = <Self as burn::backend::AutodiffBackend>::from_inner;
        (constant(mean), constant(variance))
    }

    fn channel_norm_of_part(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        part: BatchPart,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let (mean, r) = (mean.into_primitive(), reciprocal_deviation.into_primitive());
        let forward = |x: FloatTensor<Self>, scale: FloatTensor<Self>, shift: FloatTensor<Self>| {
            B::channel_norm_of_part(
                x.into_primitive(),
                mean.clone(),
                r.clone(),
                scale.into_primitive(),
                shift.into_primitive(),
                part.clone(),
            )
        };
        match PartBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = PartState {
                    x: prep.checkpoint(&x),
                    scale: prep.checkpoint(&scale),
                    shift: prep.checkpoint(&shift),
                    mean: mean.clone(),
                    reciprocal_deviation: r.clone(),
                    part: part.clone(),
                };
                prep.finish(state, forward(x, scale, shift))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, scale, shift)),
        }
    }

    fn channel_norm_of_part_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: BatchPart,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        no_second_derivative("channel_norm_of_part")
    }
}
