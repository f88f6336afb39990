//! The `evenkeel` command.
#![forbid(unsafe_code)]

mod ablate;
mod args;
mod augment;
mod compare;
mod device;
mod doctor;
mod evaluate;
mod exit;
mod fetch;
mod fold;
mod pool;
mod preview;
mod probe;
mod progress;
mod say;
mod search;
mod show;
mod train;
mod trial;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::Failure;

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

fn main() -> ExitCode {
    // Else buffers that rested for a second come back as fresh pages, which the system zeroes.
    evenkeel_allocator::keep_freed_memory();
    let result = match Args::parse().command {
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => evaluate::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Trial(args) => trial::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Report(args) => show::report(&args),
        Command::Fold(args) => fold::run(&args),
        Command::Data(args) => show::data(&args),
        Command::Recipe(args) => show::recipe(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Augment(args) => augment::run(&args),
        Command::Pipeline(args) => show::pipeline(&args),
    };
    result.unwrap_or_else(|failure: Failure| failure.report())
}
