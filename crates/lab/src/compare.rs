//! Runs beside each other: means over seeds, paired differences, corrected for how many there are.

use burn::tensor::Device;
use evenkeel_record::{
    Arm, Comparison, Difference, EpochMean, Estimate, Line, Pairs, Results, Run, RunFolder, Status,
};
use evenkeel_statistics::{Discordant, Paired, Sample, holm};

use crate::Error;
use crate::evaluate::{Measured, OpenRun, most_probable};
use crate::fit::recipe_of;

const CONFIDENCE: f64 = 0.95;

/// A finished run.
#[derive(Clone, Debug)]
pub(crate) struct FinishedRun {
    pub seed: u64,
    pub results: Results,
    pub metrics: Vec<Line>,
}

/// Runs that differ in their seeds only.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub name: String,
    pub settings: Vec<String>,
    pub runs: Vec<FinishedRun>,
    pub failures: Vec<String>,
}

/// All groups against the first, by seeds.
pub(crate) fn arms(groups: &[Group]) -> Vec<Arm> {
    let mut arms: Vec<Arm> = groups.iter().map(arm).collect();
    for (arm, group) in arms.iter_mut().zip(groups).skip(1) {
        arm.difference = groups
            .first()
            .and_then(|baseline| by_seeds(baseline, group));
    }
    correct(&mut arms);
    arms
}

fn arm(group: &Group) -> Arm {
    let of = |value: fn(&Results) -> f64| {
        let values: Vec<f64> = group.runs.iter().map(|run| value(&run.results)).collect();
        mean(&values)
    };
    Arm {
        name: group.name.clone(),
        settings: group.settings.clone(),
        seeds: group.runs.iter().map(|run| run.seed).collect(),
        accuracies: group
            .runs
            .iter()
            .map(|run| run.results.test_accuracy)
            .collect(),
        test_accuracy: of(|results| results.test_accuracy),
        train_accuracy: of(|results| results.train_accuracy),
        gap: of(|results| results.train_accuracy - results.test_accuracy),
        test_loss: of(|results| results.test_loss),
        seconds: of(|results| results.seconds),
        difference: None,
        curve: curve(&group.runs),
        failures: group.failures.clone(),
    }
}

fn mean(values: &[f64]) -> Estimate {
    match Sample::of(values) {
        Some(sample) => Estimate::new(sample.mean, sample.interval(CONFIDENCE)),
        None => Estimate::new(f64::NAN, None),
    }
}

/// The mean of the runs at each epoch that all of them have.
fn curve(runs: &[FinishedRun]) -> Vec<EpochMean> {
    let epochs = |run: &FinishedRun| -> Vec<EpochMean> {
        let lines = run.metrics.iter().filter_map(|line| match *line {
            Line::Epoch {
                epoch,
                train_accuracy,
                test_accuracy,
                ..
            } => Some(EpochMean {
                epoch,
                train_accuracy,
                test_accuracy,
            }),
            Line::Step { .. } => None,
        });
        lines.collect()
    };
    let all: Vec<Vec<EpochMean>> = runs.iter().map(epochs).collect();
    let shortest = all.iter().map(Vec::len).min().unwrap_or(0);
    let count = all.len() as f64;
    let at = |index: usize| {
        let of = |value: fn(&EpochMean) -> f64| {
            all.iter().map(|epochs| value(&epochs[index])).sum::<f64>() / count
        };
        EpochMean {
            epoch: all[0][index].epoch,
            train_accuracy: of(|epoch| epoch.train_accuracy),
            test_accuracy: of(|epoch| epoch.test_accuracy),
        }
    };
    (0..shortest).map(at).collect()
}

/// Over the seeds that both have.
fn by_seeds(baseline: &Group, other: &Group) -> Option<Difference> {
    let pairs = baseline.runs.iter().filter_map(|before| {
        let after = other.runs.iter().find(|run| run.seed == before.seed)?;
        Some((before.results.test_accuracy, after.results.test_accuracy))
    });
    let (before, after): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let paired = Paired::of(&before, &after)?;
    Some(Difference {
        accuracy: Estimate::new(paired.mean(), paired.interval(CONFIDENCE)),
        pairs: paired.differences.count as u64,
        p_value: paired.p_value(),
        corrected: None,
    })
}

/// Corrects the p-values for the number of arms.
fn correct(arms: &mut [Arm]) {
    let p_values: Vec<Option<f64>> = arms
        .iter()
        .map(|arm| arm.difference.and_then(|difference| difference.p_value))
        .collect();
    for (arm, corrected) in arms.iter_mut().zip(holm(&p_values)) {
        if let Some(difference) = &mut arm.difference {
            difference.corrected = corrected;
        }
    }
}

/// Compares finished runs. Runs whose recipes differ in nothing but the seed are one arm; the first run's arm
/// is the baseline. Where each arm has one run, the pairs are the test examples, and the models are evaluated
/// on them.
///
/// # Errors
/// If there are fewer than two arms, or a run is not finished, or they were evaluated on different data.
pub fn compare_runs(
    folders: &[RunFolder],
    workers: usize,
    device: &Device,
) -> Result<Comparison, Error> {
    let mut groups: Vec<(Group, toml::Table, &RunFolder)> = Vec::new();
    let mut first: Option<Run> = None;
    for folder in folders {
        let run = folder.read_run()?;
        let (Status::Finished, Some(results)) = (run.status, run.results) else {
            return Err(Error::Unfinished {
                folder: folder.path().to_owned(),
                failure: run.failure,
            });
        };
        let first = first.get_or_insert_with(|| run.clone());
        expect_same_data(first, &run, folder)?;
        let finished = FinishedRun {
            seed: run.seed,
            results,
            metrics: folder.read_metrics()?,
        };
        let mut recipe = recipe_of(&run, folder)?.to_table();
        recipe.remove("seed");
        match groups.iter_mut().find(|(_, known, _)| *known == recipe) {
            Some((group, ..)) if group.runs.iter().any(|known| known.seed == run.seed) => {
                return Err(Error::Unfit(format!(
                    "{}: a run of the same recipe and seed is among those before it; name each once",
                    folder.path().display()
                )));
            }
            Some((group, ..)) => group.runs.push(finished),
            None => {
                let group = Group {
                    name: name(folder),
                    settings: Vec::new(),
                    runs: vec![finished],
                    failures: Vec::new(),
                };
                groups.push((group, recipe, folder));
            }
        }
    }
    let (Some(run), true) = (first, groups.len() > 1) else {
        return Err(Error::Unfit(
            "expected runs of two recipes at least: those given differ in nothing but the seed"
                .into(),
        ));
    };
    let baseline = groups[0].1.clone();
    for (group, recipe, _) in &mut groups {
        group.settings = differences(&baseline, recipe);
    }
    let single = groups.iter().all(|(group, ..)| group.runs.len() == 1);
    let places: Vec<&RunFolder> = groups.iter().map(|(.., folder)| *folder).collect();
    let groups: Vec<Group> = groups.iter().map(|(group, ..)| group.clone()).collect();
    let mut arms = arms(&groups);
    if single {
        by_examples(&mut arms, &places, workers, device)?;
    }
    Ok(Comparison {
        title: title(&arms),
        source: run.data.source,
        held_out: run.data.held_out,
        pairs: if single {
            Pairs::Examples
        } else {
            Pairs::Seeds
        },
        machine: Some(run.machine),
        arms,
    })
}

/// The first names.
fn title(arms: &[Arm]) -> String {
    const MOST: usize = 4;
    let names: Vec<&str> = arms
        .iter()
        .take(MOST)
        .map(|arm| arm.name.as_str())
        .collect();
    let more = match arms.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// The last part of the folder's path.
fn name(folder: &RunFolder) -> String {
    let path = folder.path();
    let last = path.file_name().unwrap_or(path.as_os_str());
    last.to_string_lossy().into_owned()
}

fn expect_same_data(first: &Run, run: &Run, folder: &RunFolder) -> Result<(), Error> {
    let (expected, found) = (&first.data, &run.data);
    let same = expected.test_examples == found.test_examples
        && expected.held_out == found.held_out
        && expected.classes == found.classes
        // Held-out data differ from seed to seed.
        && (found.held_out || expected.test_checksum == found.test_checksum);
    if same {
        return Ok(());
    }
    Err(Error::Unfit(format!(
        "{}: this run was evaluated on other data ({}, {} examples) than the first ({}, {}); expected the same",
        folder.path().display(),
        found.source,
        found.test_examples,
        expected.source,
        expected.test_examples
    )))
}

/// The values of `other` that are not those of `baseline`, as settings.
pub(crate) fn differences(baseline: &toml::Table, other: &toml::Table) -> Vec<String> {
    fn walk(path: &str, baseline: &toml::Table, other: &toml::Table, found: &mut Vec<String>) {
        for (key, value) in other {
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            match (baseline.get(key), value) {
                (Some(before), after) if before == after => {}
                // A section of another kind is told whole.
                (Some(toml::Value::Table(before)), toml::Value::Table(after))
                    if before.get("kind") == after.get("kind") =>
                {
                    walk(&path, before, after, found);
                }
                _ => found.push(format!("{path}={value}")),
            }
        }
    }
    let mut found = Vec::new();
    walk("", baseline, other, &mut found);
    found
}

/// Evaluates one run an arm and compares their predictions, example by example.
fn by_examples(
    arms: &mut [Arm],
    folders: &[&RunFolder],
    workers: usize,
    device: &Device,
) -> Result<(), Error> {
    let mut baseline: Option<Measured> = None;
    for (arm, folder) in arms.iter_mut().zip(folders) {
        let run = OpenRun::open(folder, None, device)?;
        let measured = run.evaluator(workers)?.measure(&run.model)?;
        let Some(baseline) = &baseline else {
            baseline = Some(measured);
            continue;
        };
        if baseline.labels != measured.labels {
            return Err(Error::Unfit(format!(
                "{}: this run was evaluated on other examples than the first, held out by another seed; expected \
                 the same, or several seeds of each",
                folder.path().display()
            )));
        }
        let changes = Discordant::of(right(baseline).zip(right(&measured)));
        arm.difference = Some(Difference {
            accuracy: Estimate::new(changes.difference(), Some(changes.interval(CONFIDENCE))),
            pairs: changes.examples,
            p_value: Some(changes.p_value()),
            corrected: None,
        });
    }
    correct(arms);
    Ok(())
}

/// Whether each example is.
pub(crate) fn right(measured: &Measured) -> impl Iterator<Item = bool> {
    let classes = measured.confusion.len().max(1);
    let rows = measured.probabilities.chunks_exact(classes);
    rows.zip(&measured.labels)
        .map(|(row, &truth)| most_probable(row) == truth as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, accuracies: &[(u64, f64)]) -> Group {
        let run = |&(seed, accuracy): &(u64, f64)| FinishedRun {
            seed,
            results: Results {
                train_loss: 0.1,
                train_accuracy: accuracy + 0.05,
                test_loss: 0.2,
                test_accuracy: accuracy,
                best_epoch: 1,
                best_test_accuracy: accuracy,
                epochs: 2,
                steps: 4,
                seconds: 3.0,
                images_per_s: 1.0,
                peak_memory_bytes: None,
            },
            metrics: (1..=2)
                .map(|epoch| Line::Epoch {
                    epoch,
                    step: 2 * epoch,
                    train_loss: 0.0,
                    train_accuracy: accuracy,
                    test_loss: 0.0,
                    test_accuracy: accuracy * epoch as f64 / 2.0,
                    learning_rate: 0.1,
                    seconds: 1.0,
                    images_per_s: 1.0,
                })
                .collect(),
        };
        Group {
            name: name.into(),
            settings: Vec::new(),
            runs: accuracies.iter().map(run).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn differences_are_between_runs_of_one_seed() {
        let groups = [
            group("base", &[(0, 0.80), (1, 0.90), (2, 0.85)]),
            // Always a little better, whatever the seed's level; one seed is not there.
            group("better", &[(2, 0.872), (0, 0.818), (9, 0.1)]),
            group("same", &[(0, 0.81), (1, 0.89), (2, 0.85)]),
            group("none", &[]),
        ];
        let arms = arms(&groups);
        assert_eq!(arms[0].difference, None);
        let better = arms[1].difference.unwrap();
        assert_eq!(better.pairs, 2);
        assert!((better.accuracy.value - 0.02).abs() < 1e-12);
        // Of two tests, the smaller p-value is doubled.
        let same = arms[2].difference.unwrap();
        let (p, corrected) = (better.p_value.unwrap(), better.corrected.unwrap());
        assert!(p < same.p_value.unwrap());
        assert!((corrected - (2.0 * p).min(1.0)).abs() < 1e-12);
        assert_eq!(same.corrected, same.p_value.map(|p| p.max(corrected)));
        assert_eq!(arms[3].difference, None);
        assert!(arms[3].test_accuracy.value.is_nan() && arms[3].curve.is_empty());
        assert!((arms[0].gap.value - 0.05).abs() < 1e-12);
        assert!((arms[0].curve[0].test_accuracy - 0.425).abs() < 1e-12);
    }

    #[test]
    fn recipes_differ_in_settings() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let baseline = table("a = 1\n[m]\nkind = \"x\"\nb = 2\nc = 3\n[o]\nkind = \"s\"\nd = 4");
        let other = table("a = 1\n[m]\nkind = \"x\"\nb = 5\nc = 3\n[o]\nkind = \"t\"\ne = 6");
        assert_eq!(
            differences(&baseline, &other),
            ["m.b=5", "o={ e = 6, kind = \"t\" }"]
        );
        assert!(differences(&baseline, &baseline).is_empty());
    }
}
