//! Evenkeel: normalization, regularization and data augmentation for deep learning on Burn.
//!
//! **Train with noise; test with its average.** Every regularizer is a source of noise in training
//! that has an average at test, exact or approximate. Evenkeel makes both halves explicit, fast and
//! reproducible.
//!
//! | feature | what | default |
//! |---|---|---|
//! | `nn` | layers on the [`Pass`](nn::Pass), weight decay by role, initialization by path | yes |
//! | `augment` | image operations as data, the ordered loader | yes |
//! | `allocator` | a global allocator that keeps what is freed, for training on the CPU | no |
//! | `dataloader` | [`dataloader`]: the ordered loader as Burn's `DataLoader` | no |
//! | `lab` | recipes, data sources, training, evaluation: what the `evenkeel` command runs | no |
//! | `wgpu`, `cuda` | Burn's GPU backends | no |
#![forbid(unsafe_code)]

#[cfg(feature = "dataloader")]
pub mod dataloader;

#[cfg(feature = "allocator")]
pub use evenkeel_allocator as allocator;
#[cfg(feature = "augment")]
pub use evenkeel_augment as augment;
#[cfg(feature = "lab")]
pub use evenkeel_lab as lab;
#[cfg(feature = "nn")]
pub use evenkeel_nn as nn;

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
