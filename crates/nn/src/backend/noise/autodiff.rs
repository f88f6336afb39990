//! Noise under Burn's autodiff: the key is saved, never the mask.
//!
//! Factors cost little more than reading memory, so these operations are marked as bound by memory:
//! under gradient checkpointing their outputs are not kept but computed again, with the same noise.

use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary, unary};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::DType;
use evenkeel_kernels::{Branch, DropConnect, Dropout, Factors, Shares};

use super::{NoiseOperations, Shake};
use crate::backend::{cast, no_second_derivative};

/// How an output is computed again.
pub(super) struct Again<B, F, const N: usize> {
    parents: [NodeId; N],
    forward: F,
    backend: PhantomData<fn(B)>,
}

impl<B, F, const N: usize> Again<B, F, N> {
    pub(super) fn new(parents: [NodeId; N], forward: F) -> Self {
        Self {
            parents,
            forward,
            backend: PhantomData,
        }
    }
}

impl<B, F, const N: usize> fmt::Debug for Again<B, F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Again({:?})", self.parents)
    }
}

impl<B: Backend, F, const N: usize> RetroForward for Again<B, F, N>
where
    F: Fn([FloatTensor<B>; N]) -> FloatTensor<B> + Send + 'static,
{
    fn forward(&self, states: &mut BackwardStates, output: NodeId) {
        #[cfg(test)]
        tests::COMPUTED_AGAIN.set(tests::COMPUTED_AGAIN.get() + 1);
        let inputs = self
            .parents
            .map(|parent| states.get_state::<FloatTensor<B>>(&parent));
        states.save(output, (self.forward)(inputs));
    }
}

#[derive(Debug)]
struct MultiplyBackward;

impl<B: NoiseOperations> Backward<B, 1> for MultiplyBackward {
    type State = Factors;

    fn backward(self, ops: Ops<Factors, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::multiply(gradient, ops.state)
        });
    }
}

#[derive(Debug)]
struct DropoutAddBackward;

impl<B: NoiseOperations> Backward<B, 2> for DropoutAddBackward {
    type State = (Dropout, DType);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (dropout, residual) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            gradients,
            |gradient| B::multiply(gradient, Factors::Dropout(dropout)),
            |gradient| cast::<B>(gradient, residual),
        );
    }
}

#[derive(Debug)]
struct MixBackward;

impl<B: NoiseOperations> Backward<B, 2> for MixBackward {
    type State = (Shares, DType);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (shares, second) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            gradients,
            |gradient| B::share(gradient, Branch::First, shares),
            |gradient| cast::<B>(B::share(gradient, Branch::Second, shares), second),
        );
    }
}

#[derive(Debug, Clone)]
struct ConnectState {
    x: NodeId,
    weight: NodeId,
    connect: DropConnect,
}

#[derive(Debug)]
struct ConnectBackward;

impl<B: NoiseOperations> Backward<B, 2> for ConnectBackward {
    type State = ConnectState;

    fn backward(
        self,
        ops: Ops<ConnectState, 2>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ConnectState { x, weight, connect } = ops.state;
        // Both are retrieved whether they are needed or not: the checkpointer counts.
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let weight_dtype = weight.dtype();
        let [of_x, of_weight] = ops.parents;
        if let Some(node) = of_x {
            let dx = B::drop_connect_input_gradient(gradient.clone(), weight, connect);
            gradients.register::<B>(node.id, dx);
        }
        if let Some(node) = of_weight {
            let dweight = B::drop_connect_weight_gradient(x, gradient, connect);
            gradients.register::<B>(node.id, cast::<B>(dweight, weight_dtype));
        }
    }
}

impl<B: NoiseOperations, C: CheckpointStrategy> NoiseOperations for Autodiff<B, C> {
    fn multiply(x: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        let forward = move |[x]: [FloatTensor<B>; 1]| B::multiply(x, factors);
        match MultiplyBackward
            .prepare::<C>([x.node()])
            .memory_bound()
            .retro_forward(Again::<B, _, 1>::new([x.id()], forward))
            .parents([&x])
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(factors, forward([x.into_primitive()])),
            OpsKind::UnTracked(prep) => prep.finish(forward([x.into_primitive()])),
        }
    }

    fn dropout_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        dropout: Dropout,
    ) -> FloatTensor<Self> {
        let state = (dropout, residual.dtype());
        let forward =
            move |[x, residual]: [FloatTensor<B>; 2]| B::dropout_add(x, residual, dropout);
        match DropoutAddBackward
            .prepare::<C>([x.node(), residual.node()])
            .memory_bound()
            .retro_forward(Again::<B, _, 2>::new([x.id(), residual.id()], forward))
            .parents([&x, &residual])
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                state,
                forward([x.into_primitive(), residual.into_primitive()]),
            ),
            OpsKind::UnTracked(prep) => {
                prep.finish(forward([x.into_primitive(), residual.into_primitive()]))
            }
        }
    }

    fn dropout_around(
        x: FloatTensor<Self>,
        dropout: Dropout,
        centre: f64,
        shift: f64,
    ) -> FloatTensor<Self> {
        let forward = move |[x]: [FloatTensor<B>; 1]| B::dropout_around(x, dropout, centre, shift);
        // Its gradient is that of the product: centre and shift are constants.
        match MultiplyBackward
            .prepare::<C>([x.node()])
            .memory_bound()
            .retro_forward(Again::<B, _, 1>::new([x.id()], forward))
            .parents([&x])
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                prep.finish(Factors::Dropout(dropout), forward([x.into_primitive()]))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward([x.into_primitive()])),
        }
    }

    fn mix(first: FloatTensor<Self>, second: FloatTensor<Self>, shake: Shake) -> FloatTensor<Self> {
        let state = (shake.backward, second.dtype());
        let forward = move |[first, second]: [FloatTensor<B>; 2]| B::mix(first, second, shake);
        match MixBackward
            .prepare::<C>([first.node(), second.node()])
            .memory_bound()
            .retro_forward(Again::<B, _, 2>::new([first.id(), second.id()], forward))
            .parents([&first, &second])
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                state,
                forward([first.into_primitive(), second.into_primitive()]),
            ),
            OpsKind::UnTracked(prep) => {
                prep.finish(forward([first.into_primitive(), second.into_primitive()]))
            }
        }
    }

    fn share(_: FloatTensor<Self>, _: Branch, _: Shares) -> FloatTensor<Self> {
        no_second_derivative("shake-shake")
    }

    fn drop_connect(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let forward = |x: FloatTensor<Self>, weight: FloatTensor<Self>| {
            B::drop_connect(x.into_primitive(), weight.into_primitive(), connect)
        };
        match ConnectBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = ConnectState {
                    x: prep.checkpoint(&x),
                    weight: prep.checkpoint(&weight),
                    connect,
                };
                prep.finish(state, forward(x, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, weight)),
        }
    }

    fn drop_connect_input_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: DropConnect,
    ) -> FloatTensor<Self> {
        no_second_derivative("DropConnect")
    }

    fn drop_connect_weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: DropConnect,
    ) -> FloatTensor<Self> {
        no_second_derivative("DropConnect")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use burn::tensor::{Device, Tensor, TensorData};
    use evenkeel_kernels::{DropBlock, GaussianDropout, Scaling};
    use evenkeel_random::Key;

    use super::*;
    use crate::backend as operations;
    use crate::backend::composed::testing::random;

    thread_local! {
        /// How many outputs this thread has computed again.
        pub(super) static COMPUTED_AGAIN: Cell<usize> = const { Cell::new(0) };
    }

    type Operation = fn(Tensor<3>, Tensor<3>) -> Tensor<3>;

    fn mask() -> Dropout {
        Dropout::new(Key::from_seed(1), 0.5, Scaling::Inverted)
    }

    fn operations() -> Vec<Operation> {
        fn multiplied(x: Tensor<3>, factors: Factors) -> Tensor<3> {
            operations::multiply(x, factors)
        }
        vec![
            |x, _| multiplied(x, Factors::Dropout(mask())),
            |x, _| {
                let noise = GaussianDropout::new(Key::from_seed(1), 1.0);
                multiplied(x, Factors::Gaussian(noise))
            },
            |x, _| {
                let blocks = DropBlock::new(Key::from_seed(1), 0.4, 2, [3, 9]);
                multiplied(x, Factors::Blocks(blocks))
            },
            |x, other| operations::dropout_add(x, other, mask().over_runs_of(9)),
            |x, _| operations::dropout_around(x, mask(), -1.0, 0.5),
            |x, other| {
                let shake = Shake {
                    forward: Shares::new(Key::from_seed(1), 27),
                    backward: Shares::new(Key::from_seed(2), 27),
                };
                operations::mix(x, other, shake)
            },
        ]
    }

    /// Under gradient checkpointing the output that the square's backward asks for is computed again,
    /// once, and all gradients are the same bits.
    #[test]
    fn outputs_are_computed_again_with_the_same_noise() {
        assert_computed_again(Device::flex(), &operations());
    }

    #[cfg(feature = "cube")]
    #[test]
    fn masks_on_gpus_are_too() {
        if let Some(device) = crate::backend::cube::gpu::device("masks_on_gpus_are_too") {
            let masks: [Operation; 3] = [
                |x, _| operations::dropout(x, mask()),
                |x, other| operations::dropout_add(x, other, mask().over_runs_of(9)),
                |x, _| operations::dropout_around(x, mask(), -1.0, 0.5),
            ];
            assert_computed_again(device, &masks);
        }
    }

    #[track_caller]
    fn assert_computed_again(device: Device, operations: &[Operation]) {
        let plain = device.clone().autodiff();
        let checkpointing = device.autodiff().gradient_checkpointing();
        for operation in operations {
            let run = |device: &Device| -> (Vec<TensorData>, usize) {
                let leaf = |seed| {
                    let data = random([4, 3, 9], seed).into_data();
                    Tensor::<3>::from_data(data, device).require_grad()
                };
                let (x, other) = (leaf(1), leaf(2));
                let y = operation(x.clone() * 2.0, other.clone() * 3.0);
                let loss = (y.clone() * y + other.clone()).sum();
                let before = COMPUTED_AGAIN.get();
                let gradients = loss.backward();
                let found = [x, other].map(|leaf| leaf.grad(&gradients).unwrap().into_data());
                (found.into(), COMPUTED_AGAIN.get() - before)
            };
            let (expected, none) = run(&plain);
            let (found, once) = run(&checkpointing);
            assert_eq!(found, expected);
            assert_eq!((none, once), (0, 1));
        }
    }
}
