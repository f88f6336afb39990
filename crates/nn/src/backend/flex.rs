//! The operations on the CPU: contiguous slices for the kernels.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType, Element, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};
use evenkeel_kernels::{
    self as kernels, Activation, Affine, Channels, Conv2d, Dropout, Planes, RowNorm, Window,
};

use super::{Operations, computed_in, planes};

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

/// Makes every input contiguous and of one type, and runs `f64` or `f32` kernels on them: the type
/// that the first input is computed in. The results are of that type too.
macro_rules! with_slices {
    ([$($input:ident),+], |$float:ident| $body:expr) => {{
        let compute = computed_in(first(&[$(&$input),+]).dtype());
        $(let $input = cast($input, compute.into()).to_contiguous();)+
        if compute == FloatDType::F64 {
            type $float = f64;
            $body
        } else {
            type $float = f32;
            $body
        }
    }};
}

fn first<'a>(inputs: &[&'a FlexTensor]) -> &'a FlexTensor {
    inputs[0]
}

fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    <Flex as FloatTensorOps<Flex>>::float_cast(tensor, dtype.into())
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
        let (shape, dtype) = (x.shape(), x.dtype());
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
        (cast(output, dtype), mean, variance, reciprocal_deviation)
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
        let (shape, dtype) = (x.shape(), x.dtype());
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
        cast(output, dtype)
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

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output, mean, reciprocal_deviation] = with_slices!([x, scale, shift], |F| {
            let affine = Affine {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let forward = kernels::row_norm::<F>(slice(&x), affine, &norm);
            [
                tensor(forward.output, shape),
                vector(forward.mean),
                vector(forward.reciprocal_deviation),
            ]
        });
        (cast(output, dtype), mean, reciprocal_deviation)
    }

    fn row_norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
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
                let gradients = kernels::row_norm_backward::<F>(
                    slice(&x),
                    slice(&gradient),
                    slice(&mean),
                    slice(&reciprocal_deviation),
                    affine,
                    &norm,
                );
                [
                    tensor(gradients.input, shape),
                    vector(gradients.scale),
                    vector(gradients.shift),
                ]
            }
        );
        let [input, scale, shift] = gradients;
        (
            cast(input, dtypes[0]),
            cast(scale, dtypes[1]),
            cast(shift, dtypes[2]),
        )
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| [tensor(
            kernels::dropout::<F>(slice(&x), &dropout, 0),
            shape
        )]);
        cast(output, dtype)
    }

    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| {
            let output = kernels::global_avg_pool::<F>(slice(&x), channels(&shape));
            [tensor(output, Shape::new([shape[0], shape[1]]))]
        });
        cast(output, dtype)
    }

    fn global_avg_pool_backward(gradient: FloatTensor<Self>, shape: Channels) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient], |F| {
            let output = kernels::global_avg_pool_backward::<F>(slice(&gradient), shape);
            [tensor(output, Shape::new([shape.n, shape.c, shape.s]))]
        });
        cast(output, dtype)
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
        let dtype = x.dtype();
        let [output] = with_slices!([x, weight, bias], |F| {
            let bias = slice::<F>(&bias);
            let bias = (!bias.is_empty()).then_some(bias);
            let y = kernels::conv2d::<F>(slice(&x), slice(&weight), bias, &conv);
            [tensor(y, shape)]
        });
        cast(output, dtype)
    }

    fn convolution_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient, weight], |F| {
            let (dy, weight) = (slice(&gradient), slice(&weight));
            let dx = kernels::conv2d_input_gradient::<F>(dy, weight, &conv);
            let [height, width] = conv.image;
            let shape = Shape::new([conv.examples, conv.channels[0], height, width]);
            [tensor(dx, shape)]
        });
        cast(output, dtype)
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
        let (planes, dtype) = (planes(&x.shape()), x.dtype());
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
        (
            cast(output, dtype).reshape(shape.clone()),
            tensor(winners, shape),
        )
    }

    fn max_pool_backward(
        gradient: FloatTensor<Self>,
        winners: IntTensor<Self>,
        planes: Planes,
        window: Window,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient], |F| {
            let dx =
                kernels::max_pool_backward::<F>(slice(&gradient), slice(&winners), planes, window);
            [tensor(
                dx,
                Shape::new([planes.count, planes.height, planes.width]),
            )]
        });
        cast(output, dtype)
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
    let dtypes = [x.dtype(), scale.dtype(), shift.dtype()];
    let gradients = with_slices!(
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
    let [input, scale, shift] = gradients;
    (
        cast(input, dtypes[0]),
        cast(scale, dtypes[1]),
        cast(shift, dtypes[2]),
    )
}
