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
    fn mask(x: FloatTensor<Self>, dropout: Dropout, first: u64) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let y = empty(&x, x.shape(), x.dtype);
        let elements = x.shape().num_elements();
        let client = x.client.clone();
        let types = elems(x.dtype);
        let [left, right] = dropout.key().words();
        let kept = InputScalar::new(dropout.kept(), types[1]);
        let width = width(&x, elements);
        if dropout.run() == 1 {
            // Where the first element is not the first of a block, vectors would be of two.
            let (block, skipped) = (first / 4, (first % 4) as usize);
            let width = if skipped == 0 { width } else { 1 };
            let (count, dim) = cubes(&client, (elements + skipped).div_ceil(4));
            elements_kernel::launch(
                &client,
                count,
                dim,
                width,
                x.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                left,
                right,
                block as u32,
                (block >> 32) as u32,
                skipped as u32,
                dropout.threshold(),
                kept,
                types,
            );
            return y;
        }
        assert_eq!(first, 0, "runs from the first one on");
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
    fn mask(x: FloatTensor<Self>, dropout: Dropout, first: u64) -> FloatTensor<Self> {
        let output = (x.shape(), x.dtype());
        let run = move |[x]: [FloatTensor<B>; 1]| [B::mask(x, dropout, first)];
        let [y] = deferred::<B, _, _>("evenkeel::mask", [x], [output], run);
        y
    }
}

/// y = x times the factor of its element, of which a unit makes the four of one Philox block, or those that are left of
/// the first one where `skipped` come before the tensor's.
///
/// Memory: each element is read once and written once, 8 bytes in `f32`.
#[cube(launch)]
fn elements_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    y: &mut [Vector<E, N>],
    left: u32,
    right: u32,
    first_low: u32,
    first_high: u32,
    skipped: u32,
    threshold: u32,
    kept: InputScalar,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let unit = ABSOLUTE_POS;
    let width = N::value();
    let vectors = comptime!(4 / width);
    let skipped = skipped as usize;
    if unit * vectors < x.len() + skipped {
        let low = first_low + unit as u32;
        let high = first_high + select(low < first_low, 1u32, 0u32);
        let words = philox4x32(left, right, low, high);
        let kept = kept.get::<F>();
        #[unroll]
        for v in 0..vectors {
            let position = unit * vectors + v;
            if position >= skipped && position - skipped < x.len() {
                let position = position - skipped;
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
        let words = philox4x32(left, right, of_mask / 4, 0);
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

/// The words of a block: `evenkeel_random::philox4x32` with the upper half of a product by `mul_hi`. A block's number is
/// two words.
#[cube]
fn philox4x32(left: u32, right: u32, block_low: u32, block_high: u32) -> Vector<u32, Const<4>> {
    let mut left = left;
    let mut right = right;
    let mut a = block_low;
    let mut b = block_high;
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use evenkeel_kernels::{self as kernels, Dropout, Scaling};
    use evenkeel_random::Key;

    use crate::backend::cube::gpu;
    use crate::backend::noise::mask::mask;

    /// From within a block, and where the number of a block gets its second word.
    #[test]
    fn masks_from_any_element_on() {
        let Some(device) = gpu::device("masks_from_any_element_on") else {
            return;
        };
        let dropout = Dropout::new(Key::from_seed(9), 0.4, Scaling::Inverted);
        let on_gpu = |len: usize, first: u64, device: &Device| -> Vec<f32> {
            let y = mask(Tensor::<1>::ones([len], device), dropout, first);
            y.into_data().iter::<f32>().collect()
        };
        for first in [
            0,
            1,
            2,
            3,
            4,
            15,
            (1 << 34) - 8,
            (1 << 34) - 9,
            (1 << 35) + 6,
        ] {
            for len in [1, 3, 4, 8, 61, 1000] {
                let expected = kernels::dropout(vec![1.0_f32; len], &dropout, first);
                assert_eq!(on_gpu(len, first, &device), expected, "{len} from {first}");
            }
        }
    }
}
