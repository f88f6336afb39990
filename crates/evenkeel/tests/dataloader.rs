//! The ordered loader through Burn's trait.

use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::tensor::{Device, Tensor, TensorData};
use evenkeel::augment::{
    AugmentedImages, Batch, Error, Image, ImageSource, LoaderOptions, Pipeline, Size, Sizes,
};
use evenkeel::dataloader::Batches;

/// Image i is of level i; the last cannot be read where that is asked for.
struct Levels {
    len: usize,
    is_broken: bool,
}

impl ImageSource for Levels {
    fn len(&self) -> usize {
        self.len
    }

    fn sizes(&self) -> Sizes {
        Size::new(4, 3).into()
    }

    fn channels(&self) -> usize {
        1
    }

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
        if self.is_broken && index + 1 == self.len {
            let problem = "on purpose".into();
            return Err(Error::Example { index, problem });
        }
        memory.extend((0..12).map(|i| (index + i / 4 * 100) as u8));
        Image::new(4, 3, 1, memory)
    }

    fn label(&self, index: usize) -> u32 {
        index as u32
    }
}

type Tensors = (Tensor<4>, Vec<u32>);

fn batches(len: usize, workers: usize, drop_last: bool, is_broken: bool) -> Batches<Tensors> {
    let pipeline: Pipeline = serde_json::from_str(
        r#"{"operations": [{"op": "vertical_flip"}], "normalize": {"mean": [0.0], "std": [0.00392156862745098]}}"#,
    )
    .unwrap();
    let images = AugmentedImages::new(Levels { len, is_broken }, &pipeline, 7).unwrap();
    let options = LoaderOptions {
        batch_size: 4,
        workers,
        prefetch: 3,
        shuffle: Some(3),
        drop_last,
    };
    let batcher = |batch: Batch, device: &Device| {
        let shape = [batch.labels.len(), 1, 3, 4];
        let images = Tensor::from_data(TensorData::new(batch.features, shape), device);
        (images, batch.labels)
    };
    Batches::new(Arc::new(images), options, Device::flex(), batcher).unwrap()
}

fn epoch(loader: &dyn DataLoader<Tensors>) -> Vec<(Vec<f32>, Vec<u32>)> {
    let read = |batch: Result<Tensors, _>| {
        let (images, labels) = batch.unwrap();
        (images.into_data().try_to_vec::<f32>().unwrap(), labels)
    };
    loader.iter().map(read).collect()
}

#[test]
fn each_iteration_is_the_next_epoch_for_any_workers() {
    let loader: Arc<dyn DataLoader<Tensors>> = Arc::new(batches(10, 0, false, false));
    let epochs = [epoch(&*loader), epoch(&*loader), epoch(&*loader)];
    assert_eq!(epochs[0].len(), 3);
    assert_ne!(epochs[0], epochs[1]);
    for workers in [1, 3] {
        let loader = batches(10, workers, false, false);
        for expected in &epochs {
            assert_eq!(&epoch(&loader), expected);
        }
        assert_eq!(
            epoch(&batches(10, workers, false, false).from_epoch(2)),
            epochs[2]
        );
        let moved = batches(10, workers, false, false).to_device(&Device::flex());
        assert_eq!(epoch(&*moved), epochs[0]);
    }
    // The first row of an image is its level, or the last one's.
    for (features, labels) in &epochs[0] {
        for (image, label) in features.chunks(12).zip(labels) {
            let level = *label as f32;
            assert!((image[0] - level).abs() < 1e-3 || (image[8] - level).abs() < 1e-3);
        }
    }
}

#[test]
fn progress_counts_examples() {
    for (drop_last, items, counts) in [(false, 10, [4, 8, 10]), (true, 8, [4, 8, 8])] {
        let loader = batches(10, 2, drop_last, false);
        assert_eq!(loader.num_items(), items);
        let mut iter = loader.iter();
        assert_eq!(iter.progress().items_processed, 0);
        for count in counts {
            iter.next();
            let progress = iter.progress();
            assert_eq!(
                (progress.items_processed, progress.items_total),
                (count, items)
            );
        }
        assert!(iter.next().is_none() && iter.progress().is_completed());
    }
}

#[test]
fn slices_are_disjoint_and_their_examples_those_of_the_whole() {
    let whole = batches(10, 1, false, false);
    let mut labels = Vec::new();
    let mut images = Vec::new();
    for (start, end) in [(0, 5), (5, 99)] {
        let slice = whole.slice(start, end);
        assert_eq!(slice.num_items(), 5);
        for (features, found) in epoch(&*slice) {
            labels.extend(found);
            images.extend(features.chunks(12).map(<[f32]>::to_vec));
        }
    }
    let mut expected = Vec::new();
    for (features, found) in epoch(&whole) {
        expected.extend(
            found
                .into_iter()
                .zip(features.chunks(12).map(<[f32]>::to_vec)),
        );
    }
    let mut found: Vec<_> = labels.into_iter().zip(images).collect();
    found.sort_by_key(|(label, _)| *label);
    expected.sort_by_key(|(label, _)| *label);
    assert_eq!(found, expected);
    assert_eq!(whole.slice(20, 30).num_items(), 0);
}

#[test]
fn errors_arrive_and_end_the_epoch() {
    let loader = batches(10, 2, false, true);
    let found: Vec<_> = loader.iter().collect();
    let error = found.last().unwrap().as_ref().err().unwrap();
    assert!(
        error.to_string().contains("example 9: on purpose"),
        "{error}"
    );
    assert!(found[..found.len() - 1].iter().all(Result::is_ok));
}
