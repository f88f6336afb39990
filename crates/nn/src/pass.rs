//! What a pass over the network is for: the mode as a value, never ambient state.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::ParamId;
use burn::tensor::Tensor;
use evenkeel_random::Key;

use crate::norm::{LayerByLayer, Replica, Turn};

/// Which statistics a norm normalizes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StatisticsSource {
    /// Those of the batch at hand.
    Batch,
    /// The running averages kept by the layer.
    Running,
    /// A mixture: this share of the running mean and variance, the rest of the batch's.
    Mixed(f64),
}

/// What a norm does to its running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticsUpdate {
    /// Nothing.
    Keep,
    /// Averages this batch's in, the way the layer is configured to.
    Average,
    /// Averages in, once, those of all batches that this pass sees as one: gradients accumulated
    /// over micro-batches are one step.
    AverageOverPass,
    /// Pools the moments of every batch that this pass sees, replacing what was there before the
    /// pass's first batch: exactly the statistics of all those examples as one batch.
    Pool,
}

/// One pass over the network: three independent answers, and a place in the randomness.
///
/// | constructor | statistics | running statistics | noise |
/// |---|---|---|---|
/// | [`Pass::train`] | batch | averaged in | drawn |
/// | [`Pass::test`] | running | kept | off |
/// | [`Pass::monte_carlo`] | running | kept | drawn |
/// | [`Pass::recalibrate`] | batch | pooled | off |
///
/// Any of them can be changed: [`Pass::freeze_statistics`] for fine-tuning with frozen norms (a pass of
/// a [scope](Pass::scope) freezes one part of the model), [`Pass::over_micro_batches`] for gradient
/// accumulation, [`Pass::replica`] for data parallel training, [`Pass::mix_statistics`] for test data
/// unlike the training data, [`Pass::keep_statistics`] to look at training without leaving a trace. All
/// work on plain and on autodiff devices alike.
///
/// Noise is a function of (seed, step, scope, call within the scope): [`Pass::scope`] gives a part
/// of the model a stream of its own, so that a layer added elsewhere changes nothing there. Within
/// a scope, calls are counted; threads that share a pass should each use their own scope.
///
/// Burn's `freeze()`, `no_grad()`, `valid()` and `train()` start or stop gradients; they change
/// nothing about the statistics or the noise of these layers, which only the pass decides.
#[derive(Clone)]
pub struct Pass {
    statistics: StatisticsSource,
    update: StatisticsUpdate,
    noise: Option<Key>,
    path: String,
    /// Calls so far of each stream, which is a scope's key: names joined by dots are ambiguous.
    calls: Arc<Mutex<HashMap<Key, u64>>>,
    identity: u64,
    observer: Option<Arc<dyn Observer>>,
    replica: Option<Arc<dyn Replica>>,
    layer_by_layer: Option<Arc<LayerByLayer>>,
}

static PASSES: AtomicU64 = AtomicU64::new(1);

impl Pass {
    fn new(statistics: StatisticsSource, update: StatisticsUpdate, noise: Option<Key>) -> Self {
        Self {
            statistics,
            update,
            noise,
            path: String::new(),
            calls: Arc::default(),
            identity: PASSES.fetch_add(1, Ordering::Relaxed),
            observer: None,
            replica: None,
            layer_by_layer: None,
        }
    }

    /// Training step `step` (counted over the whole training) of a run with this seed.
    ///
    /// Gradients accumulated over several micro-batches are *one* step: use one pass for all of its
    /// forwards, so that calls are counted on and each micro-batch draws masks of its own (a new pass
    /// with the same step would draw the same masks again). A norm normalizes each micro-batch by
    /// that one's statistics; the sum of the gradients is therefore not that of the one large batch.
    /// It averages each into its running statistics, or all as one: [`Pass::over_micro_batches`].
    pub fn train(seed: u64, step: u64) -> Self {
        let noise = Key::from_seed(seed).child("train").at(step);
        Self::new(
            StatisticsSource::Batch,
            StatisticsUpdate::Average,
            Some(noise),
        )
    }

    /// Evaluation: running statistics, no noise.
    pub fn test() -> Self {
        Self::new(StatisticsSource::Running, StatisticsUpdate::Keep, None)
    }

    /// Draw number `draw` of a Monte Carlo average over the noise at test time.
    pub fn monte_carlo(seed: u64, draw: u64) -> Self {
        let noise = Key::from_seed(seed).child("monte_carlo").at(draw);
        Self::new(
            StatisticsSource::Running,
            StatisticsUpdate::Keep,
            Some(noise),
        )
    }

    /// Recomputes the running statistics: use *one* such pass for all batches of the loader.
    ///
    /// Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021).
    pub fn recalibrate() -> Self {
        Self::new(StatisticsSource::Batch, StatisticsUpdate::Pool, None)
    }

    /// The same pass with norms frozen: running statistics are used and kept.
    #[must_use]
    pub fn freeze_statistics(mut self) -> Self {
        self.statistics = StatisticsSource::Running;
        self.update = StatisticsUpdate::Keep;
        self
    }

    /// The same pass, whose batches are parts of one: running statistics are updated as if all that
    /// this pass has shown a norm so far were one batch, with one share in the average (and, of a
    /// batch norm, the variance of all their values, which the parts' means add to). What a norm
    /// normalizes with stays the micro-batch's own. Changes nothing where running statistics are kept
    /// or pooled anyway.
    #[must_use]
    pub fn over_micro_batches(mut self) -> Self {
        if self.update == StatisticsUpdate::Average {
            self.update = StatisticsUpdate::AverageOverPass;
        }
        self
    }

    /// The same pass, with batch norms normalizing by a mixture: `running` times the running mean and
    /// variance plus 1 − `running` times the batch's, which are constants to the gradient. Test data
    /// from a camera or a clinic unlike the training data's have statistics of their own. Running
    /// statistics are kept.
    ///
    /// Sources: Schneider and others, "Improving Robustness against Common Corruptions by Covariate
    /// Shift Adaptation" (2020), where of n test examples `running` is N/(N + n) for some N; You, Li,
    /// Zhao, "Test-time Batch Statistics Calibration for Covariate Shift" (2021).
    ///
    /// # Panics
    /// If `running` is not in 0..=1.
    #[must_use]
    pub fn mix_statistics(mut self, running: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&running),
            "Pass::mix_statistics: expected a share of the running statistics in 0..=1, got {running}"
        );
        self.statistics = StatisticsSource::Mixed(running);
        self.update = StatisticsUpdate::Keep;
        self
    }

    /// The same pass with running statistics left as they are; which ones norms use is unchanged.
    #[must_use]
    pub fn keep_statistics(mut self) -> Self {
        self.update = StatisticsUpdate::Keep;
        self
    }

    /// The same pass with running statistics replaced by those of all that this pass shows a norm: of
    /// [`Pass::train`], the statistics under the training's noise, which [`Pass::recalibrate`] leaves out.
    #[must_use]
    pub fn pool_statistics(mut self) -> Self {
        self.update = StatisticsUpdate::Pool;
        self
    }

    /// The same pass of one of several replicas of the model, each of which sees a part of the batch:
    /// batch norms use the statistics of the whole (PyTorch's `SyncBatchNorm`), and each replica draws
    /// noise of its own.
    #[must_use]
    pub fn replica(mut self, replica: Arc<dyn Replica>) -> Self {
        let index = replica.index() as u64;
        self.noise = self.noise.map(|key| key.child("replica").at(index));
        self.replica = Some(replica);
        self
    }

    /// The same pass without noise.
    #[must_use]
    pub fn without_noise(mut self) -> Self {
        self.noise = None;
        self
    }

    /// The same pass, showing each layer's input, output and statistics to `observer`.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The pass for the part of the model called `name`, with randomness of its own.
    #[must_use]
    pub fn scope(&self, name: &str) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Self {
            path,
            noise: self.noise.map(|key| key.child(name)),
            ..self.clone()
        }
    }

    /// Which statistics norms use.
    pub fn statistics(&self) -> StatisticsSource {
        self.statistics
    }

    /// What norms do to their running statistics.
    pub fn update(&self) -> StatisticsUpdate {
        self.update
    }

    /// Where in the model this pass is: the names of the scopes, joined by dots.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key of the next call of a noise layer in this scope; `None` when noise is off.
    ///
    /// Every call counts, so two layers in one scope draw independently, and so do two forwards
    /// of the same layer.
    pub fn next_noise(&self) -> Option<Key> {
        let key = self.noise?;
        // The count is a plain number: a panic elsewhere cannot leave it half-written.
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(key).or_default();
        let call = *count;
        *count += 1;
        Some(key.at(call))
    }

    /// Tells passes apart (scopes and clones of one pass are the same pass): a norm that pools
    /// starts afresh at the first batch of another one.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    pub(crate) fn replicas(&self) -> Option<&Arc<dyn Replica>> {
        self.replica.as_ref()
    }

    /// A pass that recalibrates one norm, the first that `layers` does not know yet.
    pub(crate) fn recalibrate_layer(layers: Arc<LayerByLayer>) -> Self {
        Self {
            layer_by_layer: Some(layers),
            ..Self::recalibrate()
        }
    }

    /// The pass as the norm of this id is to see it: a copy only where it differs.
    pub(crate) fn for_norm(&self, layer: ParamId) -> Cow<'_, Self> {
        let turn = self
            .layer_by_layer
            .as_ref()
            .map(|layers| layers.turn(layer));
        match turn {
            None | Some(Turn::Now) => Cow::Borrowed(self),
            Some(Turn::Done) => Cow::Owned(self.clone().freeze_statistics()),
            Some(Turn::Later) => Cow::Owned(self.clone().keep_statistics()),
        }
    }

    /// Whether there is an observer: without one, a layer need not keep its input for it.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// `forward(input)`, which is shown to the observer, if there is one: the layers of this crate call it, and so should
    /// one of your own that probes are to see. Without an observer nobody else holds the input for it, so that `forward`
    /// may write its output there.
    pub fn observing<const D: usize>(
        &self,
        layer: &'static str,
        input: Tensor<D>,
        forward: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        self.observing_statistics(layer, input, |input| (forward(input), None))
    }

    /// [`observing`](Self::observing), with the mean and variance that a norm used, if any.
    pub(crate) fn observing_statistics<const D: usize>(
        &self,
        layer: &'static str,
        input: Tensor<D>,
        forward: impl FnOnce(Tensor<D>) -> (Tensor<D>, Option<(Tensor<1>, Tensor<1>)>),
    ) -> Tensor<D> {
        let Some(observer) = &self.observer else {
            return forward(input).0;
        };
        let (output, statistics) = forward(input.clone());
        let flat = |tensor: Tensor<D>| {
            let examples = tensor.dims()[0];
            let values = tensor.dims()[1..].iter().product::<usize>();
            tensor.reshape([examples, values])
        };
        observer.observe(Observation {
            path: &self.path,
            layer,
            shape: &input.dims(),
            input: flat(input),
            output: flat(output.clone()),
            statistics,
        });
        output
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("statistics", &self.statistics)
            .field("update", &self.update)
            .field("noise", &self.noise)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Is shown what each layer of a pass receives and returns: the way in for probes.
pub trait Observer: Send + Sync {
    /// Called once by each layer, after its forward, on the thread of the forward.
    fn observe(&self, observation: Observation<'_>);
}

/// What one layer received and returned.
#[derive(Debug)]
pub struct Observation<'a> {
    /// The scopes the layer is in, joined by dots.
    pub path: &'a str,
    /// The kind of layer, such as `batch_norm`.
    pub layer: &'static str,
    /// The shape of the input.
    pub shape: &'a [usize],
    /// The input as `[examples, values]`; part of the autodiff graph where the pass is.
    pub input: Tensor<2>,
    /// The output as `[examples, values]`.
    pub output: Tensor<2>,
    /// Mean and biased variance per channel that a norm used.
    pub statistics: Option<(Tensor<1>, Tensor<1>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn noise_is_a_function_of_seed_step_scope_and_call() {
        let keys = |pass: &Pass| {
            [
                pass.scope("a").next_noise(),
                pass.scope("a").next_noise(),
                pass.scope("b").next_noise(),
            ]
        };
        let first = keys(&Pass::train(1, 5));
        assert_eq!(first, keys(&Pass::train(1, 5)));
        assert_ne!(first[0], first[1], "calls within a scope differ");
        assert_ne!(first[0], first[2], "scopes differ");
        for other in [
            Pass::train(1, 6),
            Pass::train(2, 5),
            Pass::monte_carlo(1, 5),
        ] {
            assert_ne!(first[0], other.scope("a").next_noise());
        }
    }

    #[test]
    fn a_layer_added_elsewhere_changes_nothing_here() {
        let plain = Pass::train(0, 0);
        let with_more = Pass::train(0, 0);
        with_more.scope("new").next_noise();
        with_more.next_noise();
        assert_eq!(
            plain.scope("block").next_noise(),
            with_more.scope("block").next_noise()
        );
    }

    #[test]
    fn scopes_whose_names_join_alike_count_apart() {
        let pass = Pass::train(0, 0);
        let alike = [
            vec![pass.scope("a").scope("b"), pass.scope("a.b")],
            vec![pass.clone(), pass.scope(""), pass.scope("").scope("")],
            vec![pass.scope("c"), pass.scope("").scope("c")],
        ];
        for scopes in alike {
            assert!(scopes.iter().all(|scope| scope.path() == scopes[0].path()));
            let alone = |index: usize| {
                let key = scopes[index].noise.map(|key| key.at(0));
                assert_eq!(scopes[index].next_noise(), key, "its first call");
                key
            };
            let keys: HashSet<_> = (0..scopes.len()).map(alone).collect();
            assert_eq!(keys.len(), scopes.len());
        }
    }

    #[test]
    fn modes_answer_three_questions() {
        use StatisticsSource::{Batch, Running};
        use StatisticsUpdate::{Average, Keep, Pool};
        let answers = |pass: Pass| {
            (
                pass.statistics(),
                pass.update(),
                pass.next_noise().is_some(),
            )
        };
        assert_eq!(answers(Pass::train(0, 0)), (Batch, Average, true));
        assert_eq!(answers(Pass::test()), (Running, Keep, false));
        assert_eq!(answers(Pass::monte_carlo(0, 0)), (Running, Keep, true));
        assert_eq!(answers(Pass::recalibrate()), (Batch, Pool, false));
        assert_eq!(
            answers(Pass::train(0, 0).freeze_statistics()),
            (Running, Keep, true)
        );
        assert_eq!(
            answers(Pass::train(0, 0).without_noise()),
            (Batch, Average, false)
        );
        assert_eq!(
            answers(Pass::train(0, 0).keep_statistics()),
            (Batch, Keep, true)
        );
    }

    #[test]
    fn is_sync() {
        fn check<T: Send + Sync>() {}
        check::<Pass>();
    }
}
