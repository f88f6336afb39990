//! `evenkeel ablate`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use evenkeel_lab::Recipe;
use evenkeel_lab::ablate::{ARM_SETS, Ablation, Arm, arm, arms_of_file};
use evenkeel_record::write_atomic;

use crate::args::AblateArgs;
use crate::compare::print;
use crate::exit::{DONE, Failure, interrupted};
use crate::pool::train_all;
use crate::say::tell;
use crate::train::{recipe_text, stop_on_signals};

pub fn run(args: &AblateArgs) -> Result<ExitCode, Failure> {
    // Before any training: whether there is such a device.
    crate::device::device(args.jobs.device)?;
    let stop = stop_on_signals()?;
    let ablation = ablation(args)?;
    train_all(&ablation.jobs(), ablation.folder(), &args.jobs, &stop)?;
    if stop.load(Ordering::Relaxed) {
        tell(&format!(
            "interrupted; the same command goes on with what is missing in {}",
            ablation.folder().display()
        ));
        return Ok(interrupted());
    }
    let comparison = ablation.compare()?;
    let folder = ablation.folder();
    comparison.write(&folder.join("comparison.json"))?;
    write_atomic(
        &folder.join("comparison.csv"),
        comparison.to_csv().as_bytes(),
    )?;
    let report = folder.join("report.html");
    evenkeel_report::write_comparison(&comparison, &report)?;
    print(&comparison, args.json)?;
    tell(&format!("report: {}", report.display()));
    match comparison.arms.iter().all(|arm| arm.seeds.is_empty()) {
        true => Err(Failure::run("all runs failed")),
        false => Ok(DONE),
    }
}

fn ablation(args: &AblateArgs) -> Result<Ablation, Failure> {
    let (text, place) = recipe_text(&args.recipe)?;
    let mut settings = args.settings.clone();
    if let Some(source) = &args.data {
        settings.push(format!("data.source={source}"));
    }
    let recipe = Recipe::parse(&text, &place, &settings)?;
    let mut arms = match &args.arms {
        None => vec![Arm {
            name: "recipe".into(),
            settings: Vec::new(),
        }],
        Some(name) => match ARM_SETS.iter().find(|set| set.name == name) {
            Some(set) => set.arms(&recipe)?,
            None => arms_of_file(Path::new(name))?,
        },
    };
    for text in &args.arm {
        arms.push(arm(text)?);
    }
    let stem = |name: &str| {
        let stem = Path::new(name).file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    };
    let of_arms = args.arms.as_deref().map_or_else(|| "arms".into(), stem);
    let name = format!("{}-{of_arms}", stem(&args.recipe));
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("ablations").join(&name));
    let title = format!("{}: {of_arms}", stem(&args.recipe));
    let (ablation, notes) =
        Ablation::new(&title, &text, &place, &settings, arms, args.seeds, &folder)?;
    for note in notes {
        tell(&format!("note: {note}"));
    }
    Ok(ablation)
}
