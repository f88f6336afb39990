//! Every layer as a plain function, so that one test can run them all.

use burn::module::{Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::{
    Activation, AlphaDropoutConfig, AvgPool2dConfig, BatchNormConfig, Conv2dConfig, Dispersion,
    DropBlockConfig, DropConnectConv2dConfig, DropConnectLinearConfig, DropPathConfig,
    DropoutConfig, GaussianDropoutConfig, GlobalAvgPool, GroupNormConfig, InstanceNormConfig,
    LayerNormConfig, MaxPool2dConfig, Pass, RmsNormConfig, RunningAverage, Scaling,
    ShakeShakeConfig, Sharing, SpatialDropoutConfig,
};

use super::{plain, random_of, values};

/// The shape of all inputs.
pub const SHAPE: [usize; 4] = [3, 4, 5, 6];

type Forward = dyn Fn(Tensor<4>, &[Tensor<1>]) -> Tensor<4>;

/// A layer as a function of its input and its parameters, each flat.
pub struct Layer {
    pub name: &'static str,
    /// How many values each parameter has.
    parameters: Vec<usize>,
    forward: Box<Forward>,
    /// Whether the gradient is by definition not that of the forward.
    pub surrogate_gradient: bool,
    /// Whether a matrix product of Burn's is part of it, which rounds tensors that lie otherwise in
    /// memory otherwise.
    pub burn_product: bool,
}

/// Output and gradients.
pub struct Ran {
    pub output: Tensor<4>,
    pub input: Tensor<4>,
    pub parameters: Vec<Tensor<1>>,
}

impl Layer {
    fn new(
        name: &'static str,
        parameters: &[usize],
        forward: impl Fn(Tensor<4>, &[Tensor<1>]) -> Tensor<4> + 'static,
    ) -> Self {
        Self {
            name,
            parameters: parameters.to_vec(),
            forward: Box::new(forward),
            surrogate_gradient: false,
            burn_product: false,
        }
    }

    fn with_burn_product(mut self) -> Self {
        self.burn_product = true;
        self
    }

    fn with_surrogate_gradient(mut self) -> Self {
        self.surrogate_gradient = true;
        self
    }

    /// Random parameters: scales and weights of both signs.
    pub fn parameters(&self, device: &Device) -> Vec<Tensor<1>> {
        let sizes = (20..).zip(&self.parameters);
        sizes
            .map(|(seed, &size)| random_of(seed, [size], device))
            .collect()
    }

    pub fn forward(&self, x: Tensor<4>, parameters: &[Tensor<1>]) -> Tensor<4> {
        (self.forward)(x, parameters)
    }

    /// Forward, and backward from Σ y·g for some smooth g. On an autodiff device.
    pub fn run(&self, x: Tensor<4>, parameters: &[Tensor<1>]) -> Ran {
        self.run_with(x, parameters, |y| {
            let g = random_of(8, y.dims(), &y.device()).sin().cast(y.dtype());
            (y * g).sum()
        })
    }

    /// Forward, and backward from this loss.
    pub fn run_with(
        &self,
        x: Tensor<4>,
        parameters: &[Tensor<1>],
        loss: impl Fn(Tensor<4>) -> Tensor<1>,
    ) -> Ran {
        let x = x.detach().require_grad();
        let parameters: Vec<_> = parameters
            .iter()
            .map(|parameter| parameter.clone().detach().require_grad())
            .collect();
        let output = self.forward(x.clone(), &parameters);
        let gradients = loss(output.clone()).backward();
        Ran {
            output,
            input: x.grad(&gradients).expect("a gradient of the input"),
            parameters: parameters
                .iter()
                .map(|parameter| parameter.grad(&gradients).expect("of each parameter"))
                .collect(),
        }
    }
}

fn param<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), value)
}

fn batch_norm(name: &'static str, pass: fn() -> Pass, affine: bool, relu: bool) -> Layer {
    let channels = SHAPE[1];
    let parameters = if affine { vec![channels; 2] } else { vec![] };
    let activation = if relu {
        Activation::Relu
    } else {
        Activation::None
    };
    Layer::new(name, &parameters, move |x, parameters| {
        let mut norm = BatchNormConfig::new(channels)
            .with_affine(affine)
            .with_activation(activation)
            .init(&x.device());
        if let [scale, shift] = parameters {
            norm.weight = Some(param(scale.clone()));
            norm.bias = Some(param(shift.clone()));
        }
        let state_device = x.device().without_autodiff();
        let state = |seed| random_of(seed, [channels], &state_device);
        norm.running_mean.set(state(30));
        norm.running_var.set(state(31).square() + 0.5);
        norm.forward(x, &pass())
    })
}

fn batch_norm_with(name: &'static str, config: BatchNormConfig) -> Layer {
    Layer::new(name, &[SHAPE[1]; 2], move |x, parameters| {
        let mut norm = config.init(&x.device());
        norm.weight = Some(param(parameters[0].clone()));
        norm.bias = Some(param(parameters[1].clone()));
        norm.forward(x, &Pass::train(0, 1))
    })
}

fn layer_norm(name: &'static str, config: LayerNormConfig) -> Layer {
    let parameters = match (config.affine, config.bias) {
        (true, true) => vec![config.num_features; 2],
        (true, false) => vec![config.num_features],
        (false, _) => vec![],
    };
    Layer::new(name, &parameters, move |x, parameters| {
        let mut norm = config.init(&x.device());
        norm.weight = parameters.first().cloned().map(param);
        norm.bias = parameters.get(1).cloned().map(param);
        norm.forward(x, &Pass::test())
    })
}

fn rms_norm(name: &'static str, config: RmsNormConfig) -> Layer {
    Layer::new(name, &[config.num_features], move |x, parameters| {
        let mut norm = config.init(&x.device());
        norm.weight = Some(param(parameters[0].clone()));
        norm.forward(x, &Pass::test())
    })
}

fn group_norm(name: &'static str, groups: usize, activation: Activation) -> Layer {
    let channels = SHAPE[1];
    Layer::new(name, &[channels; 2], move |x, parameters| {
        let config = GroupNormConfig::new(groups, channels).with_activation(activation);
        let mut norm = config.init(&x.device());
        norm.weight = Some(param(parameters[0].clone()));
        norm.bias = Some(param(parameters[1].clone()));
        norm.forward(x, &Pass::test())
    })
}

fn convolution(name: &'static str, config: Conv2dConfig) -> Layer {
    let [channels_in, channels_out] = config.channels;
    let [height, width] = config.kernel_size;
    let shape = [channels_out, channels_in / config.groups, height, width];
    let parameters = [shape.iter().product(), channels_out];
    let parameters = &parameters[..if config.bias { 2 } else { 1 }];
    Layer::new(name, parameters, move |x, parameters| {
        let mut conv = config.init(&x.device());
        conv.weight = param(parameters[0].clone().reshape(shape));
        conv.bias = parameters.get(1).cloned().map(param);
        conv.forward(x)
    })
}

fn drop_connect_linear(
    name: &'static str,
    pass: fn() -> Pass,
    config: DropConnectLinearConfig,
) -> Layer {
    let shape = [config.d_input, config.d_output];
    let parameters = [shape.iter().product(), config.d_output];
    let parameters = &parameters[..if config.bias { 2 } else { 1 }];
    Layer::new(name, parameters, move |x, parameters| {
        let mut linear = config.init(&x.device());
        linear.weight = param(parameters[0].clone().reshape(shape));
        linear.bias = parameters.get(1).cloned().map(param);
        linear.forward(x, &pass())
    })
}

fn drop_connect_conv(name: &'static str, pass: fn() -> Pass, scaling: Scaling) -> Layer {
    let shape = [3, SHAPE[1], 3, 3];
    Layer::new(name, &[shape.iter().product(), 3], move |x, parameters| {
        let conv = Conv2dConfig::new([SHAPE[1], 3], [3, 3]);
        let config = DropConnectConv2dConfig::new(conv, 0.4).with_scaling(scaling);
        let mut conv = config.init(&x.device());
        conv.weight = param(parameters[0].clone().reshape(shape));
        conv.bias = Some(param(parameters[1].clone()));
        conv.forward(x, &pass())
    })
}

/// The layers that draw noise.
fn noise_layers() -> Vec<Layer> {
    use Scaling::{Classic, Inverted};
    let (train, test) = (|| Pass::train(0, 1), Pass::test);
    let dropout = |scaling, pass: fn() -> Pass| {
        let dropout = DropoutConfig::new(0.4).with_scaling(scaling).init();
        move |x, _: &[Tensor<1>]| dropout.forward(x, &pass())
    };
    let dropout_add = |scaling, pass: fn() -> Pass| {
        let dropout = DropoutConfig::new(0.4).with_scaling(scaling).init();
        move |x: Tensor<4>, _: &[Tensor<1>]| dropout.forward_add(x.clone(), x, &pass())
    };
    let spatial = |scaling, pass: fn() -> Pass| {
        let dropout = SpatialDropoutConfig::new(0.4).with_scaling(scaling).init();
        move |x, _: &[Tensor<1>]| dropout.forward(x, &pass())
    };
    let linear = |width| DropConnectLinearConfig::new(SHAPE[3], width, 0.4);
    let shake = |sharing, pass: fn() -> Pass| {
        let shake = ShakeShakeConfig::new().with_sharing(sharing).init();
        move |x: Tensor<4>, _: &[Tensor<1>]| shake.forward(x.clone(), x.neg(), &pass())
    };
    vec![
        Layer::new("dropout", &[], dropout(Inverted, train)),
        Layer::new("classic dropout", &[], dropout(Classic, train)),
        Layer::new("classic dropout at test", &[], dropout(Classic, test)),
        Layer::new("dropout with a residual", &[], dropout_add(Inverted, train)),
        Layer::new(
            "classic dropout with a residual at test",
            &[],
            dropout_add(Classic, test),
        ),
        Layer::new(
            "dropout with a residual at test",
            &[],
            dropout_add(Inverted, test),
        ),
        Layer::new("spatial dropout", &[], spatial(Inverted, train)),
        Layer::new(
            "classic spatial dropout at test",
            &[],
            spatial(Classic, test),
        ),
        Layer::new("alpha dropout", &[], |x, _| {
            let dropout = AlphaDropoutConfig::new(0.4).init();
            dropout.forward(x, &Pass::train(0, 1))
        }),
        Layer::new("Gaussian dropout", &[], |x, _| {
            let dropout = GaussianDropoutConfig::new(0.4).init();
            dropout.forward(x, &Pass::train(0, 1))
        }),
        Layer::new("DropBlock", &[], |x, _| {
            let dropout = DropBlockConfig::new(0.4).with_block_size(2).init();
            dropout.forward(x, &Pass::train(0, 1))
        }),
        Layer::new("DropPath", &[], |x, _| {
            let dropout = DropPathConfig::new(0.4).init();
            dropout.forward(x, &Pass::train(0, 1))
        }),
        Layer::new(
            "classic DropPath with a residual",
            &[],
            |x: Tensor<4>, _| {
                let dropout = DropPathConfig::new(0.4).with_scaling(Classic).init();
                dropout.forward_add(x.clone(), x, &Pass::train(0, 1))
            },
        ),
        Layer::new("shake-shake", &[], shake(Sharing::Example, train)).with_surrogate_gradient(),
        Layer::new("shake-shake by batch", &[], shake(Sharing::Batch, train))
            .with_surrogate_gradient(),
        drop_connect_linear("DropConnect", train, linear(5)).with_burn_product(),
        drop_connect_linear(
            "DropConnect, classic, without bias",
            train,
            linear(3).with_scaling(Classic).with_bias(false),
        )
        .with_burn_product(),
        drop_connect_linear(
            "DropConnect, classic at test",
            test,
            linear(5).with_scaling(Classic),
        )
        .with_burn_product(),
        drop_connect_linear(
            "DropConnect by example",
            train,
            linear(5).with_sharing(Sharing::Example),
        ),
        drop_connect_linear(
            "DropConnect by example, bias not masked",
            train,
            linear(5)
                .with_sharing(Sharing::Example)
                .with_mask_bias(false),
        ),
        drop_connect_conv("DropConnect of a convolution", train, Inverted),
        drop_connect_conv(
            "DropConnect of a convolution, classic at test",
            test,
            Classic,
        ),
    ]
}

/// Every layer, in every way in which its forward or backward differs.
pub fn layers() -> Vec<Layer> {
    let mut layers = other_layers();
    layers.extend(noise_layers());
    layers
}

fn other_layers() -> Vec<Layer> {
    let (train, test) = (|| Pass::train(0, 1), Pass::test);
    // Without a gradient through the batch's share, unless there is none of it.
    let mixed: fn() -> Pass = || Pass::test().mix_statistics(1.0);
    let batch = BatchNormConfig::new(SHAPE[1]);
    let by = |dispersion| batch.clone().with_dispersion(dispersion);
    let explicit = PaddingConfig2d::Explicit;
    vec![
        batch_norm("batch norm in training", train, true, false),
        batch_norm("batch norm in training, ReLU", train, true, true),
        batch_norm("batch norm in training, plain", train, false, false),
        batch_norm("batch norm at test", test, true, false),
        batch_norm("batch norm at test, ReLU", test, true, true),
        batch_norm("batch norm at test, plain", test, false, false),
        batch_norm("batch norm by a mixture", mixed, true, true),
        batch_norm_with(
            "batch norm of ghosts",
            batch.clone().with_ghost_size(Some(1)),
        ),
        batch_norm_with("batch norm by ℓ1", by(Dispersion::MeanAbsolute)),
        batch_norm_with("batch norm by ℓ∞", by(Dispersion::Maximum)),
        layer_norm("layer norm", LayerNormConfig::new(SHAPE[3])),
        layer_norm(
            "layer norm of two dimensions, ReLU, without shift",
            LayerNormConfig::new(SHAPE[2] * SHAPE[3])
                .with_dimensions(2)
                .with_bias(false)
                .with_activation(Activation::Relu),
        ),
        layer_norm(
            "layer norm channels first, plain",
            LayerNormConfig::new(SHAPE[1])
                .with_channels_first(true)
                .with_affine(false),
        ),
        rms_norm("RMS norm", RmsNormConfig::new(SHAPE[3])),
        rms_norm(
            "RMS norm of three dimensions",
            RmsNormConfig::new(SHAPE[1] * SHAPE[2] * SHAPE[3]).with_dimensions(3),
        ),
        group_norm("group norm", 2, Activation::None),
        group_norm("group norm of one group, ReLU", 1, Activation::Relu),
        Layer::new("instance norm", &[], |x, _| {
            let norm = InstanceNormConfig::new(SHAPE[1]).init(&x.device());
            norm.forward(x, &Pass::test())
        }),
        Layer::new("instance norm, tracked", &[], |x, _| {
            let config = InstanceNormConfig::new(SHAPE[1]).with_track_running_stats(true);
            config.init(&x.device()).forward(x, &Pass::train(0, 1))
        }),
        Layer::new("global average pool", &[], |x, _| {
            GlobalAvgPool.forward(x).unsqueeze_dims(&[2, 3])
        }),
        Layer::new("max pool, halving", &[], |x, _| {
            MaxPool2dConfig::new([2, 2]).init().forward(x)
        }),
        Layer::new("max pool, overlapping", &[], |x, _| {
            let config = MaxPool2dConfig::new([3, 2]).with_stride(Some([1, 1]));
            config.with_padding([1, 1]).init().forward(x)
        }),
        Layer::new("average pool, overlapping", &[], |x, _| {
            let config = AvgPool2dConfig::new([3, 2]).with_stride(Some([1, 1]));
            config.with_padding([1, 1]).init().forward(x)
        }),
        convolution(
            "convolution",
            Conv2dConfig::new([4, 3], [3, 3]).with_padding(explicit(1, 1, 1, 1)),
        ),
        convolution(
            "convolution 1×1",
            Conv2dConfig::new([4, 3], [1, 1]).with_bias(false),
        ),
        convolution(
            "convolution in groups, strided",
            Conv2dConfig::new([4, 6], [2, 3])
                .with_groups(2)
                .with_stride([2, 1])
                .with_padding(explicit(1, 0, 0, 2)),
        ),
        convolution(
            "convolution standardized",
            Conv2dConfig::new([4, 3], [2, 2]).with_standardize(true),
        ),
        convolution(
            "convolution dilated",
            Conv2dConfig::new([4, 2], [2, 2]).with_dilation([3, 2]),
        ),
    ]
}

/// The input that all layers are run on.
pub fn input(device: &Device) -> Tensor<4> {
    random_of(7, SHAPE, device)
}

/// The CPU with autodiff.
pub fn autodiff() -> Device {
    plain().autodiff()
}

/// The running mean and variance of a batch norm, and the count of its batches: after two training
/// passes, and after recalibration on three batches.
pub fn statistics_after_all_passes(device: &Device) -> [(Vec<f32>, Vec<f32>, i64); 2] {
    let config = BatchNormConfig::new(SHAPE[1]).with_average(RunningAverage::Cumulative);
    let norm = config.init(device);
    let batch = |seed| random_of::<4>(seed, SHAPE, device) * 3.0 + 1.0;
    let state = || {
        let [mean, var] =
            [&norm.running_mean, &norm.running_var].map(|buffer| values(buffer.get(device)));
        let batches = norm.num_batches_tracked.get(device);
        (mean, var, batches.into_scalar::<i64>())
    };
    norm.forward(batch(1), &Pass::train(0, 0));
    norm.forward(batch(2), &Pass::train(0, 1));
    let averaged = state();
    let pass = Pass::recalibrate();
    for seed in [3, 4, 5] {
        norm.forward(batch(seed), &pass);
    }
    [averaged, state()]
}
