//! `evenkeel report`, `evenkeel data`, `evenkeel recipe` and `evenkeel pipeline`: what only shows.

use std::process::ExitCode;

use evenkeel_lab::BUILT_IN_PIPELINES;
use evenkeel_lab::data::{KNOWN, Source, check};
use evenkeel_lab::recipes::{BUILT_IN, built_in, names};
use evenkeel_record::RunFolder;

use crate::args::{DataCommand, PipelineCommand, RecipeCommand, ReportArgs};
use crate::exit::{DONE, Failure};
use crate::say::say;

pub fn report(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let report = evenkeel_report::write(&RunFolder::new(&args.run))?;
    say(&report.display().to_string())?;
    Ok(DONE)
}

pub fn data(command: &DataCommand) -> Result<ExitCode, Failure> {
    match command {
        DataCommand::List => {
            for known in KNOWN {
                say(&format!("{:24} {}", known.name, known.description))?;
            }
        }
        DataCommand::Check { source } => {
            let source: Source = source.parse().map_err(Failure::usage)?;
            say(&check(&source)?.to_string())?;
        }
    }
    Ok(DONE)
}

pub fn recipe(command: &RecipeCommand) -> Result<ExitCode, Failure> {
    match command {
        RecipeCommand::List => {
            for recipe in BUILT_IN {
                say(&format!("{:18} {}", recipe.name, recipe.description()))?;
            }
        }
        RecipeCommand::Show { name } => match built_in(name) {
            Some(recipe) => say(recipe.text)?,
            None => {
                return Err(Failure::usage(format!(
                    "recipe {name}: expected one of {}",
                    names()
                )));
            }
        },
    }
    Ok(DONE)
}

pub fn pipeline(command: &PipelineCommand) -> Result<ExitCode, Failure> {
    match command {
        PipelineCommand::List => {
            for pipeline in BUILT_IN_PIPELINES {
                say(&format!("{:22} {}", pipeline.name, pipeline.description()))?;
            }
        }
        PipelineCommand::Show { name } => {
            let pipeline = BUILT_IN_PIPELINES
                .iter()
                .find(|pipeline| pipeline.name == name);
            let Some(pipeline) = pipeline else {
                let names = BUILT_IN_PIPELINES.map(|pipeline| pipeline.name).join(", ");
                return Err(Failure::usage(format!(
                    "pipeline {name}: expected one of {names}"
                )));
            };
            say(pipeline.text)?;
        }
    }
    Ok(DONE)
}
