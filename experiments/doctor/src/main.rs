//! How often `evenkeel doctor` is right: seeded faults, and sound runs of many recipes.
//!
//! `cargo run --release -p evenkeel-doctor-proof -- OUT SEED...` makes every fault and every sound recipe with
//! each seed, asks the doctor, and writes a line each to OUT as it goes. Lines that are there already are not
//! made again.
#![forbid(unsafe_code)]

mod faults;
mod images;
mod recipes;
mod summary;
mod training;

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use burn::tensor::Device;
use evenkeel_lab::doctor::examine;
use evenkeel_record::{Diagnosis, RunFolder, Severity};
use serde_json::{Value, json};

use faults::FAULTS;
use images::Clothes;
use recipes::RECIPES;

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

fn main() {
    evenkeel_allocator::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().expect("usage: OUT SEED...");
    let seeds: Vec<u64> = arguments
        .map(|seed| seed.parse().expect("a seed"))
        .collect();
    // Many small runs: a thread each would be the faster way, one for all is the repeatable one.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("a thread pool");
    let clothes = Clothes::load();
    let done: Vec<Value> = summary::read(&out);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&out)
        .expect("the results");
    let mut each =
        |kind: &str, name: &str, seed: u64, make: &dyn Fn(&std::path::Path) -> RunFolder| {
            let there =
                |line: &Value| line["kind"] == kind && line["name"] == name && line["seed"] == seed;
            if done.iter().any(there) {
                return;
            }
            let place = tempfile::tempdir().expect("a folder");
            let start = Instant::now();
            let folder = make(place.path());
            let trained = start.elapsed().as_secs_f64();
            let diagnosis = examine(&folder, 0, &Device::flex()).expect("an examination");
            let run = folder.read_run().expect("a run");
            let line = line(
                kind,
                name,
                seed,
                &diagnosis,
                &[
                    (
                        "accuracy",
                        run.results
                            .map_or(f64::NAN, |results| results.test_accuracy),
                    ),
                    ("seconds to train", trained),
                    (
                        "seconds to examine",
                        start.elapsed().as_secs_f64() - trained,
                    ),
                ],
            );
            println!("{line}");
            writeln!(file, "{line}").expect("the results");
        };
    for &seed in &seeds {
        for fault in FAULTS {
            let kind = if fault.listed {
                "listed fault"
            } else {
                "unlisted fault"
            };
            each(kind, fault.name, seed, &|place| {
                fault.make(&clothes, seed, place)
            });
        }
        for recipe in RECIPES {
            each("sound", recipe.name, seed, &|place| {
                recipe.make(&clothes, seed, place)
            });
        }
    }
    println!("{}", summary::table(&summary::read(&out)));
}

fn line(
    kind: &str,
    name: &str,
    seed: u64,
    diagnosis: &Diagnosis,
    figures: &[(&str, f64)],
) -> Value {
    let alarms = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity != Severity::Note);
    let findings: Vec<Value> = alarms
        .map(|finding| {
            json!({
                "check": finding.check,
                "title": finding.title,
                "evidence": finding.evidence,
                "cause": finding.cause,
            })
        })
        .collect();
    let mut line = json!({ "kind": kind, "name": name, "seed": seed, "alarms": findings });
    for (name, value) in figures {
        line[*name] = json!((value * 1e4).round() / 1e4);
    }
    line
}
