//! The files of a run by name.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Averaging, Diagnosis, Error, Evaluation, Line, Probe, Run, RunLock, read_limited, read_metrics,
    write_atomic,
};

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run in this folder, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `run.json`.
    pub fn run_json(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// `evaluation.json`.
    pub fn evaluation(&self) -> PathBuf {
        self.0.join("evaluation.json")
    }

    /// `averaging/`.
    pub fn averaging(&self) -> PathBuf {
        self.0.join("averaging")
    }

    /// `model.safetensors`.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// `checkpoint/`.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint")
    }

    /// `checkpoint/best.safetensors`.
    pub fn best_model(&self) -> PathBuf {
        self.checkpoint().join("best.safetensors")
    }

    /// `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// `probe.json`.
    pub fn probe(&self) -> PathBuf {
        self.0.join("probe.json")
    }

    /// `doctor.json`.
    pub fn doctor(&self) -> PathBuf {
        self.0.join("doctor.json")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// Makes the folder and takes it for this process.
    ///
    /// # Errors
    /// If there is a run in it, or a part of one: nothing is overwritten, and nothing of another
    /// run is taken for this one's. If another process has it, or it cannot be made.
    pub fn create(&self) -> Result<RunLock, Error> {
        self.expect_no_run()?;
        fs::create_dir_all(&self.0).map_err(|error| Error::write(&self.0, &error))?;
        let lock = self.lock()?;
        // Another process may have been quicker, and done.
        self.expect_no_run()?;
        Ok(lock)
    }

    /// # Errors
    /// If there is a run in the folder, or a part of one.
    pub fn expect_no_run(&self) -> Result<(), Error> {
        if self.run_json().exists() {
            return Err(Error::new(
                &self.0,
                "there is a run in this folder already. Choose another with --out, or go on with \
                 this one by --resume",
            ));
        }
        let parts = [
            self.metrics(),
            self.evaluation(),
            self.averaging(),
            self.model(),
            self.checkpoint(),
            self.report(),
        ];
        match parts.iter().find(|part| part.exists()) {
            Some(part) => Err(Error::new(
                part,
                "this is a part of another run, whose run.json is missing. Choose another folder \
                 with --out, or remove it",
            )),
            None => Ok(()),
        }
    }

    /// Writes `run.json`.
    pub fn write_run(&self, run: &Run) -> Result<(), Error> {
        write_json(&self.run_json(), run)
    }

    /// Reads `run.json`.
    pub fn read_run(&self) -> Result<Run, Error> {
        let run: Run = read_json(&self.run_json())?;
        match run.format {
            1 => Ok(run),
            other => Err(Error::new(
                &self.run_json(),
                format!("expected format 1, found {other}. Use the version that wrote it"),
            )),
        }
    }

    /// Reads `metrics.jsonl`; empty if there is none yet.
    pub fn read_metrics(&self) -> Result<Vec<Line>, Error> {
        if self.metrics().exists() {
            read_metrics(&self.metrics())
        } else {
            Ok(Vec::new())
        }
    }

    /// Writes `evaluation.json`.
    pub fn write_evaluation(&self, evaluation: &Evaluation) -> Result<(), Error> {
        write_json(&self.evaluation(), evaluation)
    }

    /// Reads `evaluation.json`; `None` if there is none, as before the end of a run.
    pub fn read_evaluation(&self) -> Result<Option<Evaluation>, Error> {
        read_json_if_there(&self.evaluation())
    }

    /// Writes `probe.json`.
    pub fn write_probe(&self, probe: &Probe) -> Result<(), Error> {
        write_json(&self.probe(), probe)
    }

    /// Reads `probe.json`; `None` if nothing was probed.
    pub fn read_probe(&self) -> Result<Option<Probe>, Error> {
        read_json_if_there(&self.probe())
    }

    /// Writes `doctor.json`.
    pub fn write_diagnosis(&self, diagnosis: &Diagnosis) -> Result<(), Error> {
        write_json(&self.doctor(), diagnosis)
    }

    /// Reads `doctor.json`; `None` if the doctor was not asked.
    pub fn read_diagnosis(&self) -> Result<Option<Diagnosis>, Error> {
        read_json_if_there(&self.doctor())
    }

    /// Writes an average's file, over that of the same average.
    pub fn write_averaging(&self, averaging: &Averaging) -> Result<(), Error> {
        write_json(&self.averaging().join(averaging.file_name()), averaging)
    }

    /// Reads the files of all averages, by name; empty if there are none.
    pub fn read_averaging(&self) -> Result<Vec<Averaging>, Error> {
        let folder = self.averaging();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&folder).map_err(|error| Error::read(&folder, &error))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::read(&folder, &error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| read_json(path)).collect()
    }
}

fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if path.exists() {
        read_json(path).map(Some)
    } else {
        Ok(None)
    }
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new(path, format!("cannot be written as JSON: {error}")))?;
    write_atomic(path, &text)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_slice(&read_limited(path)?)
        .map_err(|error| Error::new(path, format!("is damaged or of another program: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_another_run_are_not_taken_over() {
        for part in [
            "metrics.jsonl",
            "evaluation.json",
            "averaging",
            "model.safetensors",
            "report.html",
            "checkpoint",
        ] {
            let place = tempfile::tempdir().unwrap();
            let folder = RunFolder::new(place.path().join("run"));
            drop(folder.create().unwrap());
            // An empty folder, as a kill before the first file leaves it, is free.
            drop(folder.create().unwrap());
            fs::create_dir(folder.path().join(part)).unwrap();
            let error = folder.create().unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("another run"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_as_such() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunFolder::new(file.join("run")).create().unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("cannot be written") && !error.contains("run's folder"),
            "{error}"
        );
    }
}
