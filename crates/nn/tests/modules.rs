//! What Burn's ways to handle modules do to these layers: `freeze`, `no_grad`, `valid`, `train`,
//! `fork`, gradient checkpointing and accumulation.

mod support;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use evenkeel_nn::{BatchNorm, Dropout, DropoutConfig, Pass, initialize};
use support::layers::autodiff;
use support::{norm, plain, random, random_of, running, tracked, values};

#[derive(Module, Debug)]
struct Net {
    norm: BatchNorm,
    dropout: Dropout,
    head: Linear,
}

fn net(device: &Device) -> Net {
    let net = Net {
        norm: norm(device),
        dropout: DropoutConfig::new(0.5).init(),
        head: LinearConfig::new(2, 3).init(device),
    };
    initialize(net, 1)
}

impl Net {
    /// With operations around the layers that gradient checkpointing computes again.
    fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let x = relu(x.mul_scalar(2.0).add_scalar(1.0));
        let x = relu(self.norm.forward(x, &pass.scope("norm")).mul_scalar(1.5));
        let x = self.dropout.forward(x, &pass.scope("drop"));
        self.head.forward(x.mul_scalar(0.5))
    }
}

fn batch() -> Tensor<2> {
    random([16, 2], &autodiff())
}

fn squares(y: Tensor<2>) -> Tensor<1> {
    y.square().sum()
}

/// The gradients by the head's weight and by γ, where they are trained, and by the input.
fn gradients(net: &Net, loss: &Tensor<1>, x: &Tensor<2>) -> [Option<TensorData>; 3] {
    let gradients = loss.backward();
    let gamma = net.norm.weight.as_ref().unwrap().val();
    [
        net.head
            .weight
            .val()
            .grad(&gradients)
            .map(Tensor::into_data),
        gamma.grad(&gradients).map(Tensor::into_data),
        x.grad(&gradients).map(Tensor::into_data),
    ]
}

fn is_trained(norm: &BatchNorm) -> bool {
    norm.weight.as_ref().unwrap().val().is_require_grad()
}

#[test]
fn freezing_stops_gradients_and_nothing_else() {
    let free = net(&autodiff());
    let expected = free.forward(batch(), &Pass::train(0, 0)).into_data();
    for frozen in [net(&autodiff()).freeze(), net(&autodiff()).no_grad()] {
        let x = batch().require_grad();
        let y = frozen.forward(x.clone(), &Pass::train(0, 0));
        y.to_data().assert_eq(&expected, true);
        assert_eq!(running(&frozen.norm), running(&free.norm));
        let gradients = gradients(&frozen, &squares(y), &x);
        assert!(matches!(gradients, [None, None, Some(_)]));
        // What was frozen stays so through validation.
        assert!(!is_trained(&frozen.valid().train().norm));
        assert!(is_trained(&frozen.unfreeze().norm));
    }
}

/// γ alone frozen: β still learns.
#[test]
fn a_part_may_be_frozen() {
    let mut norm = norm(&autodiff());
    norm.weight = norm.weight.map(|weight| weight.set_require_grad(false));
    let y = norm.forward(batch(), &Pass::train(0, 0));
    let gradients = squares(y).backward();
    assert!(norm.weight.unwrap().val().grad(&gradients).is_none());
    assert!(norm.bias.unwrap().val().grad(&gradients).is_some());
}

#[test]
fn validation_is_a_copy_that_goes_its_own_way() {
    let net = net(&autodiff());
    net.forward(batch(), &Pass::train(0, 0));
    let before = running(&net.norm);
    let valid = net.valid();
    assert_eq!(running(&valid.norm), before);
    net.forward(batch(), &Pass::train(0, 1));
    assert_eq!(running(&valid.norm), before);
    let after = running(&net.norm);
    valid.forward(batch().inner(), &Pass::train(0, 1));
    valid.forward(batch().inner(), &Pass::recalibrate());
    assert_eq!(running(&net.norm), after);
    assert_ne!(running(&valid.norm), before);
}

#[test]
fn validation_and_back_is_the_same_layer() {
    let net = net(&autodiff());
    net.forward(batch(), &Pass::train(0, 0));
    let back = net.valid().train();
    assert!(is_trained(&back.norm) && back.head.weight.val().is_require_grad());
    assert_eq!(running(&back.norm), running(&net.norm));
    assert_eq!(tracked(&back.norm), 1);
    for pass in [Pass::train(0, 1), Pass::test(), Pass::recalibrate()] {
        let [found, expected] = [&back, &net].map(|net| {
            let x = batch().require_grad();
            let loss = squares(net.forward(x.clone(), &pass.clone().without_noise()));
            let gradients = gradients(net, &loss, &x);
            (gradients, values(loss), running(&net.norm))
        });
        assert_eq!(found, expected);
    }
    // The state itself is on no graph, however the module came here.
    for state in [&back.norm.running_mean, &back.norm.running_var] {
        assert!(!state.get(&plain()).is_autodiff());
        assert!(!state.get(&autodiff()).is_require_grad());
    }
}

#[test]
fn a_layer_made_on_a_plain_device_can_be_trained() {
    let norm = norm(&plain()).train();
    assert!(is_trained(&norm));
    let y = norm.forward(batch(), &Pass::train(0, 0));
    let gradients = squares(y).backward();
    assert!(norm.weight.unwrap().val().grad(&gradients).is_some());
}

#[test]
fn a_fork_has_state_of_its_own() {
    let first = net(&autodiff());
    first.forward(batch(), &Pass::train(0, 0));
    let fork = first.clone().fork(&autodiff());
    assert_eq!(running(&fork.norm), running(&first.norm));
    let before = running(&first.norm);
    fork.forward(batch(), &Pass::train(0, 1));
    assert_eq!(running(&first.norm), before);
    assert_eq!((tracked(&fork.norm), tracked(&first.norm)), (2, 1));
}

/// What the backward computes again has the mask and the statistics of the forward, and updates
/// nothing a second time.
#[test]
fn gradient_checkpointing_changes_nothing() {
    let run = |device: Device| {
        let net = net(&device);
        let x = Tensor::from_data(batch().into_data(), &device).require_grad();
        let y = net.forward(x.clone(), &Pass::train(3, 1));
        let gradients = gradients(&net, &squares(y.clone()), &x);
        (
            y.into_data(),
            gradients,
            running(&net.norm),
            tracked(&net.norm),
        )
    };
    let checkpointed = autodiff().gradient_checkpointing();
    assert!(
        checkpointed.gradient_checkpointing_strategy()
            != autodiff().gradient_checkpointing_strategy()
    );
    assert_eq!(run(checkpointed), run(autodiff()));
}

#[test]
fn micro_batches_of_a_step_share_its_pass() {
    let mask = |pass: &Pass| {
        let ones = Tensor::<1>::ones([64], &plain());
        values(
            DropoutConfig::new(0.5)
                .init()
                .forward(ones, &pass.scope("drop")),
        )
    };
    let pass = Pass::train(1, 7);
    let masks = [mask(&pass), mask(&pass), mask(&pass)];
    assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[0] != masks[2]);
    let again = Pass::train(1, 7);
    assert_eq!(
        [mask(&again), mask(&again), mask(&again)],
        masks,
        "after a resume"
    );
    assert_eq!(
        mask(&Pass::train(1, 7)),
        masks[0],
        "a pass for each would repeat it"
    );

    // Gradients accumulated are those of the sum of the losses.
    let micro_batches = || (1..4).map(|seed| random_of::<2>(seed, [8, 2], &autodiff()));
    let (first, second) = (net(&autodiff()), net(&autodiff()));
    let mut accumulator = GradientsAccumulator::new();
    let pass = Pass::train(1, 7);
    for x in micro_batches() {
        let loss = squares(first.forward(x, &pass));
        let gradients = GradientsParams::from_grads(loss.backward(), &first);
        accumulator.accumulate(&first, gradients);
    }
    let accumulated = accumulator.grads();
    let pass = Pass::train(1, 7);
    let losses = micro_batches().map(|x| squares(second.forward(x, &pass)));
    let loss = losses.reduce(|sum, loss| sum + loss).unwrap();
    let by_weight = second.head.weight.val().grad(&loss.backward()).unwrap();
    let found = accumulated.get::<2>(first.head.weight.id).unwrap();
    found
        .into_data()
        .assert_approx_eq(&by_weight.into_data(), Tolerance::<f32>::default());
    assert_eq!(tracked(&first.norm), 3, "each micro-batch is averaged in");
}
