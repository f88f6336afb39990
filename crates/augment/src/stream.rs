//! The randomness of one sample in one epoch.

use evenkeel_random::{Draws, Key};

/// Which example, in which epoch: what an augmentation is a function of, besides the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The example's index in the data, whatever its place in the epoch.
    pub index: usize,
}

/// The draws of one sample's operations.
#[derive(Clone, Copy, Debug)]
pub struct Stream(Key);

impl Stream {
    /// The stream of (seed, epoch, sample).
    pub fn new(seed: u64, sample: Sample) -> Self {
        let Sample { epoch, index } = sample;
        Self(
            Key::from_seed(seed)
                .child("augment")
                .at(epoch)
                .at(index as u64),
        )
    }

    /// The draws of the operation at this step of a pipeline: its own, whatever the others draw.
    pub fn operation(&self, step: usize) -> Draws {
        self.0.at(step as u64).draws()
    }
}
