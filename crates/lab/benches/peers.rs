//! Evenkeel's layers and Burn's own, through Burn's autodiff, in the form of the peers' scripts: one
//! JSON object a line. `scripts/bench-peers` runs it beside PyTorch and makes the README's table.
//!
//! `cargo bench -p evenkeel-lab --bench peers`

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

mod timing;

fn main() {
    evenkeel_allocator::keep_freed_memory();
    // The calling thread computes too, as in the command.
    let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
    pool.build_global().expect("the first pool");
    timing::layers("mimalloc");
    timing::training_step("mimalloc");
    timing::inference("mimalloc");
    timing::loader();
}
