//! The operations on the CPU: contiguous slices for the kernels.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType, Element, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};
use evenkeel_kernels::{
    self as kernels, Activation, Affine, Channels, Conv2d, Dropout, Planes, Window,
};

use super::{Operations, planes};

/// The `[n, c, s]` view of a tensor `[N, C, ...]`.
fn channels(shape: &Shape) -> Channels {
    Channels {
        n: shape[0],
        c: shape[1],
        s: shape[2..].iter().product(),
    }
}

fn tensor<E: Element + bytemuck::Pod>(values: Vec<E>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        E::dtype(),
    )
}

fn vector<E: Element + bytemuck::Pod>(values: Vec<E>) -> FlexTensor {
    let shape = Shape::new([values.len()]);
    tensor(values, shape)
}

fn slice<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor
        .as_slice()
        .expect("made contiguous and of the right type by `with_slices`")
}

/// Makes every input contiguous and of one floating type, runs `f64` or `f32` kernels on them, and
/// converts the results back: half-precision tensors are stored as such and computed in `f32`.
macro_rules! with_slices {
    ([$($input:ident),+], |$float:ident| $body:expr) => {{
        let dtype = first_dtype(&[$(&$input),+]);
        let compute = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        $(let $input = cast($input, compute).to_contiguous();)+
        if compute == DType::F64 {
            type $float = f64;
            $body.map(|output| cast(output, dtype))
        } else {
            type $float = f32;
            $body.map(|output| cast(output, dtype))
        }
    }};
}

fn first_dtype(inputs: &[&FlexTensor]) -> DType {
    inputs[0].dtype()
}

fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    let dtype = match dtype {
        DType::F64 => FloatDType::F64,
        DType::F32 => FloatDType::F32,
        DType::F16 => FloatDType::F16,
        DType::BF16 => FloatDType::BF16,
        other => panic!("evenkeel: expected a floating-point tensor, got {other:?}"),
    };
    <Flex as burn::backend::ops::FloatTensorOps<Flex>>::float_cast(tensor, dtype)
}

impl Operations for Flex {
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
        let shape = x.shape();
        let [output, mean, variance, reciprocal_deviation] = with_slices!([x, scale, shift], |F| {
            let affine = Affine::<F> {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let forward = kernels::batch_norm_train::<F>(
                slice(&x),
                channels(&shape),
                Some(affine),
                epsilon,
                activation,
            );
            [
                tensor(forward.output, shape),
                vector(forward.mean),
                vector(forward.variance),
                vector(forward.reciprocal_deviation),
            ]
        });
        (output, mean, variance, reciprocal_deviation)
    }

    fn channel_norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let inputs = [x, gradient, mean, reciprocal_deviation, scale, shift];
        backward(inputs, shape, activation, Statistics::OfTheBatch)
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let shape = x.shape();
        let [output] = with_slices!([x, mean, reciprocal_deviation, scale, shift], |F| {
            let affine = Affine::<F> {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let output = kernels::batch_norm_apply::<F>(
                slice(&x),
                channels(&shape),
                slice(&mean),
                slice(&reciprocal_deviation),
                Some(affine),
                activation,
            );
            [tensor(output, shape)]
        });
        output
    }

    fn channel_norm_apply_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let inputs = [x, gradient, mean, reciprocal_deviation, scale, shift];
        backward(inputs, shape, activation, Statistics::Constant)
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let shape = x.shape();
        let [output] = with_slices!([x], |F| [tensor(
            kernels::dropout::<F>(slice(&x), &dropout, 0),
            shape
        )]);
        output
    }

    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.shape();
        let [output] = with_slices!([x], |F| {
            let output = kernels::global_avg_pool::<F>(slice(&x), channels(&shape));
            [tensor(output, Shape::new([shape[0], shape[1]]))]
        });
        output
    }

    fn global_avg_pool_backward(gradient: FloatTensor<Self>, shape: Channels) -> FloatTensor<Self> {
        let [output] = with_slices!([gradient], |F| {
            let output = kernels::global_avg_pool_backward::<F>(slice(&gradient), shape);
            [tensor(output, Shape::new([shape.n, shape.c, shape.s]))]
        });
        output
    }

    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let [height, width] = conv
            .output()
            .unwrap_or_else(|problem| panic!("evenkeel: {problem}"));
        let shape = Shape::new([conv.examples, conv.channels[1], height, width]);
        let [output] = with_slices!([x, weight, bias], |F| {
            let bias = slice::<F>(&bias);
            let bias = (!bias.is_empty()).then_some(bias);
            let y = kernels::conv2d::<F>(slice(&x), slice(&weight), bias, &conv);
            [tensor(y, shape)]
        });
        output
    }

    fn convolution_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let [output] = with_slices!([gradient, weight], |F| {
            let (dy, weight) = (slice(&gradient), slice(&weight));
            let dx = kernels::conv2d_input_gradient::<F>(dy, weight, &conv);
            let [height, width] = conv.image;
            let shape = Shape::new([conv.examples, conv.channels[0], height, width]);
            [tensor(dx, shape)]
        });
        output
    }

    fn convolution_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let [output] = with_slices!([x, gradient], |F| {
            let dweight = kernels::conv2d_weight_gradient::<F>(slice(&x), slice(&gradient), &conv);
            let [height, width] = conv.kernel;
            let [channels_in, channels_out] = conv.channels;
            let shape = Shape::new([channels_out, channels_in / conv.groups, height, width]);
            [tensor(dweight, shape)]
        });
        output
    }

    fn convolution_bias_gradient(gradient: FloatTensor<Self>, conv: Conv2d) -> FloatTensor<Self> {
        let [output] = with_slices!([gradient], |F| {
            let dbias = kernels::conv2d_bias_gradient::<F>(slice(&gradient), &conv);
            [vector(dbias)]
        });
        output
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> (FloatTensor<Self>, IntTensor<Self>) {
        let [n, c, ..] = x.shape().dims::<4>();
        let planes = planes(&x.shape());
        let winners;
        let [output] = with_slices!([x], |F| {
            let pooled = kernels::max_pool::<F>(slice(&x), planes, window);
            winners = pooled.winners;
            [vector(pooled.output)]
        });
        let Planes { height, width, .. } = window
            .output(planes)
            .expect("the kernel checked that the windows fit");
        let shape = Shape::new([n, c, height, width]);
        (output.reshape(shape.clone()), tensor(winners, shape))
    }

    fn max_pool_backward(
        gradient: FloatTensor<Self>,
        winners: IntTensor<Self>,
        planes: Planes,
        window: Window,
    ) -> FloatTensor<Self> {
        let [output] = with_slices!([gradient], |F| {
            let dx =
                kernels::max_pool_backward::<F>(slice(&gradient), slice(&winners), planes, window);
            [tensor(
                dx,
                Shape::new([planes.count, planes.height, planes.width]),
            )]
        });
        output
    }
}

/// Where the statistics came from: they have a gradient of their own if from the batch.
#[derive(Clone, Copy)]
enum Statistics {
    OfTheBatch,
    Constant,
}

fn backward(
    inputs: [FlexTensor; 6],
    shape: Shape,
    activation: Activation,
    statistics: Statistics,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [x, gradient, mean, reciprocal_deviation, scale, shift] = inputs;
    let [input, scale, shift] = with_slices!(
        [x, gradient, mean, reciprocal_deviation, scale, shift],
        |F| {
            let kernel = match statistics {
                Statistics::OfTheBatch => kernels::batch_norm_train_backward::<F>,
                Statistics::Constant => kernels::batch_norm_apply_backward::<F>,
            };
            let affine = Affine {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let gradients = kernel(
                slice(&x),
                slice(&gradient),
                channels(&shape),
                slice(&mean),
                slice(&reciprocal_deviation),
                Some(affine),
                activation,
            );
            [
                tensor(gradients.input, shape),
                vector(gradients.scale),
                vector(gradients.shift),
            ]
        }
    );
    (input, scale, shift)
}
