//! Batches in order, made by any number of threads.
//!
//! Workers take batch numbers in turn and hand in finished batches; the consumer takes them in
//! order. At most `prefetch` batches are under way or waiting, so memory is bounded by that and
//! not by the data.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use evenkeel_random::Key;

use crate::pipeline::{Checked, Scratch};
use crate::{Error, Image, Pipeline, Sample, Stream};

/// Examples as rows of numbers with a label.
pub trait Examples: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers an example.
    fn features(&self) -> usize;

    /// Makes one thread's writer, which may keep memory between examples.
    fn writer(&self) -> Box<dyn ExampleWriter + '_>;
}

/// Writes examples, on one thread.
pub trait ExampleWriter {
    /// Writes the numbers of one example and returns its label.
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error>;
}

/// Images with labels, all of one size.
pub trait ImageSource: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width, height, channels of each.
    fn size(&self) -> [usize; 3];

    /// Writes image `index`, of this size, into `pixels` (rows of interleaved channels).
    fn read(&self, index: usize, pixels: &mut Vec<u8>) -> Result<(), Error>;

    /// The label of image `index`.
    fn label(&self, index: usize) -> u32;
}

/// Images through a pipeline, as [`Examples`].
pub struct AugmentedImages<S> {
    source: S,
    pipeline: Checked,
    seed: u64,
}

impl<S: ImageSource> AugmentedImages<S> {
    /// # Errors
    /// If the pipeline does not fit the images.
    pub fn new(source: S, pipeline: &Pipeline, seed: u64) -> Result<Self, Error> {
        let [width, height, channels] = source.size();
        let pipeline = pipeline.check(width, height, channels)?;
        Ok(Self {
            source,
            pipeline,
            seed,
        })
    }
}

impl<S: ImageSource> Examples for AugmentedImages<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn features(&self) -> usize {
        self.pipeline.output.iter().product()
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(ImageWriter {
            images: self,
            scratch: self.pipeline.scratch(),
            pixels: Vec::new(),
        })
    }
}

struct ImageWriter<'a, S> {
    images: &'a AugmentedImages<S>,
    scratch: Scratch,
    pixels: Vec<u8>,
}

impl<S: ImageSource> ExampleWriter for ImageWriter<'_, S> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let AugmentedImages {
            source,
            pipeline,
            seed,
        } = self.images;
        let mut pixels = std::mem::take(&mut self.pixels);
        pixels.clear();
        source.read(sample.index, &mut pixels)?;
        let [width, height, channels] = pipeline.input;
        let image =
            Image::new(width, height, channels, pixels).map_err(|error| Error::Example {
                index: sample.index,
                problem: error.to_string(),
            })?;
        let stream = Stream::new(*seed, sample);
        pipeline.write(&image, stream, &mut self.scratch, features);
        self.pixels = image.into_pixels();
        Ok(source.label(sample.index))
    }
}

/// How examples become batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Examples a batch.
    pub batch_size: usize,
    /// Threads that make batches; with 0 the consumer makes each when it asks for it.
    pub workers: usize,
    /// Batches under way or waiting, at most; at least one a worker.
    pub prefetch: usize,
    /// The seed of the order, which differs from epoch to epoch; `None` keeps the data's order.
    pub shuffle: Option<u64>,
    /// Whether the incomplete last batch is left out.
    pub drop_last: bool,
}

/// Some examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its place in the epoch, from 0.
    pub index: usize,
    /// Example after example.
    pub features: Vec<f32>,
    /// A label each.
    pub labels: Vec<u32>,
    /// The index in the data of each.
    pub samples: Vec<usize>,
}

/// Makes epochs of batches: batch k of an epoch is the same bytes for any number of workers and
/// wherever the epoch is entered.
pub struct Loader {
    examples: Arc<dyn Examples>,
    options: LoaderOptions,
}

const MOST_WORKERS: usize = 1024;

impl Loader {
    /// # Errors
    /// If the batch size is 0, or there are more than 1024 workers.
    pub fn new(examples: Arc<dyn Examples>, options: LoaderOptions) -> Result<Self, Error> {
        if options.batch_size == 0 {
            return Err(Error::Loader(
                "batch_size: expected at least 1, found 0".into(),
            ));
        }
        if options.workers > MOST_WORKERS {
            let found = options.workers;
            let problem = format!("workers: expected at most {MOST_WORKERS}, found {found}");
            return Err(Error::Loader(problem));
        }
        Ok(Self { examples, options })
    }

    /// Batches an epoch.
    pub fn batches(&self) -> usize {
        let LoaderOptions {
            batch_size,
            drop_last,
            ..
        } = self.options;
        let examples = self.examples.len();
        if drop_last {
            examples / batch_size
        } else {
            examples.div_ceil(batch_size)
        }
    }

    /// The batches of an epoch, from batch `start` on.
    pub fn epoch(&self, epoch: u64, start: usize) -> Epoch {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        if let Some(seed) = self.options.shuffle {
            Key::from_seed(seed)
                .child("order")
                .at(epoch)
                .draws()
                .shuffle(&mut order);
        }
        let plan = Arc::new(Plan {
            examples: Arc::clone(&self.examples),
            batch_size: self.options.batch_size,
            epoch,
            order,
        });
        let total = self.batches();
        let workers = self.options.workers.min(total.saturating_sub(start));
        let desk = Arc::new(Desk::new(start));
        let prefetch = self.options.prefetch.max(workers);
        let spawn = |_| {
            let (plan, desk) = (Arc::clone(&plan), Arc::clone(&desk));
            std::thread::spawn(move || work(&plan, &desk, total, prefetch))
        };
        Epoch {
            next: start,
            total,
            workers: (0..workers).map(spawn).collect(),
            plan,
            desk,
        }
    }
}

/// What an epoch's batches are made of.
struct Plan {
    examples: Arc<dyn Examples>,
    batch_size: usize,
    epoch: u64,
    order: Vec<usize>,
}

impl Plan {
    fn make(&self, index: usize, writer: &mut dyn ExampleWriter) -> Result<Batch, Error> {
        let start = index * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        let samples = self.order[start..end].to_vec();
        let width = self.examples.features();
        let mut features = vec![0.0; samples.len() * width];
        let mut labels = Vec::with_capacity(samples.len());
        for (position, &index) in samples.iter().enumerate() {
            let sample = Sample {
                epoch: self.epoch,
                index,
            };
            labels.push(writer.write(sample, &mut features[position * width..][..width])?);
        }
        Ok(Batch {
            index,
            features,
            labels,
            samples,
        })
    }

    /// Makes a batch; a panic becomes an error in the batch's place.
    fn make_caught(&self, index: usize, writer: &mut dyn ExampleWriter) -> Result<Batch, Error> {
        // After a panic the epoch ends with its error, so no half-changed writer is used again.
        catch_unwind(AssertUnwindSafe(|| self.make(index, writer))).unwrap_or_else(|panic| {
            Err(Error::Panicked {
                batch: index,
                message: text(&*panic),
            })
        })
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

/// Where workers take numbers and hand in batches.
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The next batch to be made.
    next: usize,
    /// The next batch to be consumed.
    wanted: usize,
    done: BTreeMap<usize, Result<Batch, Error>>,
    closed: bool,
}

impl Desk {
    fn new(start: usize) -> Self {
        let state = State {
            next: start,
            wanted: start,
            done: BTreeMap::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// No code that can panic runs under the lock, so a poisoned state is a good one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(plan: &Plan, desk: &Desk, total: usize, prefetch: usize) {
    let mut writer = plan.examples.writer();
    loop {
        let mut state = desk.lock();
        while !state.closed && state.next < total && state.next >= state.wanted + prefetch {
            state = desk.wait(state);
        }
        if state.closed || state.next >= total {
            return;
        }
        let index = state.next;
        state.next += 1;
        drop(state);
        let batch = plan.make_caught(index, &mut *writer);
        desk.lock().done.insert(index, batch);
        desk.changed.notify_all();
    }
}

/// The batches of one epoch, in order. After an error there are no more. Dropping it ends its
/// workers.
pub struct Epoch {
    plan: Arc<Plan>,
    desk: Arc<Desk>,
    next: usize,
    total: usize,
    workers: Vec<JoinHandle<()>>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.total {
            return None;
        }
        let index = self.next;
        let batch = if self.workers.is_empty() {
            self.plan
                .make_caught(index, &mut *self.plan.examples.writer())
        } else {
            let mut state = self.desk.lock();
            let batch = loop {
                match state.done.remove(&index) {
                    Some(batch) => break batch,
                    None => state = self.desk.wait(state),
                }
            };
            state.wanted = index + 1;
            drop(state);
            self.desk.changed.notify_all();
            batch
        };
        self.next = if batch.is_ok() { index + 1 } else { self.total };
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
        for worker in self.workers.drain(..) {
            // Workers catch panics; one that escaped has nobody left to tell.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Example i is the number i and its epoch; some are broken.
    struct Numbers {
        len: usize,
        bad: Option<usize>,
        panics: Option<usize>,
    }

    struct NumbersWriter<'a>(&'a Numbers);

    impl Examples for Numbers {
        fn len(&self) -> usize {
            self.len
        }

        fn features(&self) -> usize {
            2
        }

        fn writer(&self) -> Box<dyn ExampleWriter + '_> {
            Box::new(NumbersWriter(self))
        }
    }

    impl ExampleWriter for NumbersWriter<'_> {
        fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
            let index = sample.index;
            assert!(self.0.panics != Some(index), "on purpose");
            if self.0.bad == Some(index) {
                return Err(Error::Example {
                    index,
                    problem: "on purpose".into(),
                });
            }
            features.copy_from_slice(&[index as f32, sample.epoch as f32]);
            Ok(index as u32 % 3)
        }
    }

    fn numbers(len: usize) -> Numbers {
        Numbers {
            len,
            bad: None,
            panics: None,
        }
    }

    fn options(workers: usize, prefetch: usize) -> LoaderOptions {
        LoaderOptions {
            batch_size: 4,
            workers,
            prefetch,
            shuffle: Some(9),
            drop_last: false,
        }
    }

    fn batches(examples: Numbers, options: LoaderOptions, epoch: u64, start: usize) -> Vec<Batch> {
        let loader = Loader::new(Arc::new(examples), options).unwrap();
        loader.epoch(epoch, start).map(Result::unwrap).collect()
    }

    #[test]
    fn the_same_for_any_workers_prefetch_and_start() {
        let expected = batches(numbers(30), options(0, 0), 3, 0);
        assert_eq!(expected.len(), 8);
        for (workers, prefetch) in [(1, 0), (1, 1), (2, 1), (2, 5), (8, 3), (8, 100)] {
            for start in 0..=8 {
                let found = batches(numbers(30), options(workers, prefetch), 3, start);
                assert_eq!(found, expected[start..], "{workers} workers from {start}");
            }
        }
    }

    #[test]
    fn an_epoch_is_a_permutation_of_its_own() {
        let order = |epoch| -> Vec<usize> {
            batches(numbers(30), options(2, 4), epoch, 0)
                .into_iter()
                .flat_map(|b| b.samples)
                .collect()
        };
        let [first, second] = [order(0), order(1)];
        assert_ne!(first, second);
        assert_eq!(
            first.into_iter().collect::<BTreeSet<_>>(),
            (0..30).collect()
        );
        assert_eq!(second.len(), 30);
    }

    #[test]
    fn sizes() {
        let count = |len, drop_last| {
            let options = LoaderOptions {
                drop_last,
                shuffle: None,
                ..options(2, 2)
            };
            batches(numbers(len), options, 0, 0).len()
        };
        assert_eq!(
            [
                count(0, false),
                count(1, false),
                count(8, false),
                count(9, false)
            ],
            [0, 1, 2, 3]
        );
        assert_eq!(
            [
                count(0, true),
                count(3, true),
                count(8, true),
                count(9, true)
            ],
            [0, 0, 2, 2]
        );
    }

    #[test]
    fn errors_and_panics_arrive_in_place_and_end_the_epoch() {
        for workers in [0, 1, 3] {
            let options = LoaderOptions {
                shuffle: None,
                ..options(workers, 3)
            };
            let bad = Numbers {
                len: 40,
                bad: Some(22),
                panics: None,
            };
            let found: Vec<_> = Loader::new(Arc::new(bad), options.clone())
                .unwrap()
                .epoch(0, 0)
                .collect();
            assert_eq!(found.len(), 6);
            assert!(found[..5].iter().all(Result::is_ok));
            assert_eq!(
                found[5].as_ref().unwrap_err().to_string(),
                "example 22: on purpose"
            );

            let panics = Numbers {
                len: 40,
                bad: None,
                panics: Some(9),
            };
            let found: Vec<_> = Loader::new(Arc::new(panics), options)
                .unwrap()
                .epoch(0, 0)
                .collect();
            assert!(found.len() == 3 && found[1].is_ok());
            let error = found[2].as_ref().unwrap_err().to_string();
            assert!(
                error.contains("batch 2") && error.contains("on purpose"),
                "{error}"
            );
        }
    }

    #[test]
    fn dropping_an_epoch_early_ends_its_workers() {
        let loader = Loader::new(Arc::new(numbers(10_000)), options(4, 8)).unwrap();
        for taken in 0..5 {
            let mut epoch = loader.epoch(0, 0);
            assert!(epoch.by_ref().take(taken).all(|batch| batch.is_ok()));
            drop(epoch);
        }
        assert_eq!(
            Arc::strong_count(&loader.examples),
            1,
            "a worker still holds the data"
        );
    }

    #[test]
    fn impossible_settings_are_refused() {
        let refuse = |options| {
            Loader::new(Arc::new(numbers(1)), options)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(
            refuse(LoaderOptions {
                batch_size: 0,
                ..options(0, 0)
            })
            .contains("batch_size")
        );
        assert!(refuse(options(5000, 0)).contains("workers"));
    }
}
