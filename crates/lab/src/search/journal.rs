//! The journal: what was asked for, then a line for each finished trial, appended and never changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use evenkeel_record::{read_limited, write_atomic};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::trial::{Outcome, Trial};
use crate::{Error, data};

/// A search is a function of its settings and of what its trials tell. So to go on with it is to begin it anew and to
/// look up, instead of doing, each trial that is here.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    known: HashMap<String, Outcome>,
    /// Seconds that the search had taken when the last line was written.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    trial: Trial,
    outcome: Outcome,
    /// Seconds of the search by then, over all of its sittings.
    at: f64,
}

/// The journal's name in a search's folder.
const NAME: &str = "journal.jsonl";

impl Journal {
    /// Begins a search's journal.
    ///
    /// # Errors
    /// If there is one already, or the folder cannot be written.
    pub fn create(folder: &Path, settings: &Settings) -> Result<Self, Error> {
        let path = folder.join(NAME);
        if path.exists() {
            return Err(Error::Unfit(format!(
                "{}: there is a search in this folder; go on with it by --resume, or choose another by --out",
                folder.display()
            )));
        }
        let mut text = to_line(settings);
        text.push('\n');
        write_atomic(&path, text.as_bytes())?;
        Ok(Self::open(folder)?.1)
    }

    /// Opens a search's journal, with what was asked for. A torn last line, as a kill can leave, is cut off.
    ///
    /// # Errors
    /// If there is none, or a line of it is none.
    pub fn open(folder: &Path) -> Result<(Settings, Self), Error> {
        let path = folder.join(NAME);
        let bytes = read_limited(&path)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        let wrong = |number: usize, error: serde_json::Error| {
            let problem = format!("line {number}: expected a line of a search's journal, {error}");
            Error::Data(data::Error::at(&path, problem))
        };
        let mut lines = bytes[..whole].split(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let settings: Settings = serde_json::from_slice(first).map_err(|error| wrong(1, error))?;
        let mut known = HashMap::new();
        let mut seconds = 0.0_f64;
        for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            let line: Line =
                serde_json::from_slice(line).map_err(|error| wrong(index + 2, error))?;
            known.insert(to_line(&line.trial), line.outcome);
            seconds = seconds.max(line.at);
        }
        let failed = |error: std::io::Error| Error::Data(data::Error::at(&path, error.to_string()));
        if whole < bytes.len() {
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            file.set_len(whole as u64).map_err(failed)?;
        }
        let file = OpenOptions::new().append(true).open(&path);
        let journal = Self {
            file: file.map_err(failed)?,
            path,
            known,
            seconds,
        };
        Ok((settings, journal))
    }

    /// What a trial told, if it is here.
    pub fn outcome(&self, trial: &Trial) -> Option<&Outcome> {
        self.known.get(&to_line(trial))
    }

    /// How many trials are here.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Writes a line, whole.
    pub fn append(&mut self, trial: &Trial, outcome: &Outcome, at: f64) -> Result<(), Error> {
        let line = Line {
            trial: trial.clone(),
            outcome: outcome.clone(),
            at,
        };
        let mut text = to_line(&line);
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| data::Error::at(&self.path, error.to_string()))?;
        self.known.insert(to_line(trial), line.outcome);
        self.seconds = at;
        Ok(())
    }
}

fn to_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a line has only string keys")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{settings, trial};
    use super::super::trial::{Score, Trained};
    use super::*;

    fn outcome(loss: f64) -> Outcome {
        Outcome::Trained(Trained {
            score: Score {
                loss,
                accuracy: 0.1 + 0.2,
            },
            predicted: vec![1, 0, 1],
            seconds: 1.5,
        })
    }

    #[test]
    fn what_was_told_is_known_again_to_the_last_bit_and_a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), &settings()).unwrap();
        journal.append(&trial(1), &outcome(1.0 / 3.0), 2.0).unwrap();
        journal.append(&trial(2), &outcome(0.7), 5.0).unwrap();
        drop(journal);
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        let starts: Vec<usize> = (1..whole.len())
            .filter(|&i| whole[i - 1] == b'\n')
            .collect();
        // Torn at every byte of the last line.
        for end in starts[1]..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let (known, mut journal) = Journal::open(folder.path()).unwrap();
            assert_eq!(known, settings());
            assert_eq!(journal.outcome(&trial(1)), Some(&outcome(1.0 / 3.0)));
            assert_eq!((journal.outcome(&trial(2)), journal.seconds), (None, 2.0));
            journal.append(&trial(2), &outcome(0.7), 5.0).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "{end}");
        }
        let error = Journal::create(folder.path(), &settings()).err().unwrap();
        assert!(error.to_string().contains("--resume"), "{error}");
        let middle = String::from_utf8(whole)
            .unwrap()
            .replacen("trial", "tryal", 1);
        fs::write(&path, middle).unwrap();
        let error = Journal::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("journal.jsonl: line 2"), "{error}");
    }
}
