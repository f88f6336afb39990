//! The part of `peers` that depends on the allocator and the threads, with the system's allocator and rayon's own
//! threads: what a Burn user gets who sets neither.
//!
//! `cargo bench -p evenkeel-lab --bench peers_system_allocator`

mod timing;

fn main() {
    timing::layers("system allocator");
    timing::training_step("system allocator");
}
