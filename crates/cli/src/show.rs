//! `evenkeel report`, `evenkeel data`, `evenkeel recipe` and `evenkeel pipeline`: what only shows.

use std::process::ExitCode;

use evenkeel_lab::BUILT_IN_PIPELINES;
use evenkeel_lab::data::{KNOWN, Source, check};
use evenkeel_lab::recipes::{BUILT_IN, built_in, names};
use evenkeel_record::RunFolder;
use serde_json::json;

use crate::args::{DataCommand, ListArgs, PipelineCommand, RecipeCommand, ReportArgs};
use crate::exit::{DONE, Failure};
use crate::say::say;

pub fn report(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let report = evenkeel_report::write(&RunFolder::new(&args.run))?;
    let path = report.display().to_string();
    say(&match args.json {
        true => json!({ "report": path }).to_string(),
        false => path,
    })?;
    Ok(DONE)
}

/// Names and what they are, in a column of this width or as JSON.
fn list<'a>(
    args: &ListArgs,
    width: usize,
    items: impl Iterator<Item = (&'a str, String)>,
) -> Result<(), Failure> {
    if args.json {
        let items =
            items.map(|(name, description)| json!({ "name": name, "description": description }));
        return say(&serde_json::Value::from_iter(items).to_string());
    }
    for (name, description) in items {
        say(&format!("{name:width$} {description}"))?;
    }
    Ok(())
}

pub fn data(command: &DataCommand) -> Result<ExitCode, Failure> {
    match command {
        DataCommand::List(args) => {
            let known = KNOWN.iter();
            list(
                args,
                24,
                known.map(|known| (known.name, known.description.to_owned())),
            )?;
        }
        DataCommand::Fetch(args) => return crate::fetch::run(args),
        DataCommand::Check { source, json } => {
            let source: Source = source.parse().map_err(Failure::usage)?;
            let checked = check(&source)?;
            let text = match json {
                true => serde_json::to_string(&checked).map_err(Failure::run)?,
                false => checked.to_string(),
            };
            say(&text)?;
        }
    }
    Ok(DONE)
}

pub fn recipe(command: &RecipeCommand) -> Result<ExitCode, Failure> {
    match command {
        RecipeCommand::List(args) => {
            let recipes = BUILT_IN.iter();
            list(
                args,
                18,
                recipes.map(|recipe| (recipe.name, recipe.description())),
            )?;
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
        PipelineCommand::List(args) => {
            let pipelines = BUILT_IN_PIPELINES.iter();
            list(
                args,
                22,
                pipelines.map(|pipeline| (pipeline.name, pipeline.description())),
            )?;
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
