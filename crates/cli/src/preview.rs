//! `evenkeel preview`.

use std::process::ExitCode;

use evenkeel_lab::data::Source;
use evenkeel_lab::{PreviewOptions, preview, read_pipeline};
use evenkeel_record::write_atomic;
use serde_json::json;

use crate::args::PreviewArgs;
use crate::exit::{DONE, Failure};
use crate::say::say;

pub fn run(args: &PreviewArgs) -> Result<ExitCode, Failure> {
    let source: Source = args.source.parse().map_err(Failure::usage)?;
    let pipeline = read_pipeline(&args.pipeline)?;
    let options = PreviewOptions {
        samples: args.samples.into(),
        views: args.views.into(),
        seed: args.seed,
    };
    write_atomic(&args.out, &preview(&source, &pipeline, options)?)?;
    let path = args.out.display().to_string();
    say(&match args.json {
        true => json!({ "sheet": path }).to_string(),
        false => path,
    })?;
    Ok(DONE)
}
