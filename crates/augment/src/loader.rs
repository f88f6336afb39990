//! Batches in order, made by any number of threads.
//!
//! Workers take batch numbers in turn and hand in finished batches; the consumer takes them in
//! order. At most `prefetch` batches are under way or waiting, so memory is bounded by that and
//! not by the data.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use evenkeel_random::Key;

use crate::workers::{BatchMixing, Desk, Plan};
use crate::{BatchOperation, BatchParameters, BatchShape, Error, Examples, Mixing};

/// How examples become batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Examples a batch.
    pub batch_size: usize,
    /// Threads that make batches; with 0 the consumer makes each when it asks for it.
    pub workers: usize,
    /// Batches under way or waiting, at most; taken as the number of workers if below that.
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
    /// Where the loader mixes: a share a class for each example, also of a batch that stayed as it is. Else empty.
    pub targets: Vec<f32>,
    /// How the examples were mixed, if they were.
    pub mixed: Option<BatchParameters>,
}

/// Makes epochs of batches: batch k of an epoch is the same bytes for any number of workers and
/// wherever the epoch is entered.
pub struct Loader {
    examples: Arc<dyn Examples>,
    options: LoaderOptions,
    /// Which shard of how many.
    shard: (usize, usize),
    /// Whether shards that are one short begin again.
    evenly: bool,
    mixing: Option<BatchMixing>,
}

const MOST_WORKERS: usize = 1024;

impl Loader {
    /// # Errors
    /// If the batch size is 0, there are more than 1024 workers, or more than 2³² − 1 examples are to
    /// be shuffled.
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
        let found = examples.len();
        if options.shuffle.is_some() && u32::try_from(found).is_err() {
            let problem = format!("shuffle: expected fewer than 2³² examples, found {found}");
            return Err(Error::Loader(problem));
        }
        Ok(Self {
            examples,
            options,
            shard: (0, 1),
            evenly: false,
            mixing: None,
        })
    }

    /// Takes only shard `shard` of `of`: of an epoch's order, which is that of the whole data, each `of`-th example. Shards
    /// are disjoint. With [`LoaderOptions::drop_last`] all have the same length, and fewer than `of` examples, others in
    /// each epoch, are in none; without it they are complete, and lengths differ by one at most. Step k of all shards
    /// together holds the examples of step k of one loader with `of` times the batch size. [`Loader::sharded_evenly`] gives
    /// shards that are complete and of the same length.
    ///
    /// # Errors
    /// If there is no such shard.
    pub fn sharded(mut self, shard: usize, of: usize) -> Result<Self, Error> {
        if shard >= of {
            return Err(Error::Loader(format!(
                "shard: expected one from 0 to below {of}, found {shard}"
            )));
        }
        self.shard = (shard, of);
        Ok(self)
    }

    /// As [`Loader::sharded`], but shards that would be one short take an example from the start of the epoch's order:
    /// without [`LoaderOptions::drop_last`] all have the same length and together all examples, of which fewer than `of`
    /// come again, others in each epoch if it is shuffled ([`Batch::samples`] tells which). So replicas that wait for each
    /// other at every step take as many; what is to count each example once, as a measurement does, is for
    /// [`Loader::sharded`].
    ///
    /// # Errors
    /// If there is no such shard.
    pub fn sharded_evenly(self, shard: usize, of: usize) -> Result<Self, Error> {
        let sharded = self.sharded(shard, of)?;
        Ok(Self {
            evenly: true,
            ..sharded
        })
    }

    /// Mixes the examples of each batch, and their targets, which are shares of so many classes: a function of the seed, the
    /// epoch and the batch. Examples that are no images cannot be pasted, but mixed.
    ///
    /// # Errors
    /// If the settings are out of range or do not fit the examples.
    pub fn mixed(mut self, mixing: Mixing, classes: usize, seed: u64) -> Result<Self, Error> {
        let image = self.examples.image_shape();
        let pastes = |operation: &BatchOperation| matches!(operation, BatchOperation::CutMix(_));
        if image.is_none() && mixing.operations.iter().any(pastes) {
            return Err(Error::Mix(
                "cut_mix is for images; use mixup for other examples".into(),
            ));
        }
        let [channels, height, width] = image.unwrap_or([self.examples.features(), 1, 1]);
        let shape = BatchShape {
            examples: self.options.batch_size.min(self.examples.len()).max(1),
            channels,
            height,
            width,
            classes,
        };
        mixing.check(shape)?;
        self.mixing = Some(BatchMixing {
            mixing,
            shape,
            key: Key::from_seed(seed).child("mix"),
        });
        Ok(self)
    }

    /// Examples an epoch.
    fn length(&self) -> usize {
        let (shard, of) = self.shard;
        match self.options.drop_last {
            true => self.examples.len() / of,
            false if self.evenly => self.examples.len().div_ceil(of),
            false => self.examples.len().saturating_sub(shard).div_ceil(of),
        }
    }

    /// Batches an epoch.
    pub fn batches(&self) -> usize {
        let LoaderOptions {
            batch_size,
            drop_last,
            ..
        } = self.options;
        let examples = self.length();
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
            let key = Key::from_seed(seed).child("order").at(epoch);
            key.draws().shuffle(&mut order);
        }
        let (shard, of) = self.shard;
        if of > 1 {
            // More than once round where there are fewer examples than shards.
            let ours = order.iter().copied().cycle().skip(shard).step_by(of);
            order = ours.take(self.length()).collect();
        }
        let total = self.batches();
        let plan = Arc::new(Plan {
            examples: Arc::clone(&self.examples),
            batch_size: self.options.batch_size,
            epoch,
            order,
            total,
            shard: self.shard,
            mixing: self.mixing.clone(),
        });
        let workers = self.options.workers.min(total.saturating_sub(start));
        let desk = Arc::new(Desk::new(start, self.options.prefetch.max(workers)));
        let spawn = |_| {
            let (plan, desk) = (Arc::clone(&plan), Arc::clone(&desk));
            thread::Builder::new().spawn(move || desk.work(&plan)).ok()
        };
        Epoch {
            next: start,
            // Where the system has no more threads, those that there are make the same batches.
            workers: (0..workers).map_while(spawn).collect(),
            plan,
            desk,
        }
    }
}

/// The batches of one epoch, in order. After an error there are no more. Dropping it ends its
/// workers.
pub struct Epoch {
    plan: Arc<Plan>,
    desk: Arc<Desk>,
    next: usize,
    workers: Vec<JoinHandle<()>>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (index, total) = (self.next, self.plan.total);
        if index >= total {
            return None;
        }
        let batch = if self.workers.is_empty() {
            self.plan.make_caught(index, &mut None)
        } else {
            self.desk.take(index)
        };
        self.next = if batch.is_ok() { index + 1 } else { total };
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.desk.close();
        for worker in self.workers.drain(..) {
            // Workers catch panics; one that escaped has nobody left to tell.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExampleWriter, Sample, one_hot};
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        for (workers, prefetch) in [(1, 0), (1, 1), (2, 1), (2, 5), (8, 3), (8, usize::MAX)] {
            for start in 0..=9 {
                let found = batches(numbers(30), options(workers, prefetch), 3, start);
                let expected = expected.get(start..).unwrap_or_default();
                assert_eq!(found, expected, "{workers} workers from {start}");
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

    /// Pins the randomness: a change here changes every training's order.
    #[test]
    fn the_order_is_pinned() {
        let [first, second, ..] = &batches(numbers(30), options(0, 0), 3, 0)[..] else {
            panic!("8 batches")
        };
        assert_eq!(first.samples, [23, 18, 15, 6]);
        assert_eq!(second.samples, [8, 28, 4, 22]);
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

    /// Hands out no writer, or counts the examples it has written.
    struct Counting {
        writer: bool,
        written: AtomicUsize,
    }

    impl Examples for Counting {
        fn len(&self) -> usize {
            1000
        }

        fn features(&self) -> usize {
            0
        }

        fn writer(&self) -> Box<dyn ExampleWriter + '_> {
            assert!(self.writer, "no writer");
            Box::new(&self.written)
        }
    }

    impl ExampleWriter for &AtomicUsize {
        fn write(&mut self, _: Sample, _: &mut [f32]) -> Result<u32, Error> {
            self.fetch_add(1, Ordering::Relaxed);
            Ok(0)
        }
    }

    fn counting(writer: bool) -> Arc<Counting> {
        let written = AtomicUsize::new(0);
        Arc::new(Counting { writer, written })
    }

    #[test]
    fn a_writer_that_cannot_be_made_is_an_error_and_no_hang() {
        for workers in [0, 1, 3] {
            let loader = Loader::new(counting(false), options(workers, 3)).unwrap();
            let found: Vec<_> = loader.epoch(0, 2).collect();
            assert_eq!(found.len(), 1);
            let error = found[0].as_ref().unwrap_err().to_string();
            assert!(
                error.contains("batch 2") && error.contains("no writer"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_more_batches_are_made_than_the_prefetch_allows() {
        for (workers, prefetch) in [(1, 1), (2, 5), (4, 2), (8, 8)] {
            let examples = counting(true);
            let loader = Loader::new(examples.clone(), options(workers, prefetch)).unwrap();
            let mut epoch = loader.epoch(0, 0);
            for taken in 1..=20 {
                epoch.next().unwrap().unwrap();
                let ahead = 4 * (taken + prefetch.max(workers));
                assert!(examples.written.load(Ordering::Relaxed) <= ahead);
            }
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

    #[test]
    fn one_batch_holds_all_where_the_size_is_beyond_the_data() {
        let options = LoaderOptions {
            batch_size: usize::MAX,
            shuffle: None,
            ..options(2, 2)
        };
        let found = batches(numbers(3), options, 1, 0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].samples, [0, 1, 2]);
        assert_eq!(found[0].features, [0.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
        assert_eq!(found[0].labels, [0, 1, 2]);
    }

    fn mixing() -> Mixing {
        serde_json::from_str(
            r#"{"operations": [{"op": "mixup"}, {"op": "mixup", "alpha": 1.0}], "probability": 0.7}"#,
        )
        .unwrap()
    }

    #[test]
    fn mixed_batches_are_the_same_for_any_workers_and_start() {
        let loader = |workers| {
            let loader = Loader::new(Arc::new(numbers(30)), options(workers, 3)).unwrap();
            loader.mixed(mixing(), 3, 5).unwrap()
        };
        let all = |workers, epoch, start| -> Vec<Batch> {
            loader(workers)
                .epoch(epoch, start)
                .map(Result::unwrap)
                .collect()
        };
        let expected = all(0, 3, 0);
        let plain = batches(numbers(30), options(0, 0), 3, 0);
        let mut mixed = 0;
        for (batch, plain) in expected.iter().zip(&plain) {
            assert_eq!(
                (&batch.labels, &batch.samples),
                (&plain.labels, &plain.samples)
            );
            let mut features = plain.features.clone();
            let mut targets = one_hot(&plain.labels, 3).unwrap();
            let shape = BatchShape {
                examples: plain.labels.len(),
                channels: 2,
                height: 1,
                width: 1,
                classes: 3,
            };
            if let Some(drawn) = &batch.mixed {
                drawn
                    .apply(shape, &mut features, &mut targets, &mut vec![])
                    .unwrap();
                mixed += 1;
            }
            assert_eq!((&batch.features, &batch.targets), (&features, &targets));
        }
        assert!((2..8).contains(&mixed), "{mixed} of 8");
        assert_ne!(all(0, 4, 0), expected);
        for workers in [1, 2, 8] {
            for start in 0..=8 {
                assert_eq!(all(workers, 3, start), expected[start..]);
            }
        }
    }

    #[test]
    fn mixing_that_does_not_fit_is_refused() {
        let refuse = |text: &str| {
            let loader = Loader::new(Arc::new(numbers(3)), options(0, 0)).unwrap();
            let mixing = serde_json::from_str(text).unwrap();
            loader.mixed(mixing, 3, 0).err().unwrap().to_string()
        };
        assert!(refuse(r#"{"operations": []}"#).contains("operations: expected at least one"));
        let text = r#"{"operations": [{"op": "mixup"}], "probability": 2}"#;
        assert!(refuse(text).contains("probability: expected 0 to 1, found 2"));
        let text = r#"{"operations": [{"op": "mixup", "alpha": 0}]}"#;
        assert!(refuse(text).contains("alpha: expected"));
        assert!(refuse(r#"{"operations": [{"op": "cut_mix"}]}"#).contains("is for images"));
        assert!(serde_json::from_str::<Mixing>(r#"{"operations": [], "alpha": 1}"#).is_err());
    }

    #[test]
    fn shards_are_disjoint_and_equal_or_complete() {
        for (len, of) in [(30, 1), (30, 3), (31, 4), (2, 5), (0, 2)] {
            for drop_last in [false, true] {
                let loader = |shard, of, batch_size| {
                    let options = LoaderOptions {
                        batch_size,
                        drop_last,
                        ..options(2, 3)
                    };
                    let loader = Loader::new(Arc::new(numbers(len)), options).unwrap();
                    loader.sharded(shard, of).unwrap()
                };
                let epoch = |loader: &Loader, start| -> Vec<Batch> {
                    loader.epoch(1, start).map(Result::unwrap).collect()
                };
                let shards: Vec<Vec<Batch>> = (0..of)
                    .map(|shard| epoch(&loader(shard, of, 1), 0))
                    .collect();
                let mut seen = BTreeSet::new();
                for batch in shards.iter().flatten() {
                    assert!(seen.insert(batch.samples[0]), "in two shards");
                }
                let lengths: Vec<usize> = shards.iter().map(Vec::len).collect();
                let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
                if drop_last {
                    assert_eq!(least, most);
                    assert!(len - seen.len() < of);
                } else {
                    assert!(most - least <= 1);
                    assert_eq!(seen.len(), len);
                }
                // Step k of all shards is step k of one loader of larger batches; resumed anywhere.
                let whole = epoch(&loader(0, 1, 2 * of), 0);
                for (step, whole) in whole.iter().enumerate() {
                    let parts = (0..of).map(|shard| epoch(&loader(shard, of, 2), step));
                    let parts: BTreeSet<usize> = parts
                        .filter_map(|batches| batches.into_iter().next())
                        .flat_map(|batch| batch.samples)
                        .collect();
                    assert_eq!(parts, whole.samples.iter().copied().collect());
                }
            }
        }
        let loader = Loader::new(Arc::new(numbers(3)), options(0, 0)).unwrap();
        let error = loader.sharded(2, 2).err().unwrap().to_string();
        assert!(error.contains("from 0 to below 2, found 2"), "{error}");
    }

    #[test]
    fn even_shards_are_equal_and_complete_and_repeat_the_start() {
        for (len, of) in [(30, 1), (30, 3), (31, 4), (33, 4), (2, 5), (0, 2)] {
            for (epoch, drop_last) in [(0, false), (1, false), (1, true)] {
                let samples = |shard, of, evenly| -> Vec<usize> {
                    let options = LoaderOptions {
                        batch_size: 1,
                        drop_last,
                        ..options(2, 3)
                    };
                    let loader = Loader::new(Arc::new(numbers(len)), options).unwrap();
                    let loader = match evenly {
                        true => loader.sharded_evenly(shard, of),
                        false => loader.sharded(shard, of),
                    }
                    .unwrap();
                    let batches = loader.epoch(epoch, 0).map(Result::unwrap);
                    let found: Vec<_> = batches.map(|batch| batch.samples[0]).collect();
                    assert_eq!(found.len(), loader.batches());
                    found
                };
                let order = samples(0, 1, false);
                let length = match drop_last {
                    true => len / of,
                    false => len.div_ceil(of),
                };
                for shard in 0..of {
                    // The definition: the order, then again from its start.
                    let expected = (0..length).map(|k| order[(k * of + shard) % len]);
                    assert_eq!(samples(shard, of, true), expected.collect::<Vec<_>>());
                    if drop_last {
                        assert_eq!(samples(shard, of, true), samples(shard, of, false));
                    }
                }
            }
        }
    }
}
