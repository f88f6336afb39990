//! `evenkeel augment`.

use std::process::ExitCode;

use evenkeel_lab::data::Source;
use evenkeel_lab::{Augmenting, MANIFEST, augment, read_pipeline};

use crate::args::AugmentArgs;
use crate::exit::{DONE, Failure};
use crate::progress::bar;
use crate::say::say;

const BAR: &str = "{bar:30} {pos}/{len} copies  {per_sec}  {eta} left";

pub fn run(args: &AugmentArgs) -> Result<ExitCode, Failure> {
    let source: Source = args.source.parse().map_err(Failure::usage)?;
    let pipeline = args.pipeline.as_deref().map(read_pipeline).transpose()?;
    let by = match (&pipeline, &args.replay) {
        (Some(pipeline), _) => Augmenting::Pipeline {
            pipeline,
            copies: args.copies.unwrap_or(1),
            seed: args.seed.unwrap_or(0),
        },
        (None, Some(manifest)) => Augmenting::Manifest(manifest),
        (None, None) => return Err(Failure::usage("expected --pipeline or --replay")),
    };
    let bar = bar(BAR);
    let count = augment(&source, &by, &args.out, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    say(&format!(
        "{} copies in {}",
        count?,
        args.out.join(MANIFEST).display()
    ))?;
    Ok(DONE)
}
