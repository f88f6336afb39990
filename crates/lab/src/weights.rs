//! Models as files: safetensors that PyTorch reads by the same names, and exact records.

use std::path::Path;

use burn::module::Module;
use burn::store::burn_pack::{self, Tensor as StoredTensor};
use burn::store::{
    BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, ModuleRecord, ModuleSnapshot,
    SafetensorsStore, bridge,
};
use burn::tensor::{Bytes, DType, TensorData};

use crate::Error;
use crate::model::Model;

/// The model as safetensors: names, shapes and types as the same net in PyTorch has them
/// (`blocks.0.conv.weight`, linear weights `[out, in]`, `num_batches_tracked` as 64 bits without a
/// dimension), and the same bytes for the same weights.
pub fn to_safetensors(model: &Model) -> Result<Vec<u8>, String> {
    // Metadata would come in random order.
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .skip_enum_variants(true)
        .with_to_adapter(PyTorch::To);
    model
        .save_into(&mut store)
        .map_err(|error| error.to_string())?;
    store.get_bytes().map_err(|error| error.to_string())
}

/// Loads safetensors, written by [`to_safetensors`] or by PyTorch, into a model of the same shape.
pub fn from_safetensors(mut model: Model, path: &Path) -> Result<Model, Error> {
    let failed = |problem: String| Error::Weights {
        path: path.to_owned(),
        problem,
    };
    let bytes = evenkeel_record::read_limited(path)?;
    let mut store = SafetensorsStore::from_bytes(Some(bytes))
        .skip_enum_variants(true)
        // What does not fit is told below, in fewer words than the store's.
        .allow_partial(true)
        .validate(false)
        .with_from_adapter(PyTorch::From);
    let result = model
        .load_from(&mut store)
        .map_err(|error| failed(error.to_string()))?;
    let missing = result.missing.iter().map(|(path, _)| format!("no {path}"));
    let wrong = result.errors.iter().map(ToString::to_string);
    let problems: Vec<String> = missing.chain(wrong).collect();
    if !problems.is_empty() {
        return Err(failed(format!(
            "these are not the weights of this model: {}. Expected the file that the run with this \
             recipe wrote",
            problems.join("; ")
        )));
    }
    Ok(model)
}

/// Between Burn's conventions and PyTorch's. `Linear` stores `[in, out]` here and `[out, in]`
/// there; the count of a norm's batches is `[1]` of 32 bits here and a scalar of 64 there; a net
/// kept in halves or doubles is read as `f32`. (Burn's adapter would also rename the parameters of
/// our norms, which have PyTorch's names already.)
#[derive(Clone, Copy)]
enum PyTorch {
    To,
    From,
}

impl ModuleAdapter for PyTorch {
    fn adapt(&self, tensor: StoredTensor, context: ModuleContext<'_>) -> StoredTensor {
        let is_count = tensor.name.ends_with("num_batches_tracked")
            && matches!(tensor.dtype, DType::I32 | DType::I64)
            && tensor.shape.num_elements() == 1;
        match (context.module_type(), self) {
            (_, Self::To) if is_count => count(tensor, DType::I64, &[], |count| {
                TensorData::new(vec![count], [0; 0])
            }),
            // A file may claim any count; Burn's own conversion panics where it does not fit.
            (_, Self::From) if is_count => count(tensor, DType::I32, &[1], |count| {
                let count = i32::try_from(count).unwrap_or(i32::MAX);
                TensorData::new(vec![count], [1])
            }),
            (module, _) => {
                let tensor = single(tensor);
                if module.is_some_and(evenkeel_nn::is_linear) {
                    // Burn's adapter knows its own layer by this name. Transposing is its own inverse.
                    let linear = ["Struct:Linear".to_owned()];
                    BurnToPyTorchAdapter.adapt(tensor, ModuleContext::new(&linear))
                } else {
                    tensor
                }
            }
        }
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(*self)
    }
}

/// The one integer of a tensor, in another form.
fn count(
    tensor: StoredTensor,
    dtype: DType,
    shape: &[usize],
    form: fn(i64) -> TensorData,
) -> StoredTensor {
    let name = tensor.name.clone();
    bridge::map_data(tensor, name, dtype, shape.into(), move |data| {
        form(data.iter::<i64>().next().unwrap_or(0))
    })
}

/// Numbers with a fraction as `f32`: Burn would keep them as they are in the file, and not add them
/// to others.
fn single(tensor: StoredTensor) -> StoredTensor {
    if !tensor.dtype.is_float() || tensor.dtype == DType::F32 {
        return tensor;
    }
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    bridge::map_data(tensor, name, DType::F32, shape, |data| {
        data.convert::<f32>()
    })
}

/// The first tensor of a record with a value that is not finite.
pub(crate) fn not_finite(record: &[u8]) -> Result<Option<String>, String> {
    let bytes = Bytes::from_bytes_vec(record.to_vec());
    let tensors = burn_pack::Reader::from_bytes(bytes).and_then(burn_pack::Reader::into_tensors);
    for tensor in tensors.map_err(|error| error.to_string())? {
        let name = tensor.name.clone();
        let data = bridge::into_data(tensor).map_err(|error| error.to_string())?;
        if data.dtype().is_float() && !data.iter::<f32>().all(f32::is_finite) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// What is told of it.
pub(crate) fn ruined(name: &str) -> String {
    format!("the update left values in {name} that are not finite")
}

/// The model with its parameter ids, exactly.
pub(crate) fn to_record(model: &Model) -> Result<Vec<u8>, String> {
    let bytes = model.clone().into_record().into_bytes();
    bytes
        .map(|bytes| bytes.to_vec())
        .map_err(|error| error.to_string())
}

pub(crate) fn from_record(model: Model, bytes: Vec<u8>) -> Result<Model, String> {
    let bytes = Bytes::from_bytes_vec(bytes);
    let record = ModuleRecord::from_bytes(bytes).map_err(|error| error.to_string())?;
    model
        .try_load_record(record)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use burn::tensor::{Device, Int, Tensor};
    use evenkeel_nn::Pass;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::data::Kind;
    use crate::model::{ModelRecipe, Stem};
    use evenkeel_nn::{BatchNorm, Norm, NormKind};

    /// The net of `reference/make_model.py`.
    fn net() -> Model {
        let recipe = ModelRecipe::Convnet {
            widths: vec![2, 3],
            pool_after: vec![0],
            norm: NormKind::Batch,
            dropout: 0.0,
            activation: Default::default(),
            dense: 0,
            drop_connect: 0.0,
        };
        let kind = Kind::Images {
            height: 6,
            width: 5,
            channels: 1,
        };
        recipe.build(&kind, 3, &Device::flex()).unwrap()
    }

    fn load(bytes: &[u8]) -> Result<Model, Error> {
        load_into(net(), bytes)
    }

    fn load_into(model: Model, bytes: &[u8]) -> Result<Model, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        from_safetensors(model, &path)
    }

    fn batch_norm(block: &evenkeel_nn::ConvBlock) -> &BatchNorm {
        block.norm.as_ref().and_then(Norm::as_batch).unwrap()
    }

    fn batches(model: &Model) -> Vec<i64> {
        let Model::ConvNet(net) = model else {
            panic!("a convnet")
        };
        let count = |block: &evenkeel_nn::ConvBlock| {
            let norm = batch_norm(block);
            let count: Tensor<1, Int> = norm.num_batches_tracked.get(&Device::flex());
            count.into_scalar::<i64>()
        };
        net.blocks.iter().map(count).collect()
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Entry {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: [usize; 2],
    }

    /// The format by hand: the header's length in 8 bytes, the header in JSON, the data.
    fn split(file: &[u8]) -> (BTreeMap<String, Entry>, &[u8]) {
        let (length, rest) = file.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let mut header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&rest[..length]).unwrap();
        header.remove("__metadata__");
        let entry = |(name, value)| (name, serde_json::from_value(value).unwrap());
        (header.into_iter().map(entry).collect(), &rest[length..])
    }

    #[derive(Deserialize)]
    struct Case {
        x: Vec<f32>,
        logits: Vec<f32>,
        batches: i64,
    }

    const WRITTEN_BY_PYTORCH: &[u8] =
        include_bytes!("../../../reference/fixtures/model.safetensors");

    #[test]
    fn what_pytorch_writes_is_read_and_written_the_same() {
        let case = include_str!("../../../reference/fixtures/model.json");
        let case: Case = serde_json::from_str(case).unwrap();
        let model = load(WRITTEN_BY_PYTORCH).unwrap();
        assert_eq!(batches(&model), [case.batches; 2]);
        let x = TensorData::new(case.x, [2, 30]);
        let x = Tensor::from_data(x, &Device::flex());
        let logits = model.forward(x, &Pass::test()).into_data();
        assert_eq!(logits.iter::<f32>().count(), case.logits.len());
        for (found, expected) in logits.iter::<f32>().zip(case.logits) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
        let written = to_safetensors(&model).unwrap();
        let ((ours, our_data), (theirs, their_data)) = (split(&written), split(WRITTEN_BY_PYTORCH));
        assert!(ours.keys().eq(theirs.keys()));
        for (name, theirs) in theirs {
            let ours = &ours[&name];
            assert_eq!(
                (&ours.dtype, &ours.shape),
                (&theirs.dtype, &theirs.shape),
                "{name}"
            );
            let bytes = |entry: &Entry, data: &[u8]| {
                let [start, end] = entry.data_offsets;
                data[start..end].to_vec()
            };
            assert_eq!(bytes(ours, our_data), bytes(&theirs, their_data), "{name}");
        }
    }

    /// The file with each tensor's entry and bytes changed.
    fn changed(change: impl Fn(&str, &mut Entry, &mut Vec<u8>)) -> Vec<u8> {
        let (header, data) = split(WRITTEN_BY_PYTORCH);
        let (mut entries, mut bytes) = (BTreeMap::new(), Vec::new());
        for (name, mut entry) in header {
            let [start, end] = entry.data_offsets;
            let mut value = data[start..end].to_vec();
            change(&name, &mut entry, &mut value);
            entry.data_offsets = [bytes.len(), bytes.len() + value.len()];
            bytes.extend(value);
            entries.insert(name, entry);
        }
        let mut header = serde_json::to_vec(&entries).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], &header, &bytes].concat()
    }

    /// DropConnect's linear weights are `[in, out]` here and `[out, in]` there, as Burn's layer's are; its
    /// convolution's are as they are.
    #[test]
    fn linear_weights_under_masks_are_transposed_too() {
        use burn::nn::{Linear, LinearConfig};
        use evenkeel_nn::{
            Conv2dConfig, DropConnectConv2d, DropConnectConv2dConfig, DropConnectLinear,
            DropConnectLinearConfig,
        };
        #[derive(Module, Debug)]
        struct Net {
            plain: Linear,
            masked: Vec<DropConnectLinear>,
            conv: DropConnectConv2d,
        }
        let device = Device::flex();
        let net = || {
            let plain = LinearConfig::new(3, 2).init(&device);
            Net {
                masked: vec![DropConnectLinearConfig::new(3, 2, 0.5).init_from(plain.clone())],
                plain,
                conv: DropConnectConv2dConfig::new(Conv2dConfig::new([3, 2], [1, 1]), 0.5)
                    .init(&device),
            }
        };
        let written = net();
        let mut store = SafetensorsStore::from_bytes(None)
            .clear_metadata()
            .with_to_adapter(PyTorch::To);
        written.save_into(&mut store).unwrap();
        let file = store.get_bytes().unwrap();
        let (header, data) = split(&file);
        let tensor = |name: &str| {
            let Entry {
                shape,
                data_offsets: [start, end],
                ..
            } = &header[name];
            (shape.clone(), &data[*start..*end])
        };
        let (shape, bytes) = tensor("masked.0.weight");
        assert_eq!(shape, [2, 3]);
        assert_eq!((shape, bytes), tensor("plain.weight"));
        assert_eq!(tensor("masked.0.bias"), tensor("plain.bias"));
        assert_eq!(tensor("conv.weight").0, [2, 3, 1, 1]);
        let mut read = net();
        let mut store = SafetensorsStore::from_bytes(Some(file)).with_from_adapter(PyTorch::From);
        read.load_from(&mut store).unwrap();
        let weight = |net: &Net| net.masked[0].weight.val().into_data();
        assert_eq!(weight(&read), weight(&written));
    }

    #[test]
    fn counts_of_any_size_are_read() {
        let of_32_bits = changed(|name, entry, value| {
            if name.ends_with("num_batches_tracked") {
                (entry.dtype, entry.shape) = ("I32".into(), vec![1]);
                value.truncate(4);
            }
        });
        assert_eq!(batches(&load(&of_32_bits).unwrap()), [5, 5]);
        let huge = changed(|name, _, value| {
            if name.ends_with("num_batches_tracked") {
                *value = i64::MAX.to_le_bytes().to_vec();
            }
        });
        assert_eq!(batches(&load(&huge).unwrap()), [i64::from(i32::MAX); 2]);
    }

    #[test]
    fn doubles_are_read_as_singles() {
        let doubles = changed(|_, entry, value| {
            if entry.dtype == "F32" {
                entry.dtype = "F64".into();
                let singles = value.chunks_exact(4);
                let double =
                    |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
                *value = singles
                    .flat_map(|bytes| double(bytes).to_le_bytes())
                    .collect();
            }
        });
        let read = to_safetensors(&load(&doubles).unwrap()).unwrap();
        let same = to_safetensors(&load(WRITTEN_BY_PYTORCH).unwrap()).unwrap();
        assert!(read == same);
    }

    #[test]
    fn another_nets_weights_are_refused() {
        let text = String::from_utf8_lossy(WRITTEN_BY_PYTORCH);
        assert!(text.contains("head.bias"));
        let mut other = WRITTEN_BY_PYTORCH.to_vec();
        let at = text.find("head.bias").unwrap();
        other[at..at + 4].copy_from_slice(b"tail");
        let error = load(&other).unwrap_err().to_string();
        let expected = "not the weights of this model: no head.bias. Expected";
        assert!(error.contains(expected), "{error}");
        assert!(load(&WRITTEN_BY_PYTORCH[..100]).is_err());
        let words = changed(|name, entry, _| {
            if name == "head.bias" {
                entry.dtype = "I32".into();
            }
        });
        let error = load(&words).unwrap_err().to_string();
        assert!(error.contains("head.bias"), "{error}");
    }

    #[test]
    fn values_that_are_not_finite_are_found_in_weights_and_statistics() {
        let good = net();
        assert_eq!(not_finite(&to_record(&good).unwrap()).unwrap(), None);
        for value in [f32::NAN, f32::INFINITY] {
            let Model::ConvNet(bad) = net() else {
                panic!("a convnet")
            };
            let norm = batch_norm(&bad.blocks[1]);
            let values = Tensor::from_data([1.0, value, 1.0], &Device::flex());
            norm.running_var.set(values);
            let record = to_record(&Model::ConvNet(bad)).unwrap();
            let name = not_finite(&record).unwrap().unwrap();
            assert!(name.contains("blocks.1.norm.running_var"), "{name}");
        }
    }

    /// What `reference/make_resnet.py` writes.
    #[derive(Deserialize)]
    struct ResNetCase {
        size: [usize; 2],
        x: Vec<f32>,
        test: Vec<f32>,
        train: Vec<f32>,
        running: BTreeMap<String, Vec<f32>>,
    }

    /// PyTorch's ResNet-18 gives the same logits here in test mode, and in training mode both the same
    /// logits and the same running statistics afterwards.
    #[test]
    fn a_resnet_of_pytorch_is_the_same_here() {
        for (stem, file, case) in [
            (
                Stem::Small,
                &include_bytes!("../../../reference/fixtures/resnet_small.safetensors")[..],
                include_str!("../../../reference/fixtures/resnet_small.json"),
            ),
            (
                Stem::Large,
                include_bytes!("../../../reference/fixtures/resnet_large.safetensors"),
                include_str!("../../../reference/fixtures/resnet_large.json"),
            ),
        ] {
            let case: ResNetCase = serde_json::from_str(case).unwrap();
            let recipe = ModelRecipe::Resnet18 {
                width: 3,
                stem,
                norm: NormKind::Batch,
                dropout: 0.0,
            };
            let [height, width] = case.size;
            let kind = Kind::Images {
                height,
                width,
                channels: 2,
            };
            let device = Device::flex();
            let model = load_into(recipe.build(&kind, 4, &device).unwrap(), file).unwrap();
            let logits = |pass: Pass| -> Vec<f32> {
                let data = TensorData::new(case.x.clone(), [3, 2 * height * width]);
                let y = model.forward(Tensor::from_data(data, &device), &pass);
                y.into_data().iter::<f32>().collect()
            };
            let near = |what: &str, found: &[f32], expected: &[f32]| {
                assert_eq!(found.len(), expected.len(), "{what}");
                for (found, expected) in found.iter().zip(expected) {
                    let close = (found - expected).abs() <= 2e-4 * (1.0 + expected.abs());
                    assert!(close, "{what} of {stem:?}: {found}, expected {expected}");
                }
            };
            near("test", &logits(Pass::test()), &case.test);
            near("training", &logits(Pass::train(0, 0)), &case.train);
            let saved = to_safetensors(&model).unwrap();
            let (entries, data) = split(&saved);
            let (expected, _) = split(file);
            assert!(entries.keys().eq(expected.keys()));
            for (name, expected) in &case.running {
                let [start, end] = entries[name].data_offsets;
                let values = data[start..end].as_chunks().0.iter();
                let found: Vec<f32> = values.map(|&bytes| f32::from_le_bytes(bytes)).collect();
                near(name, &found, expected);
            }
        }
    }
}
