//! What is freed is there again without page faults, after any pause. Linux tells how many there were.
#![cfg(target_os = "linux")]

use std::time::Duration;
use std::{fs, hint, thread};

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

/// Page faults of this process so far.
fn faults() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells of its processes");
    // The tenth field; the second, in parentheses, may hold spaces.
    let behind_name = stat.rsplit(')').next().expect("a name");
    let faults = behind_name.split_whitespace().nth(7);
    faults
        .and_then(|faults| faults.parse().ok())
        .expect("a number")
}

/// Those of taking some memory and writing to all of it, freed after that.
fn faults_of_using(bytes: usize) -> u64 {
    let before = faults();
    hint::black_box(vec![1_u8; bytes]);
    faults() - before
}

#[test]
fn freed_memory_stays() {
    const BYTES: usize = 64 << 20;
    evenkeel_allocator::keep_freed_memory();
    // Pages have 2 MiB at most here.
    let fresh = faults_of_using(BYTES);
    assert!(fresh >= 32, "{fresh}");
    for _ in 0..2 {
        // mimalloc's own choice is to give memory back after a second, when other memory is freed.
        thread::sleep(Duration::from_millis(1300));
        for size in 1..100 {
            faults_of_using(size << 10);
        }
        let again = faults_of_using(BYTES);
        assert!(again < 16, "{again} page faults, {fresh} at first");
    }
}
