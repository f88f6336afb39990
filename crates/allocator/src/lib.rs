//! A global allocator for training programs: mimalloc that keeps what is freed.
//!
//! A training step frees its large buffers and takes as many again. From an allocator that has given them back to the
//! system they come as fresh pages, which the system zeroes: a third of a step's time with the system's own. mimalloc
//! gives back what has lain unused for a second; [`keep_freed_memory`] makes it keep that too.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;
//!
//! fn main() {
//!     evenkeel_allocator::keep_freed_memory();
//!     // Train.
//! }
//! ```

pub use mimalloc::MiMalloc;

/// From now on memory that is freed stays with this process, which uses it again. So its size remains the largest that
/// it ever was.
///
/// To be called first in `main`, by a program whose global allocator is [`MiMalloc`] (in another one it does nothing).
/// Where the environment variable `MIMALLOC_PURGE_DELAY` is set, that is what counts.
#[allow(unsafe_code, reason = "mimalloc has no safe interface for its options")]
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay` of `mimalloc.h`, the same in its versions 2 and 3: milliseconds, or −1 for never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: the option exists, so this sets a number in a table of mimalloc's. Other threads at most read it,
    // when they free memory, and see the old number or the new.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
}
