//! The fused block against its parts, which are tested against their definitions.

mod support;

use std::borrow::Cow;

use evenkeel_kernels::{
    Activation, Affine, BlockPool, Channels, Conv2d, ConvBlock, ConvBlockState, Float, MaxPool,
    Window, batch_norm_train, batch_norm_train_backward, conv_block_backward, conv_block_train,
    conv2d, conv2d_activated, conv2d_input_gradient, conv2d_weight_gradient, global_avg_pool,
    global_avg_pool_backward, max_pool, max_pool_backward,
};
use support::{assert_close, bits, to_f64, values, with_pools};

const EPSILON: f64 = 1e-5;
const HALVING: Option<BlockPool> = Some(BlockPool::Max(Window::HALVING));
const AVERAGE: Option<BlockPool> = Some(BlockPool::GlobalAvg);

fn block(
    examples: usize,
    channels: [usize; 2],
    image: [usize; 2],
    pool: Option<BlockPool>,
) -> ConvBlock {
    ConvBlock {
        conv: Conv2d {
            examples,
            channels,
            image,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [(1, 1), (1, 1)],
            dilation: [1, 1],
            groups: 1,
        },
        epsilon: EPSILON,
        activation: Activation::Relu,
        pool,
    }
}

/// Every plan of the norm (channels in groups, few channels, few positions), each with and without pooling.
fn cases() -> Vec<ConvBlock> {
    let overlapping = Window {
        size: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    };
    let strided = Conv2d {
        stride: [2, 2],
        groups: 2,
        ..block(3, [4, 6], [9, 11], None).conv
    };
    vec![
        block(2, [1, 1], [1, 1], None),
        block(0, [2, 3], [6, 6], HALVING),
        block(3, [2, 3], [7, 9], HALVING),
        block(3, [2, 3], [7, 9], None),
        block(3, [5, 40], [8, 8], HALVING),
        block(3, [5, 40], [9, 7], Some(BlockPool::Max(overlapping))),
        block(37, [5, 40], [9, 7], None),
        block(5, [4, 20], [3, 3], HALVING),
        block(130, [3, 32], [14, 14], HALVING),
        block(2, [1, 1], [1, 1], AVERAGE),
        block(0, [2, 3], [6, 6], AVERAGE),
        block(3, [2, 3], [7, 9], AVERAGE),
        block(37, [5, 40], [9, 7], AVERAGE),
        ConvBlock {
            conv: strided,
            activation: Activation::None,
            ..block(3, [4, 6], [9, 11], Some(BlockPool::Max(overlapping)))
        },
    ]
}

struct Case<T> {
    block: ConvBlock,
    x: Vec<T>,
    weight: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
    dy: Vec<T>,
}

/// Output, mean, variance, and the gradients by x, weight, scale and shift.
type Results<T> = [Vec<T>; 7];

const NAMES: [&str; 7] = [
    "output", "mean", "variance", "dx", "dweight", "dscale", "dshift",
];

impl<T: Float> Case<T> {
    fn new(block: ConvBlock) -> Self {
        let conv = &block.conv;
        let [channels_in, channels_out] = conv.channels;
        let taps = channels_in / conv.groups * conv.kernel[0] * conv.kernel[1];
        let output = block.output().expect("a block that fits");
        Self {
            block,
            x: values(
                1,
                conv.examples * channels_in * conv.image[0] * conv.image[1],
            ),
            weight: values(2, channels_out * taps),
            scale: values(3, channels_out),
            shift: values(4, channels_out),
            dy: values(5, output.count * output.height * output.width),
        }
    }

    fn affine(&self) -> Affine<'_, T> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    fn fused(&self) -> Results<T> {
        let forward = conv_block_train(&self.x, &self.weight, self.affine(), &self.block);
        let state = ConvBlockState {
            convolved: (&forward.convolved).into(),
            mean: &forward.mean,
            reciprocal_deviation: &forward.reciprocal_deviation,
            winners: &forward.winners,
        };
        let backward = |dy: Cow<'_, [T]>, state, wanted| {
            let (weight, affine) = (&self.weight, self.affine());
            conv_block_backward(&self.x, dy, weight, affine, state, &self.block, wanted)
        };
        let nothing = backward((&self.dy).into(), state.clone(), [false, false]);
        let all = backward((&self.dy).into(), state.clone(), [true, true]);
        // What is given away is written over, to the same bits.
        let given = ConvBlockState {
            convolved: forward.convolved.clone().into(),
            ..state
        };
        let over = backward(self.dy.clone().into(), given, [true, true]);
        for (over, beside) in [(&over.input, &all.input), (&over.weight, &all.weight)] {
            let [over, beside] = [over, beside].map(|values| values.as_deref().map(bits));
            assert_eq!(over, beside);
        }
        assert_eq!(bits(&over.scale), bits(&all.scale));
        assert!(nothing.input.is_none() && nothing.weight.is_none());
        assert_eq!(bits(&nothing.scale), bits(&all.scale));
        [
            forward.output,
            forward.mean,
            forward.variance,
            all.input.expect("it was asked for"),
            all.weight.expect("it was asked for"),
            all.scale,
            all.shift,
        ]
    }

    fn unfused(&self) -> Results<T> {
        let (conv, activation) = (&self.block.conv, self.block.activation);
        let planes = self.block.convolved().expect("a kernel that fits");
        let shape = Channels {
            n: conv.examples,
            c: conv.channels[1],
            s: planes.height * planes.width,
        };
        let affine = Some(self.affine());
        let convolved = conv2d(&self.x, &self.weight, None, conv);
        let norm = batch_norm_train(&convolved, shape, affine, EPSILON, activation);
        let (output, gradient) = match self.block.pool {
            None => (norm.output.clone(), self.dy.clone()),
            Some(BlockPool::GlobalAvg) => (
                global_avg_pool(&norm.output, shape),
                global_avg_pool_backward(&self.dy, shape),
            ),
            Some(BlockPool::Max(window)) => {
                let MaxPool { output, winners } = max_pool(&norm.output, planes, window);
                let gradient = max_pool_backward(&self.dy, &winners, planes, window);
                (output, gradient)
            }
        };
        let gradients = batch_norm_train_backward(
            &convolved,
            &gradient,
            shape,
            &norm.mean,
            &norm.reciprocal_deviation,
            affine,
            activation,
        );
        [
            output,
            norm.mean,
            norm.variance,
            conv2d_input_gradient(&gradients.input, &self.weight, conv),
            conv2d_weight_gradient(&self.x, &gradients.input, conv),
            gradients.scale,
            gradients.shift,
        ]
    }
}

#[test]
fn is_its_parts() {
    for block in cases() {
        let case = Case::<f64>::new(block);
        let (fused, unfused) = (case.fused(), case.unfused());
        for ((name, fused), unfused) in NAMES.iter().zip(&fused).zip(&unfused) {
            let what = format!("{name} of {block:?}");
            assert_close(&what, fused, unfused, |i| 1e-9 * (1.0 + unfused[i].abs()));
        }
    }
}

#[test]
fn in_single_precision_is_near_its_parts() {
    for block in cases() {
        let case = Case::<f32>::new(block);
        let (fused, unfused) = (case.fused(), case.unfused());
        // The gradients jump where another value wins by rounding; the forward does not.
        for i in 0..3 {
            let what = format!("{} of {block:?}", NAMES[i]);
            let expected = to_f64(&unfused[i]);
            assert_close(&what, &fused[i], &expected, |i| {
                1e-4 * (1.0 + expected[i].abs())
            });
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for block in cases() {
        let case = Case::<f32>::new(block);
        with_pools(|| {
            case.fused()
                .iter()
                .flat_map(|values| bits(values))
                .collect()
        });
    }
}

/// Few and many images, odd sizes, windows that overlap and reach over the edge, images that are pooled in bands,
/// groups, one image whose outputs are shared out.
fn pooled_cases() -> Vec<ConvBlock> {
    let window = |size: usize, stride: usize, padding: usize| Window {
        size: [size; 2],
        stride: [stride; 2],
        padding: [padding; 2],
    };
    let mut cases = cases();
    cases.extend([
        block(128, [8, 64], [14, 14], HALVING),
        block(65, [8, 64], [7, 5], Some(BlockPool::Max(window(3, 2, 1)))),
        block(1, [3, 64], [31, 33], HALVING),
        block(2, [3, 40], [95, 83], HALVING),
        block(1, [3, 64], [31, 33], AVERAGE),
        block(2, [32, 40], [29, 28], HALVING),
        block(2, [32, 40], [29, 28], AVERAGE),
        block(2, [1, 17], [301, 300], AVERAGE),
        block(2, [3, 40], [95, 83], Some(BlockPool::Max(window(3, 2, 1)))),
        block(1, [2, 24], [120, 70], Some(BlockPool::Max(window(5, 3, 2)))),
        block(1, [2, 24], [120, 70], Some(BlockPool::Max(window(2, 5, 0)))),
        block(1, [1, 3], [2, 2], Some(BlockPool::Max(window(2, 1, 1)))),
    ]);
    cases
}

#[test]
fn an_activated_convolution_is_one_its_activation_and_pooling() {
    for block in pooled_cases() {
        let case = Case::<f32>::new(block);
        let (conv, bias) = (&block.conv, Some(&case.shift[..]));
        let plain = conv2d(&case.x, &case.weight, bias, conv);
        for activation in [Activation::Relu, Activation::None] {
            let activated = plain.iter().map(|&y| match activation {
                Activation::Relu if y <= 0.0 => 0.0,
                _ => y,
            });
            let activated: Vec<f32> = activated.collect();
            let planes = block.convolved().expect("a kernel that fits");
            let expected = match block.pool {
                None => activated,
                Some(BlockPool::Max(window)) => max_pool(&activated, planes, window).output,
                Some(BlockPool::GlobalAvg) => {
                    let shape = Channels {
                        n: conv.examples,
                        c: conv.channels[1],
                        s: planes.height * planes.width,
                    };
                    global_avg_pool(&activated, shape)
                }
            };
            let run =
                || conv2d_activated(&case.x, &case.weight, bias, conv, activation, block.pool);
            assert_eq!(bits(&run()), bits(&expected), "{block:?}");
            with_pools(|| bits(&run()));
        }
    }
}

#[test]
#[should_panic(expected = "a window of 2×2 does not fit images of 1×3")]
fn windows_that_do_not_fit_are_refused() {
    let case = Case::<f32>::new(block(2, [2, 3], [1, 3], None));
    let (conv, pool) = (&case.block.conv, HALVING);
    conv2d_activated(&case.x, &case.weight, None, conv, Activation::None, pool);
}

#[test]
#[should_panic(expected = "dy: expected [6, 4, 5] values")]
fn a_gradient_of_another_length_is_refused() {
    let case = Case::<f32>::new(block(2, [2, 3], [8, 10], HALVING));
    let forward = conv_block_train(&case.x, &case.weight, case.affine(), &case.block);
    let state = ConvBlockState {
        convolved: (&forward.convolved).into(),
        mean: &forward.mean,
        reciprocal_deviation: &forward.reciprocal_deviation,
        winners: &forward.winners,
    };
    let dy = &case.dy[1..];
    conv_block_backward(
        &case.x,
        dy,
        &case.weight,
        case.affine(),
        state,
        &case.block,
        [true; 2],
    );
}
