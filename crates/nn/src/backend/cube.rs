//! What the kernels on GPUs share: one backend for all of CubeCL's runtimes, and [`deferred`] for
//! where Burn's feature `fusion` wraps it.
//!
//! Kernels are launched with CubeCL's bounds checks, so there is no unsafe code. Indices are `u32`.

use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, OperationOutput, StreamId, TensorIr,
};
use burn_fusion::{ExecutionError, Fusion, FusionBackend, FusionRuntime};
use cubecl::prelude::*;
use cubecl::{calculate_cube_count_elemwise, features::TypeUsage};

use super::computed_in;

#[cfg(test)]
#[path = "../../tests/support/gpu.rs"]
pub(super) mod gpu;

/// Units of a cube (threads of a block), where a kernel does not choose for itself.
pub(super) const UNITS: usize = 256;

/// Whether the kernels run there on tensors of this type and size. Otherwise layers are composed.
pub(super) fn supports(device: &CubeDevice, dtype: DType, elements: usize) -> bool {
    let stored = matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
    if !stored || elements == 0 || i32::try_from(elements).is_err() {
        return false;
    }
    let client = device.client();
    let has = |dtype: DType, usage| {
        client
            .properties()
            .type_usage(elem(dtype))
            .is_superset(usage)
    };
    has(dtype, TypeUsage::Buffer | TypeUsage::Conversion)
        && has(
            computed_in(dtype).into(),
            TypeUsage::Buffer | TypeUsage::Arithmetic,
        )
        && client.properties().hardware.max_units_per_cube as usize >= UNITS
}

/// A tensor's element type in kernels.
pub(super) fn elem(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// What tensors of this type are stored in and computed in.
pub(super) fn elems(dtype: DType) -> [ElemType; 2] {
    [elem(dtype), elem(computed_in(dtype).into())]
}

/// A small tensor, such as a parameter, in the type that tensors of `dtype` are computed in.
pub(super) fn widened(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    into_contiguous(cast(tensor, computed_in(dtype).into()))
}

/// A contiguous tensor on the device of another one, not yet written.
pub(super) fn empty(on: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(on.client.clone(), on.device.clone(), shape.into(), dtype)
}

/// How many elements of `x` are read at once, at most 4, where runs of `run` elements belong
/// together.
pub(super) fn width(x: &CubeTensor, run: usize) -> usize {
    let sizes = x.client.io_optimized_vector_sizes(x.dtype.size());
    sizes
        .filter(|size| *size <= 4 && run.is_multiple_of(*size))
        .max()
        .unwrap_or(1)
}

/// Cubes of [`UNITS`] for this many units, in as many dimensions as it takes: kernels check bounds.
pub(super) fn cubes(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// An operation on tensors of `Fusion<B>`: it is queued and runs on those of `B`, outputs being known
/// by their shapes and types until then.
pub(super) fn deferred<B: FusionBackend, const INPUTS: usize, const OUTPUTS: usize>(
    name: &'static str,
    inputs: [FloatTensor<Fusion<B>>; INPUTS],
    outputs: [(Shape, DType); OUTPUTS],
    run: impl Fn([FloatTensor<B>; INPUTS]) -> [FloatTensor<B>; OUTPUTS] + Send + Sync + 'static,
) -> [FloatTensor<Fusion<B>>; OUTPUTS] {
    let client = inputs[0].client.clone();
    let inputs = inputs.map(|tensor| tensor.into_ir());
    let outputs =
        outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let operation = OperationIr::Custom(CustomOpIr::new(name, &inputs, &outputs));
    let deferred = Deferred(move |handles: &mut Handles<B>| {
        let tensors = inputs
            .each_ref()
            .map(|input| handles.get_float_tensor::<B>(input));
        for (output, tensor) in outputs.iter().zip(run(tensors)) {
            handles.register_float_tensor::<B>(&output.id, tensor);
        }
    });
    client
        .register(StreamId::current(), operation, deferred)
        .outputs()
}

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

struct Deferred<F>(F);

impl<F> std::fmt::Debug for Deferred<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

impl<R: FusionRuntime, F> Operation<R> for Deferred<F>
where
    F: Fn(&mut HandleContainer<R::FusionHandle>) + Send + Sync,
{
    fn execute(
        &self,
        handles: &mut HandleContainer<R::FusionHandle>,
    ) -> Result<(), ExecutionError> {
        (self.0)(handles);
        Ok(())
    }
}
