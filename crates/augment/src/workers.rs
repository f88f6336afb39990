//! The desk where workers take batch numbers and hand in batches, and the consumer waits.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use evenkeel_random::Key;

use crate::{Batch, BatchShape, Error, ExampleWriter, Examples, Mixing, Sample, one_hot};

/// How batches are mixed.
#[derive(Clone)]
pub(crate) struct BatchMixing {
    pub mixing: Mixing,
    /// That of a whole batch.
    pub shape: BatchShape,
    /// What draws are a function of, with the epoch and the batch.
    pub key: Key,
}

/// What an epoch's batches are made of.
pub(crate) struct Plan {
    pub examples: Arc<dyn Examples>,
    pub batch_size: usize,
    pub epoch: u64,
    /// The examples in this epoch's order.
    pub order: Vec<usize>,
    /// How many batches there are.
    pub total: usize,
    /// Which shard of how many.
    pub shard: (usize, usize),
    pub mixing: Option<BatchMixing>,
}

impl Plan {
    fn make(&self, index: usize, writer: &mut dyn ExampleWriter) -> Result<Batch, Error> {
        let start = index * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        let samples = self.order[start..end].to_vec();
        let width = self.examples.features();
        let mut features = vec![0.0; samples.len() * width];
        let mut labels = Vec::with_capacity(samples.len());
        for (position, &index) in samples.iter().enumerate() {
            let epoch = self.epoch;
            let features = &mut features[position * width..][..width];
            labels.push(writer.write(Sample { epoch, index }, features)?);
        }
        let mut batch = Batch {
            index,
            features,
            labels,
            samples,
            targets: Vec::new(),
            mixed: None,
        };
        if let Some(mixing) = &self.mixing {
            self.mix(mixing, &mut batch)?;
        }
        Ok(batch)
    }

    fn mix(&self, mixing: &BatchMixing, batch: &mut Batch) -> Result<(), Error> {
        let shape = BatchShape {
            examples: batch.labels.len(),
            ..mixing.shape
        };
        batch.targets = one_hot(&batch.labels, shape.classes)?;
        let (shard, of) = self.shard;
        // Shards draw for themselves.
        let place = batch.index as u64 * of as u64 + shard as u64;
        let mut draws = mixing.key.at(self.epoch).at(place).draws();
        batch.mixed = mixing.mixing.draw(shape, &mut draws)?;
        if let Some(drawn) = &batch.mixed {
            drawn.apply(
                shape,
                &mut batch.features,
                &mut batch.targets,
                &mut Vec::new(),
            )?;
        }
        Ok(())
    }

    /// Makes a batch with this thread's writer, which the first one makes. A panic becomes an
    /// error in the batch's place.
    pub fn make_caught<'a>(
        &'a self,
        index: usize,
        writer: &mut Option<Box<dyn ExampleWriter + 'a>>,
    ) -> Result<Batch, Error> {
        // A thread makes nothing after an error, so no half-changed writer is used again.
        catch_unwind(AssertUnwindSafe(|| {
            let writer = writer.get_or_insert_with(|| self.examples.writer());
            self.make(index, &mut **writer)
        }))
        .unwrap_or_else(|panic| {
            Err(Error::Panicked {
                batch: index,
                message: text(&*panic),
            })
        })
    }
}

pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    /// How far the workers may be ahead of the consumer.
    prefetch: usize,
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
    pub fn new(start: usize, prefetch: usize) -> Self {
        let state = State {
            next: start,
            wanted: start,
            done: BTreeMap::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            prefetch,
        }
    }

    /// A worker: makes batches until there are no more, one fails, or the desk closes.
    pub fn work(&self, plan: &Plan) {
        let mut writer = None;
        while let Some(index) = self.assign(plan.total) {
            let batch = plan.make_caught(index, &mut writer);
            let failed = batch.is_err();
            self.lock().done.insert(index, batch);
            self.changed.notify_all();
            if failed {
                return; // later batches are not wanted, earlier ones are with other workers
            }
        }
    }

    /// The number of the next batch to make, as soon as it is near enough to the consumer.
    fn assign(&self, total: usize) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.closed || state.next >= total {
                return None;
            }
            let index = state.next;
            if index - state.wanted < self.prefetch {
                state.next += 1;
                return Some(index);
            }
            state = self.wait(state);
        }
    }

    /// Waits for batch `index`. Batches are taken in order.
    pub fn take(&self, index: usize) -> Result<Batch, Error> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.done.remove(&index) {
                state.wanted = index + 1;
                self.changed.notify_all();
                return batch;
            }
            state = self.wait(state);
        }
    }

    /// Sends the workers home.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// No code of others runs under the lock, so a poisoned state is a good one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}
