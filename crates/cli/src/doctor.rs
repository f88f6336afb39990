//! `evenkeel doctor`.

use std::process::ExitCode;

use evenkeel_lab::doctor::examine;
use evenkeel_record::{Diagnosis, RunFolder, Severity};

use crate::args::DoctorArgs;
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::say;

pub fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let folder = RunFolder::new(&args.run);
    let diagnosis = examine(&folder, args.machine.workers.into(), &device)?;
    folder.write_diagnosis(&diagnosis)?;
    evenkeel_report::write(&folder)?;
    if args.json {
        say(&serde_json::to_string(&diagnosis).map_err(Failure::run)?)?;
    } else {
        say(&told(&diagnosis))?;
    }
    Ok(DONE)
}

fn told(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "note",
        };
        text += &format!(
            "{severity}: {}\n  evidence: {}\n  cause:    {}\n  remedy:   {}\n",
            finding.title, finding.evidence, finding.cause, finding.remedy
        );
    }
    let skipped = diagnosis
        .checks
        .iter()
        .filter(|check| check.skipped.is_some());
    for check in skipped {
        let why = check.skipped.as_deref().unwrap_or_default();
        text += &format!("not checked: {}: {why}\n", check.name);
    }
    let checked = diagnosis
        .checks
        .iter()
        .filter(|check| check.skipped.is_none());
    let found = match diagnosis.findings.len() {
        0 => "nothing was found".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    text + &format!("{found} in {} checks", checked.count())
}
