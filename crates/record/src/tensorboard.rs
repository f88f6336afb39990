//! Metrics as TensorBoard reads them: event files of scalars.
//!
//! A file is records: the length of the data (u64, little endian), its masked CRC-32C, the data, their masked
//! CRC-32C. The data are protocol buffers of type `Event`, of which these fields are written:
//! `wall_time = 1` (double), `step = 2` (int64), `file_version = 3` (string), `summary = 5`
//! (`Summary { value = 1: Value { tag = 1, simple_value = 2 (float) } }`) and `session_log = 7`
//! (`SessionLog { status = 1 }`). The crates for it that there are have not been kept up for years.
//!
//! Source: TensorFlow, `core/lib/io/record_writer.h` and `core/util/event.proto`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Line};

/// The events of one process's work on a run.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`, after `step` completed steps: TensorBoard drops what it read of later steps,
    /// which come again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| Error::write(folder, &error))?;
        let now = now();
        let name = format!(
            "events.out.tfevents.{:010}.evenkeel.{}",
            now as u64,
            std::process::id()
        );
        let path = folder.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| Error::write(&path, &error))?;
        let mut events = Self { path, file };
        events.write(&version(now))?;
        if step > 0 {
            events.write(&session_start(now, step))?;
        }
        Ok(events)
    }

    /// Adds the scalars of one line, whole.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<(), Error> {
        self.write(&summary(now(), line.step(), &scalars(line)))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(&record(event));
        written.map_err(|error| Error::write(&self.path, &error))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The names under which TensorBoard shows a line's numbers.
fn scalars(line: &Line) -> Vec<(&'static str, f64)> {
    match *line {
        Line::Step {
            loss,
            learning_rate,
            gradient_norm,
            ..
        } => {
            let norm = gradient_norm.map(|norm| ("gradient_norm", norm));
            let all = [("loss/step", loss), ("learning_rate", learning_rate)];
            all.into_iter().chain(norm).collect()
        }
        Line::Epoch {
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy,
            images_per_s,
            ..
        } => vec![
            ("loss/train", train_loss),
            ("loss/test", test_loss),
            ("accuracy/train", train_accuracy),
            ("accuracy/test", test_accuracy),
            ("images_per_s", images_per_s),
        ],
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked(data).to_le_bytes());
    bytes
}

/// A checksum that is safe to be checksummed again.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn version(wall_time: f64) -> Vec<u8> {
    let mut event = time(wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

fn session_start(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = time(wall_time);
    number(&mut event, 2, step);
    let mut log = Vec::new();
    number(&mut log, 1, 1);
    bytes(&mut event, 7, &log);
    event
}

fn summary(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, scalar) in scalars {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        // A tag is the field's number, and 5 for four bytes.
        varint(&mut value, 2 << 3 | 5);
        value.extend((*scalar as f32).to_le_bytes());
        bytes(&mut values, 1, &value);
    }
    let mut event = time(wall_time);
    number(&mut event, 2, step);
    bytes(&mut event, 5, &values);
    event
}

/// The first field of an event: eight bytes, which is 1.
fn time(wall_time: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    event
}

/// A whole number, which is 0.
fn number(to: &mut Vec<u8>, field: u64, value: u64) {
    varint(to, field << 3);
    varint(to, value);
}

/// Bytes of a length, which is 2.
fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, value.len() as u64);
    to.extend(value);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        to.push(value as u8 | 128);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same events written by TensorBoard itself (`reference/make_events.py`).
    #[test]
    fn the_same_bytes_as_tensorboards() {
        let step = Line::Step {
            epoch: 1,
            step: 300,
            loss: 0.75,
            learning_rate: 0.1,
            gradient_norm: Some(2.5),
        };
        let epoch = Line::Epoch {
            epoch: 1,
            step: 301,
            train_loss: 0.5,
            train_accuracy: 0.875,
            test_loss: 0.625,
            test_accuracy: 0.8,
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_s: 123_456.0,
        };
        let events = [
            version(1.5),
            session_start(2.5, 200),
            summary(3.5, step.step(), &scalars(&step)),
            summary(4.5, epoch.step(), &scalars(&epoch)),
        ];
        let found: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
        let expected = include_bytes!("../../../reference/fixtures/events.tfevents");
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_begins_with_its_version_and_grows_by_lines() {
        let place = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(&place.path().join("inner"), 7).unwrap();
        let before = fs::read(&events.path).unwrap();
        // The data begin after a length of eight bytes and its checksum of four.
        assert!(
            before[12..]
                .windows(13)
                .any(|part| part == b"brain.Event:2")
        );
        let line = Line::Step {
            epoch: 1,
            step: 8,
            loss: f64::NAN,
            learning_rate: 0.1,
            gradient_norm: None,
        };
        events.append(&line).unwrap();
        let after = fs::read(&events.path).unwrap();
        assert!(after.starts_with(&before) && after.len() > before.len());
        assert!(
            after[before.len()..]
                .windows(9)
                .any(|part| part == b"loss/step")
        );
    }
}
