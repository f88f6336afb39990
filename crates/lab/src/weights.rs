//! Models as files: safetensors that PyTorch reads by the same names, and exact records.

use std::path::Path;

use burn::module::Module;
use burn::store::burn_pack::Tensor as StoredTensor;
use burn::store::{
    BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, ModuleRecord, ModuleSnapshot,
    SafetensorsStore,
};

use crate::Error;
use crate::model::Model;

/// The model as safetensors: names and shapes as the same net in PyTorch has them (`blocks.0.conv.
/// weight`, linear weights `[out, in]`), and the same bytes for the same weights.
pub fn to_safetensors(model: &Model) -> Result<Vec<u8>, String> {
    // Metadata would come in random order.
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .skip_enum_variants(true)
        .with_to_adapter(TransposeLinear);
    model
        .save_into(&mut store)
        .map_err(|error| error.to_string())?;
    store.get_bytes().map_err(|error| error.to_string())
}

/// Loads safetensors into a model of the same shape.
pub fn from_safetensors(mut model: Model, path: &Path) -> Result<Model, Error> {
    let failed = |problem: String| Error::Weights {
        path: path.to_owned(),
        problem,
    };
    let bytes = evenkeel_record::read_limited(path)?;
    let mut store = SafetensorsStore::from_bytes(Some(bytes))
        .skip_enum_variants(true)
        .with_from_adapter(TransposeLinear);
    let result = model
        .load_from(&mut store)
        .map_err(|error| failed(error.to_string()))?;
    if !result.missing.is_empty() || !result.errors.is_empty() {
        return Err(failed(format!(
            "these are not the weights of this model: {result}. Expected the file that the run \
             with this recipe wrote"
        )));
    }
    Ok(model)
}

/// Burn's `Linear` stores `[in, out]`, PyTorch's `[out, in]`; transposing goes both ways. (Burn's
/// adapter would also rename the parameters of our norms, which have PyTorch's names already.)
#[derive(Clone)]
struct TransposeLinear;

impl ModuleAdapter for TransposeLinear {
    fn adapt(&self, tensor: StoredTensor, context: ModuleContext<'_>) -> StoredTensor {
        match context.module_type() {
            Some("Struct:Linear") => BurnToPyTorchAdapter.adapt(tensor, context),
            _ => tensor,
        }
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}

/// The model with its parameter ids, exactly.
pub(crate) fn to_record(model: &Model) -> Result<Vec<u8>, String> {
    let bytes = model.clone().into_record().into_bytes();
    bytes
        .map(|bytes| bytes.to_vec())
        .map_err(|error| error.to_string())
}

pub(crate) fn from_record(model: Model, bytes: Vec<u8>) -> Result<Model, String> {
    let bytes = burn::tensor::Bytes::from_bytes_vec(bytes);
    let record = ModuleRecord::from_bytes(bytes).map_err(|error| error.to_string())?;
    model
        .try_load_record(record)
        .map_err(|error| error.to_string())
}
