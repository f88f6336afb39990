//! `evenkeel probe`.

use std::process::ExitCode;

use evenkeel_lab::probe::probe;
use evenkeel_record::{Instrument, RunFolder};

use crate::args::ProbeArgs;
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::{say, tell};

pub fn run(args: &ProbeArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let folder = RunFolder::new(&args.run);
    let workers = args.machine.workers.into();
    let measured = probe(&folder, &args.only, workers, &device, &mut |instrument| {
        tell(&format!("{} ({})", instrument.title, instrument.name));
    })?;
    // What was measured before stays, unless it was measured again.
    let mut all = folder.read_probe()?.unwrap_or_default();
    all.update(measured.clone());
    folder.write_probe(&all)?;
    let report = evenkeel_report::write(&folder)?;
    if args.json {
        say(&serde_json::to_string(&measured).map_err(Failure::run)?)?;
        return Ok(DONE);
    }
    for instrument in &measured.instruments {
        say(&told(instrument))?;
    }
    say(&format!("report: {}", report.display()))?;
    Ok(DONE)
}

fn told(instrument: &Instrument) -> String {
    let mut text = format!(
        "\n{} ({})\n  {}\n",
        instrument.title, instrument.name, instrument.meaning
    );
    let width = instrument
        .readings
        .iter()
        .map(|reading| reading.of.chars().count())
        .max();
    let width = width.unwrap_or(0);
    for reading in &instrument.readings {
        let [low, high] = reading.interval;
        text += &format!(
            "  {:width$}  {:>9}  {} to {} {}\n",
            reading.of,
            number(reading.value),
            number(low),
            number(high),
            reading.unit
        );
    }
    text
}

/// With four decimals, or as a power of ten where that would be long.
fn number(value: f64) -> String {
    if value.abs() < 1e5 {
        format!("{value:.4}")
    } else {
        format!("{value:.1e}")
    }
}
