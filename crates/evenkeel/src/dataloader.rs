//! The ordered loader as Burn's [`DataLoader`], so that a learner of Burn's trains on it.
//!
//! Burn's own loader gives batches in the order in which threads finish them and no randomness a sample; this one
//! gives the same batches for any number of workers. Each call of `iter` is the next epoch, with an order and
//! augmentations of its own; [`Batches::from_epoch`] says which is the first, for a training that goes on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use evenkeel_augment::{
    Batch, Epoch, Error, ExampleWriter, Examples, Loader, LoaderOptions, Sample,
};

/// Makes a learner's batch of a loader's: tensors on the device, of the shape that the model wants.
type Batcher<B> = dyn Fn(Batch, &Device) -> B + Send + Sync;

/// Examples in ordered batches, for learners of Burn's.
///
/// ```
/// use std::sync::Arc;
///
/// use burn::data::dataloader::DataLoader;
/// use burn::tensor::{Device, Int, Tensor, TensorData};
/// use evenkeel::augment::{AugmentedImages, Batch, Examples, LoaderOptions};
/// use evenkeel::dataloader::Batches;
///
/// /// Images of 28×28 and their labels.
/// fn loader(examples: Arc<dyn Examples>) -> Arc<dyn DataLoader<(Tensor<4>, Tensor<1, Int>)>> {
///     let options = LoaderOptions {
///         batch_size: 64,
///         workers: 2,
///         prefetch: 4,
///         shuffle: Some(42),
///         drop_last: true,
///     };
///     let batcher = |batch: Batch, device: &Device| {
///         let shape = [batch.labels.len(), 1, 28, 28];
///         let labels: Vec<i32> = batch.labels.iter().map(|&label| label as i32).collect();
///         let labels = TensorData::new(labels, [shape[0]]);
///         let images = Tensor::from_data(TensorData::new(batch.features, shape), device);
///         (images, Tensor::from_data(labels, device))
///     };
///     Arc::new(Batches::new(examples, options, Device::flex(), batcher).unwrap())
/// }
/// ```
pub struct Batches<B> {
    examples: Arc<dyn Examples>,
    options: LoaderOptions,
    loader: Loader,
    batcher: Arc<Batcher<B>>,
    device: Device,
    /// What the next call of `iter` gives.
    epoch: AtomicU64,
}

impl<B: Send + 'static> Batches<B> {
    /// # Errors
    /// As [`Loader::new`].
    pub fn new(
        examples: Arc<dyn Examples>,
        options: LoaderOptions,
        device: Device,
        batcher: impl Fn(Batch, &Device) -> B + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::with(examples, options, device, Arc::new(batcher), 0)
    }

    /// The same, whose first call of `iter` gives this epoch.
    #[must_use]
    pub fn from_epoch(self, epoch: u64) -> Self {
        Self {
            epoch: AtomicU64::new(epoch),
            ..self
        }
    }

    fn with(
        examples: Arc<dyn Examples>,
        options: LoaderOptions,
        device: Device,
        batcher: Arc<Batcher<B>>,
        epoch: u64,
    ) -> Result<Self, Error> {
        Ok(Self {
            loader: Loader::new(Arc::clone(&examples), options.clone())?,
            examples,
            options,
            batcher,
            device,
            epoch: AtomicU64::new(epoch),
        })
    }

    /// The same of other examples or on another device, going on with the next epoch.
    fn of(&self, examples: Arc<dyn Examples>, device: Device) -> Arc<dyn DataLoader<B>> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let (options, batcher) = (self.options.clone(), Arc::clone(&self.batcher));
        let same = Self::with(examples, options, device, batcher, epoch);
        // The options were good for more examples than a part has.
        Arc::new(same.unwrap_or_else(|error| panic!("a part of a loader: {error}")))
    }
}

impl<B> fmt::Debug for Batches<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("examples", &self.examples.len())
            .field("options", &self.options)
            .field("device", &self.device)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl<B: Send + 'static> DataLoader<B> for Batches<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(Iter {
            epoch: self.loader.epoch(epoch, 0),
            batches: self,
            done: 0,
        })
    }

    fn num_items(&self) -> usize {
        match self.options.drop_last {
            true => self.loader.batches() * self.options.batch_size,
            false => self.examples.len(),
        }
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B>> {
        self.of(Arc::clone(&self.examples), device.clone())
    }

    /// Examples `start..end` of the data, in an order of their own; each is augmented as in the whole. What lies
    /// beyond the data is left out.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B>> {
        let end = end.min(self.examples.len());
        let part = Part {
            whole: Arc::clone(&self.examples),
            range: start.min(end)..end,
        };
        self.of(Arc::new(part), self.device.clone())
    }
}

struct Iter<'a, B> {
    epoch: Epoch,
    batches: &'a Batches<B>,
    /// Examples that were given.
    done: usize,
}

impl<B: Send + 'static> Iterator for Iter<'_, B> {
    type Item = Result<B, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.epoch.next()? {
            Ok(batch) => {
                self.done += batch.labels.len();
                Ok((self.batches.batcher)(batch, &self.batches.device))
            }
            Err(error) => Err(DatasetError::new(error)),
        })
    }
}

impl<B: Send + 'static> DataLoaderIterator<B> for Iter<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.batches.num_items(), Some("items".into()))
    }
}

/// Examples `range` of others.
struct Part {
    whole: Arc<dyn Examples>,
    range: Range<usize>,
}

struct PartWriter<'a>(Box<dyn ExampleWriter + 'a>, usize);

impl Examples for Part {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn features(&self) -> usize {
        self.whole.features()
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(PartWriter(self.whole.writer(), self.range.start))
    }
}

impl ExampleWriter for PartWriter<'_> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let index = self.1 + sample.index;
        self.0.write(Sample { index, ..sample }, features)
    }
}
