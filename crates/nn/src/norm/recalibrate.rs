//! Recomputing the running statistics of a whole model.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::ParamId;

use crate::Pass;

/// Recomputes the running statistics of every norm in a model, exactly: afterwards each is that of all
/// examples as one batch, normalized by these statistics before it, so that it does not depend on how
/// the data were cut into batches.
///
/// `epoch` shows the model all data once under the pass that it is given; it is called once for each
/// norm and once more, since a norm's input depends on the statistics of those before it.
/// [`Pass::recalibrate`] does it in one epoch: each norm then pools its batches' moments, which is exact
/// for the first norm of a model and depends on the batches for those behind it.
///
/// Returns the number of norms.
///
/// Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021), for pooling the moments.
///
/// ```
/// # use burn::tensor::{Device, Distribution, Tensor};
/// # use evenkeel_nn::{BatchNormConfig, recalibrate_exactly};
/// # let norm = BatchNormConfig::new(3).init(&Device::flex());
/// # let batches: Vec<Tensor<2>> = (0..4)
/// #     .map(|_| Tensor::random([5, 3], Distribution::Default, &Device::flex()))
/// #     .collect();
/// let norms = recalibrate_exactly(|pass| {
///     for batch in &batches {
///         norm.forward(batch.clone(), pass);
///     }
///     Ok::<_, std::convert::Infallible>(())
/// });
/// assert_eq!(norms, Ok(1));
/// ```
///
/// # Errors
/// What `epoch` returns: the norms done by then have new statistics, the others the old ones.
pub fn recalibrate_exactly<E>(mut epoch: impl FnMut(&Pass) -> Result<(), E>) -> Result<usize, E> {
    let layers = Arc::new(LayerByLayer::default());
    loop {
        epoch(&Pass::recalibrate_layer(Arc::clone(&layers)))?;
        if !layers.next() {
            return Ok(layers.done());
        }
    }
}

/// Which norms of a model are done, and whose turn it is. Norms come in the order of the forward.
#[derive(Debug, Default)]
pub(crate) struct LayerByLayer(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    done: HashSet<ParamId>,
    now: Option<ParamId>,
}

/// What a norm does in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Normalizes by its new statistics.
    Done,
    /// Pools.
    Now,
    /// Lets the batch through.
    Later,
}

impl LayerByLayer {
    fn with<R>(&self, work: impl FnOnce(&mut Turns) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn turn(&self, layer: ParamId) -> Turn {
        self.with(|turns| {
            if turns.done.contains(&layer) {
                Turn::Done
            } else if *turns.now.get_or_insert(layer) == layer {
                Turn::Now
            } else {
                Turn::Later
            }
        })
    }

    /// Ends a round; whether it had a norm to do.
    fn next(&self) -> bool {
        self.with(|turns| match turns.now.take() {
            Some(layer) => turns.done.insert(layer),
            None => false,
        })
    }

    fn done(&self) -> usize {
        self.with(|turns| turns.done.len())
    }
}
