//! `evenkeel fold`.

use std::process::ExitCode;

use evenkeel_lab::fold::fold_run;
use evenkeel_record::RunFolder;
use serde_json::json;

use crate::args::FoldArgs;
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::say;

pub fn run(args: &FoldArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let folder = RunFolder::new(&args.run);
    let folded = fold_run(&folder, args.machine.workers.into(), &device)?;
    let accuracies = [folded.before.accuracy, folded.after.accuracy];
    if args.json {
        let errors = folded.errors.iter().map(|(path, error)| {
            json!({ "norm": path, "slope": error.slope, "constant": error.constant })
        });
        let json = json!({
            "model": folded.path.display().to_string(),
            "errors": errors.collect::<Vec<_>>(),
            "accuracy": accuracies[0],
            "folded_accuracy": accuracies[1],
            "largest_change": folded.largest_change(),
        });
        say(&json.to_string())?;
        return Ok(DONE);
    }
    say("rounding can change the output of a folded layer with inputs x by")?;
    for (path, error) in &folded.errors {
        say(&format!("  {path}: {error}"))?;
    }
    say(&format!(
        "test accuracy {:.2} % before, {:.2} % after; no probability changed by more than {:.1e}",
        100.0 * accuracies[0],
        100.0 * accuracies[1],
        folded.largest_change()
    ))?;
    say(&format!("model:  {}", folded.path.display()))?;
    Ok(DONE)
}
