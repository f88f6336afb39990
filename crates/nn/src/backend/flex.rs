//! What the operations on the CPU share: contiguous slices for the kernels.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, Element, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};
use evenkeel_kernels::Channels;

use super::computed_in;

/// The `[n, c, s]` view of a tensor `[N, C, ...]`.
pub(super) fn channels(shape: &Shape) -> Channels {
    Channels {
        n: shape[0],
        c: shape[1],
        s: shape[2..].iter().product(),
    }
}

pub(super) fn tensor<E: Element + bytemuck::Pod>(values: Vec<E>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        E::dtype(),
    )
}

pub(super) fn vector<E: Element + bytemuck::Pod>(values: Vec<E>) -> FlexTensor {
    let shape = Shape::new([values.len()]);
    tensor(values, shape)
}

pub(super) fn slice<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor
        .as_slice()
        .expect("made contiguous and of the right type by `with_slices`")
}

/// The values of a tensor that nobody needs any more: its memory, for an output to be written to, or a slice where others
/// hold it too, or it is no vector of this type.
pub(super) fn values<E: Element + bytemuck::Pod>(tensor: &mut FlexTensor) -> Cow<'_, [E]> {
    if tensor.is_unique() && tensor.bytes().len() == size_of_val(slice::<E>(tensor)) {
        let layout = tensor.layout().clone();
        let empty = self::tensor(Vec::<E>::new(), Shape::new([0]));
        let (bytes, ..) = std::mem::replace(tensor, empty).into_data().into_parts();
        match bytes.try_into_vec() {
            Ok(values) => return Cow::Owned(values),
            Err(bytes) => *tensor = FlexTensor::new(bytes, layout, E::dtype()),
        }
    }
    Cow::Borrowed(slice(tensor))
}

/// Makes every input contiguous and of one type, and runs `f64` or `f32` kernels on them: the type
/// that the first input is computed in. The results are of that type too.
macro_rules! with_slices {
    ([$($input:ident),+], |$float:ident| $body:expr) => {{
        let compute = $crate::backend::flex::computed_in_first(&[$(&$input),+]);
        $(
            #[allow(unused_mut, reason = "only some are written over")]
            let mut $input = $crate::backend::flex::cast($input, compute.into()).to_contiguous();
        )+
        if compute == ::burn::tensor::FloatDType::F64 {
            type $float = f64;
            $body
        } else {
            type $float = f32;
            $body
        }
    }};
}
pub(super) use with_slices;

pub(super) fn computed_in_first(inputs: &[&FlexTensor]) -> FloatDType {
    computed_in(inputs[0].dtype())
}

pub(super) fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    <Flex as FloatTensorOps<Flex>>::float_cast(tensor, dtype.into())
}
