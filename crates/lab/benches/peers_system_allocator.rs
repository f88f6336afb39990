//! The part of `peers` that depends on the allocator, under the system's: what a Burn user gets who
//! sets none.
//!
//! `cargo bench -p evenkeel-lab --bench peers_system_allocator`

mod timing;

fn main() {
    timing::layers("system allocator");
    timing::training_step("system allocator");
}
