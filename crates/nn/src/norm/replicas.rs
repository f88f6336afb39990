//! Replicas of a model that normalize their parts of a batch together.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burn::tensor::Tensor;
use evenkeel_kernels::{Activation, Moments};

use crate::host::numbers;

/// One of several replicas of a model, each with a part of every batch: what
/// [`Pass::replica`](crate::Pass::replica) needs to know of the others.
///
/// A batch norm's forward gathers the moments of all parts, its backward their gradient sums. Every
/// replica merges them in the order of the replicas, so all have the same statistics to the last bit,
/// and outputs and gradients of the input are those of the whole batch in one piece. The gradients of γ
/// and β, like those of all other parameters, are the part's: whoever trains adds them up. Running
/// statistics follow in every replica alike.
///
/// [`in_process`] is the implementation for threads; one for processes or machines gathers by its own
/// means of communication.
pub trait Replica: Send + Sync + fmt::Debug {
    /// The number of this replica, from 0.
    fn index(&self) -> usize;

    /// What each replica calls this with, in order of the replicas: waits until all have.
    fn gather(&self, own: Vec<f64>) -> Vec<Vec<f64>>;
}

/// One replica's part of a batch that has `count` values per channel in all.
#[derive(Clone, Debug)]
pub struct BatchPart {
    pub(super) count: f64,
    pub(super) activation: Activation,
    pub(super) replica: Arc<dyn Replica>,
}

/// The moments of all parts together, per channel, given those of this one.
///
/// # Panics
/// If the replicas' parts have different numbers of channels: they are not at the same layer.
pub(super) fn whole_moments(
    replica: &dyn Replica,
    count: f64,
    mean: Tensor<1>,
    variance: Tensor<1>,
) -> Vec<Moments> {
    let own = std::iter::once(count)
        .chain(numbers(mean))
        .chain(numbers(variance));
    let parts = gather(replica, own.collect());
    let moments = |part: &[f64], channel: usize| {
        let (count, channels) = (part[0], (part.len() - 1) / 2);
        Moments {
            count,
            mean: part[1 + channel],
            m2: count * part[1 + channels + channel],
        }
    };
    let channels = (parts[0].len() - 1) / 2;
    (0..channels)
        .map(|channel| {
            let parts = parts.iter().map(|part| moments(part, channel));
            parts.fold(Moments::default(), |all, part| all.merge(&part))
        })
        .collect()
}

impl BatchPart {
    /// Values per channel, of all parts.
    pub(crate) fn count(&self) -> f64 {
        self.count
    }

    /// What the norm's output goes through.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// The gradient sums of all parts, per channel, given those of this one.
    pub(crate) fn whole_sums(&self, own: &[[f64; 2]]) -> Vec<[f64; 2]> {
        let parts = gather(self.replica.as_ref(), own.as_flattened().to_vec());
        let mut sums = vec![[0.0; 2]; own.len()];
        for part in &parts {
            for (sum, value) in sums.as_flattened_mut().iter_mut().zip(part) {
                *sum += value;
            }
        }
        sums
    }
}

fn gather(replica: &dyn Replica, own: Vec<f64>) -> Vec<Vec<f64>> {
    let length = own.len();
    let parts = replica.gather(own);
    assert!(
        parts.iter().all(|part| part.len() == length),
        "{replica:?}: the replicas are at different layers, or their models differ: they gather {:?} \
         numbers",
        parts.iter().map(Vec::len).collect::<Vec<_>>()
    );
    parts
}

/// Replicas for the threads of this process, to be moved one to each.
///
/// - The threads must be independent of each other, such as those of [`std::thread::scope`]: tasks of one
///   pool may wait for one that has no thread left.
/// - Each needs a model of its own, made by Burn's `Module::fork`: clones share parameters, hence one
///   autodiff graph, whose lock lets only one thread at a time go backward.
/// - A replica that is dropped while others wait for it, as by a panic, makes them panic too, and so does
///   waiting for ten minutes.
///
/// # Panics
/// If `count` is 0.
pub fn in_process(count: usize) -> Vec<Arc<dyn Replica>> {
    assert!(
        count > 0,
        "in_process: expected at least one replica, got 0"
    );
    let meeting = Arc::new(Meeting {
        table: Mutex::new(Table {
            brought: vec![None; count],
            taken: Arc::default(),
            round: 0,
            left: false,
        }),
        changed: Condvar::new(),
    });
    let replica = |index| -> Arc<dyn Replica> {
        Arc::new(InProcess {
            index,
            meeting: Arc::clone(&meeting),
        })
    };
    (0..count).map(replica).collect()
}

const PATIENCE: Duration = Duration::from_secs(600);

struct InProcess {
    index: usize,
    meeting: Arc<Meeting>,
}

struct Meeting {
    table: Mutex<Table>,
    changed: Condvar,
}

struct Table {
    brought: Vec<Option<Vec<f64>>>,
    /// Of the last round that is complete. The next cannot be before all have returned from it, since
    /// all are needed for it.
    taken: Arc<Vec<Vec<f64>>>,
    round: u64,
    /// Whether a replica is gone.
    left: bool,
}

impl Meeting {
    /// A poisoned lock says that a replica panicked, which `left` says too.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica for InProcess {
    fn index(&self) -> usize {
        self.index
    }

    fn gather(&self, own: Vec<f64>) -> Vec<Vec<f64>> {
        let mut table = self.meeting.table();
        table.brought[self.index] = Some(own);
        if table.brought.iter().all(Option::is_some) {
            let all = table.brought.iter_mut().filter_map(Option::take).collect();
            table.taken = Arc::new(all);
            table.round += 1;
            self.meeting.changed.notify_all();
        } else {
            let round = table.round;
            while table.round == round {
                assert!(
                    !table.left,
                    "replica {}: another replica is gone while this one waits for it",
                    self.index
                );
                let waited = self.meeting.changed.wait_timeout(table, PATIENCE);
                let (woken, wait) = waited.unwrap_or_else(PoisonError::into_inner);
                table = woken;
                assert!(
                    !wait.timed_out() || table.round != round,
                    "replica {}: the others have not come within {PATIENCE:?}. Do they share a thread \
                     pool, or a model (each needs one made by Module::fork)?",
                    self.index
                );
            }
        }
        table.taken.to_vec()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.meeting.table().left = true;
        self.meeting.changed.notify_all();
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replica {}", self.index)
    }
}
