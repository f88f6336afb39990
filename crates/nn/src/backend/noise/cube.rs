//! Masks on GPUs.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_fusion::{Fusion, FusionBackend};
use cubecl::prelude::*;
use evenkeel_kernels::Dropout;

use super::mask::MaskOperations;
use crate::backend::cube::{cubes, deferred, elems, empty, width};

impl MaskOperations for CubeBackend {
    fn mask(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let y = empty(&x, x.shape(), x.dtype);
        let elements = x.shape().num_elements();
        let client = x.client.clone();
        let types = elems(x.dtype);
        let [left, right] = dropout.key().words();
        let kept = InputScalar::new(dropout.kept(), types[1]);
        let width = width(&x, elements);
        if dropout.run() == 1 {
            let (count, dim) = cubes(&client, elements.div_ceil(4));
            elements_kernel::launch(
                &client,
                count,
                dim,
                width,
                x.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                left,
                right,
                dropout.threshold(),
                kept,
                types,
            );
            return y;
        }
        // The first run is as long as all there is, or shorter; and less than 2³¹ elements are there.
        let run = usize::try_from(dropout.run()).map_or(elements, |run| run.min(elements));
        let width = width.min(self::width(&x, run));
        let (count, dim) = cubes(&client, elements / width);
        runs_kernel::launch(
            &client,
            count,
            dim,
            width,
            x.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            left,
            right,
            dropout.threshold(),
            kept,
            run as u32,
            types,
        );
        y
    }
}

impl<B: FusionBackend + MaskOperations> MaskOperations for Fusion<B> {
    fn mask(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let output = (x.shape(), x.dtype());
        let run = move |[x]: [FloatTensor<B>; 1]| [B::mask(x, dropout)];
        let [y] = deferred::<B, _, _>("evenkeel::mask", [x], [output], run);
        y
    }
}

/// y = x times the factor of its element, of which a unit makes the four of one Philox block.
///
/// Memory: each element is read once and written once, 8 bytes in `f32`.
#[cube(launch)]
fn elements_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    y: &mut [Vector<E, N>],
    left: u32,
    right: u32,
    threshold: u32,
    kept: InputScalar,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let block = ABSOLUTE_POS;
    let width = N::value();
    let vectors = comptime!(4 / width);
    if block * vectors < x.len() {
        let words = philox4x32(left, right, block as u32);
        let kept = kept.get::<F>();
        #[unroll]
        for v in 0..vectors {
            let position = block * vectors + v;
            if position < x.len() {
                let mut factor = Vector::<F, N>::zeroed();
                #[unroll]
                for lane in 0..width {
                    let word = words.extract(comptime!(v * width + lane));
                    factor.insert(lane, select(word >= threshold, kept, F::new(0.0)));
                }
                y[position] = Vector::cast_from(Vector::<F, N>::cast_from(x[position]) * factor);
            }
        }
    }
}

/// The same where a run of elements shares a factor: each vector is of one run, and a unit's.
#[cube(launch)]
fn runs_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    y: &mut [Vector<E, N>],
    left: u32,
    right: u32,
    threshold: u32,
    kept: InputScalar,
    run: u32,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let position = ABSOLUTE_POS;
    if position < x.len() {
        let of_mask = (position * N::value()) as u32 / run;
        let words = philox4x32(left, right, of_mask / 4);
        let lane = of_mask as usize % 4;
        let mut word = words.extract(0usize);
        #[unroll]
        for other in 1usize..4usize {
            word = select(lane == other, words.extract(other), word);
        }
        let factor = select(word >= threshold, kept.get::<F>(), F::new(0.0));
        let product = Vector::<F, N>::cast_from(x[position]) * Vector::new(factor);
        y[position] = Vector::cast_from(product);
    }
}

/// The words of a block: `evenkeel_random::philox4x32` with the upper half of a product by `mul_hi`.
/// Tensors have less than 2³¹ elements, so a block's number is one word.
#[cube]
fn philox4x32(left: u32, right: u32, block: u32) -> Vector<u32, Const<4>> {
    let mut left = left;
    let mut right = right;
    let mut a = block;
    let mut b = 0u32;
    let mut c = 0u32;
    let mut d = 0u32;
    #[unroll]
    for _ in 0..10 {
        let first = a;
        let second = c;
        a = second.mul_hi(0xCD9E_8D57u32) ^ b ^ left;
        b = second * 0xCD9E_8D57u32;
        c = first.mul_hi(0xD251_1F53u32) ^ d ^ right;
        d = first * 0xD251_1F53u32;
        left += 0x9E37_79B9u32;
        right += 0xBB67_AE85u32;
    }
    let mut words = Vector::<u32, Const<4>>::zeroed();
    words.insert(0usize, a);
    words.insert(1usize, b);
    words.insert(2usize, c);
    words.insert(3usize, d);
    words
}
