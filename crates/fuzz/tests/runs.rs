//! Runs of every target over its corpus and mutations of it: a short one, and one as long as is asked for.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel_fuzz::{TARGETS, mutate};

const RUNS: u64 = 20_000;
/// A run ends then, however many it has made: a slow machine fuzzes less.
const LONGEST: Duration = Duration::from_secs(5);

/// Each target on every file of its corpus, then on so many mutations, or for so long.
fn run(seed: u64, most: u64, longest: Duration) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut paths: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!corpus.is_empty(), "{name}");
        corpus.iter().for_each(|bytes| target(bytes));
        let (start, mut runs) = (Instant::now(), 0);
        while runs < most && start.elapsed() < longest {
            target(&mutate(&corpus, seed, runs));
            runs += 1;
        }
        println!("{name}: {} files, {runs} mutations", corpus.len());
    }
}

#[test]
fn every_target_bears_its_corpus_and_mutations_of_it() {
    run(1, RUNS, LONGEST);
}

/// `EVENKEEL_FUZZ=SEED,SECONDS cargo test --release -p evenkeel-fuzz -- --ignored --nocapture`: seconds of each target.
#[test]
#[ignore = "as long as is asked for"]
fn long() {
    let asked = std::env::var("EVENKEEL_FUZZ").expect("EVENKEEL_FUZZ=SEED,SECONDS");
    let (seed, seconds) = asked.split_once(',').expect("SEED,SECONDS");
    let seconds = Duration::from_secs(seconds.parse().expect("seconds"));
    run(seed.parse().expect("a seed"), u64::MAX, seconds);
}
