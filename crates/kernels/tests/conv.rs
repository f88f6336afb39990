//! Convolution against its definition, forward and all gradients.

mod support;

use evenkeel_kernels::{
    Conv2d, Float, conv2d, conv2d_bias_gradient, conv2d_input_gradient, conv2d_weight_gradient,
    reference,
};
use proptest::prelude::*;
use support::{assert_close, bits, to_f64, unit, values, with_pools};

/// The same on both sides.
fn around(padding: [usize; 2]) -> [(usize, usize); 2] {
    padding.map(|padding| (padding, padding))
}

fn conv(examples: usize, channels: [usize; 2], image: [usize; 2], kernel: [usize; 2]) -> Conv2d {
    Conv2d {
        examples,
        channels,
        image,
        kernel,
        stride: [1, 1],
        padding: around([kernel[0] / 2, kernel[1] / 2]),
        dilation: [1, 1],
        groups: 1,
    }
}

/// Of every class: none, one pixel, odd sizes, kernels of 1, 3, 5, 7 and oblong ones, strides,
/// dilation, more padding than image, groups, depthwise, many images of one or several at a time (some of which are whole tiles), images that
/// are handled in stripes, one image whose outputs are shared out, more weights than are handled at a time, those that Winograd's way is for, of
/// images side by side and alternating.
fn cases() -> Vec<Conv2d> {
    let three = conv(3, [4, 5], [9, 11], [3, 3]);
    vec![
        conv(0, [3, 4], [5, 5], [3, 3]),
        conv(2, [0, 4], [5, 5], [3, 3]),
        conv(2, [3, 0], [5, 5], [3, 3]),
        conv(1, [1, 1], [1, 1], [1, 1]),
        conv(1, [1, 1], [1, 1], [3, 3]),
        conv(1, [17, 13], [7, 7], [1, 1]),
        conv(2, [3, 5], [13, 8], [5, 5]),
        conv(2, [2, 3], [15, 16], [7, 7]),
        conv(2, [3, 2], [6, 9], [2, 4]),
        conv(300, [2, 3], [3, 3], [3, 3]),
        conv(128, [1, 6], [28, 28], [3, 3]),
        conv(37, [16, 19], [7, 7], [3, 3]),
        conv(5, [33, 20], [14, 14], [3, 3]),
        conv(3, [130, 3], [28, 28], [3, 3]),
        conv(2, [40, 33], [70, 65], [3, 3]),
        conv(2, [30, 40], [7, 150], [1, 9]),
        conv(1, [8, 64], [16, 15], [3, 3]),
        conv(40, [20, 70], [4, 4], [3, 3]),
        conv(20, [300, 40], [2, 2], [3, 3]),
        conv(67, [9, 64], [7, 6], [3, 3]),
        conv(65, [70, 33], [9, 8], [5, 3]),
        conv(3, [32, 40], [29, 28], [3, 3]),
        conv(34, [64, 65], [14, 14], [3, 3]),
        conv(1, [130, 64], [30, 31], [3, 3]),
        conv(65, [64, 65], [7, 7], [3, 3]),
        conv(66, [48, 40], [13, 14], [3, 3]),
        Conv2d {
            padding: [(0, 1), (2, 0)],
            groups: 2,
            ..conv(2, [64, 64], [30, 28], [3, 3])
        },
        Conv2d {
            stride: [2, 2],
            ..conv(64, [40, 32], [9, 8], [3, 3])
        },
        Conv2d {
            dilation: [2, 3],
            padding: around([2, 3]),
            ..conv(70, [3, 34], [5, 6], [3, 3])
        },
        Conv2d {
            stride: [2, 2],
            ..conv(2, [90, 35], [50, 41], [3, 3])
        },
        Conv2d {
            stride: [2, 2],
            ..conv(33, [24, 40], [8, 8], [1, 1])
        },
        Conv2d {
            stride: [2, 2],
            ..three
        },
        Conv2d {
            stride: [3, 1],
            padding: around([0, 2]),
            ..three
        },
        Conv2d {
            stride: [1, 4],
            padding: around([0, 0]),
            ..three
        },
        Conv2d {
            dilation: [2, 3],
            padding: around([2, 3]),
            ..three
        },
        Conv2d {
            padding: [(0, 1), (2, 0)],
            stride: [2, 2],
            ..three
        },
        Conv2d {
            padding: around([12, 15]),
            ..three
        },
        Conv2d {
            padding: around([7, 9]),
            stride: [5, 2],
            dilation: [3, 2],
            ..three
        },
        Conv2d {
            channels: [6, 4],
            groups: 2,
            ..three
        },
        Conv2d {
            channels: [6, 6],
            groups: 6,
            ..three
        },
        Conv2d {
            channels: [40, 40],
            groups: 40,
            ..conv(30, [40, 40], [14, 13], [3, 3])
        },
        Conv2d {
            channels: [6, 3],
            groups: 3,
            stride: [2, 2],
            ..conv(3, [6, 3], [30, 31], [5, 5])
        },
        Conv2d {
            channels: [4, 8],
            groups: 4,
            stride: [2, 1],
            examples: 1,
            ..three
        },
    ]
}

struct Case<T> {
    conv: Conv2d,
    x: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
    dy: Vec<T>,
}

impl<T: Float> Case<T> {
    fn new(conv: Conv2d) -> Self {
        let [channels_in, channels_out] = conv.channels;
        let [height, width] = conv.output().expect("a kernel that fits");
        let taps = channels_in / conv.groups * conv.kernel[0] * conv.kernel[1];
        Self {
            conv,
            x: values(
                1,
                conv.examples * channels_in * conv.image[0] * conv.image[1],
            ),
            weight: values(2, channels_out * taps),
            bias: values(3, channels_out),
            dy: values(4, conv.examples * channels_out * height * width),
        }
    }

    /// All results, in one list each: y, dx, dweight, dbias.
    fn run(&self) -> [Vec<T>; 4] {
        [
            conv2d(&self.x, &self.weight, Some(&self.bias), &self.conv),
            conv2d_input_gradient(&self.dy, &self.weight, &self.conv),
            conv2d_weight_gradient(&self.x, &self.dy, &self.conv),
            conv2d_bias_gradient(&self.dy, &self.conv),
        ]
    }

    fn check(&self) {
        let (x, weight, dy) = (to_f64(&self.x), to_f64(&self.weight), to_f64(&self.dy));
        let y = reference::conv2d(&x, &weight, &to_f64(&self.bias), &self.conv);
        let [dx, dweight, dbias] = reference::conv2d_backward(&x, &weight, &dy, &self.conv);
        let found = self.run();
        // Sums of products of at most 4: the terms of the longest, and their roundings.
        let terms = [
            self.weight.len() / self.conv.channels[1].max(1),
            self.weight.len() / (self.conv.channels[0] / self.conv.groups).max(1),
            self.dy.len() / self.conv.channels[1].max(1),
            self.dy.len() / self.conv.channels[1].max(1),
        ];
        let expected = [y, dx, dweight, dbias];
        for (i, what) in ["y", "dx", "dweight", "dbias"].into_iter().enumerate() {
            let tolerance = 4.0 * unit::<T>() * (8.0 + terms[i] as f64);
            let what = format!("{what} of {:?}", self.conv);
            assert_close(&what, &found[i], &expected[i], |_| tolerance);
        }
    }
}

#[test]
fn matches_the_definition() {
    for conv in cases() {
        Case::<f32>::new(conv).check();
        Case::<f64>::new(conv).check();
    }
}

#[test]
fn without_a_bias_it_is_zero() {
    let case = Case::<f32>::new(conv(2, [3, 5], [6, 7], [3, 3]));
    let none = conv2d(&case.x, &case.weight, None, &case.conv);
    let zeros = conv2d(&case.x, &case.weight, Some(&[0.0; 5]), &case.conv);
    assert_eq!(bits(&none), bits(&zeros));
}

#[test]
fn bits_do_not_depend_on_threads() {
    for conv in cases() {
        let case = Case::<f32>::new(conv);
        with_pools(|| case.run().iter().flat_map(|values| bits(values)).collect());
    }
}

proptest! {
    #[test]
    fn any_geometry_matches_the_definition(
        examples in 0..4_usize,
        (groups, group_in, group_out) in (1..4_usize, 1..4_usize, 1..4_usize),
        image in prop::array::uniform2(1..9_usize),
        kernel in prop::array::uniform2(1..5_usize),
        stride in prop::array::uniform2(1..4_usize),
        padding in prop::array::uniform2((0..5_usize, 0..5_usize)),
        dilation in prop::array::uniform2(1..4_usize),
    ) {
        let channels = [groups * group_in, groups * group_out];
        let conv = Conv2d {
            examples, channels, image, kernel, stride, padding, dilation, groups,
        };
        prop_assume!(conv.output().is_ok());
        Case::<f64>::new(conv).check();
    }
}

#[test]
fn geometries_that_do_not_fit_are_refused() {
    let fine = conv(1, [4, 6], [5, 5], [3, 3]);
    let cases = [
        (
            Conv2d {
                image: [5, 0],
                padding: around([1, 1]),
                ..fine
            },
            "does not fit images of [5, 0]",
        ),
        (
            Conv2d {
                dilation: [4, 1],
                ..fine
            },
            "[3, 3], [4, 1] apart, does not fit",
        ),
        (
            Conv2d {
                stride: [0, 1],
                ..fine
            },
            "of at least 1, got [3, 3], [0, 1], [1, 1]",
        ),
        (
            Conv2d { groups: 4, ..fine },
            "divide the channels [4, 6], got 4",
        ),
        (Conv2d { groups: 0, ..fine }, "got 0"),
        (
            Conv2d {
                padding: around([usize::MAX, 1]),
                ..fine
            },
            "does not fit",
        ),
    ];
    for (conv, expected) in cases {
        let problem = conv.output().unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
#[should_panic(expected = "weight: expected [5, 3, 3, 3] values")]
fn a_wrong_length_is_named() {
    let conv = conv(1, [3, 5], [2, 2], [3, 3]);
    conv2d(&[0.0_f32; 12], &[0.0; 134], None, &conv);
}

#[test]
fn values_that_are_not_finite_spread_to_their_neighbours_alone() {
    let mut case = Case::<f32>::new(conv(2, [2, 3], [8, 8], [3, 3]));
    case.x[2 * 64 + 3 * 8 + 3] = f32::NAN;
    let [y, ..] = case.run();
    for (i, y) in y.iter().enumerate() {
        let (n, row, column) = (i / (3 * 64), i / 8 % 8, i % 8);
        let near = n == 1 && row.abs_diff(3) <= 1 && column.abs_diff(3) <= 1;
        assert_eq!(y.is_nan(), near, "{i}");
    }
}
