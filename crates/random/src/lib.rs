//! Randomness as a function, never a stream with hidden state.
//!
//! Every random number in Evenkeel is `philox(key, counter)`: the [`Key`] says *what* is drawn
//! (seed, step, scope, call; or seed, epoch, sample, operation), the counter says *which* number
//! of it. So a mask can be recomputed instead of stored, and a batch is the same for any number
//! of workers and after a resume at any step.
//!
//! ```
//! use evenkeel_random::Key;
//!
//! let mask = Key::from_seed(42).at(7).child("block3"); // step 7, scope "block3"
//! assert_eq!(mask.block(0), Key::from_seed(42).at(7).child("block3").block(0));
//! ```
#![forbid(unsafe_code)]

mod draws;
mod key;
mod philox;

pub use draws::Draws;
pub use key::Key;
pub use philox::philox4x32;
