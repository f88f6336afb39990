//! A short run of every target: each file of its corpus, and some thousand mutations of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel_fuzz::{TARGETS, mutate};

const RUNS: u64 = 20_000;
/// A run ends then, however many it has made: a slow machine fuzzes less.
const LONGEST: Duration = Duration::from_secs(5);

#[test]
fn every_target_bears_its_corpus_and_mutations_of_it() {
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
        while runs < RUNS && start.elapsed() < LONGEST {
            target(&mutate(&corpus, 1, runs));
            runs += 1;
        }
        println!("{name}: {} files, {runs} mutations", corpus.len());
    }
}
