//! One process at a time trains a run.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;

use crate::{Error, RunFolder};

/// Held by the process that trains a run; the system releases it when the process ends, however it
/// ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunFolder {
    /// Takes the run for this process.
    ///
    /// # Errors
    /// If another process has it, or the folder cannot be written to.
    pub fn lock(&self) -> Result<RunLock, Error> {
        let path = self.path().join(".lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Error::write(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    self.path(),
                    "another process is training this run. Wait for it to end, or end it",
                ));
            }
            // Some network file systems have no locks: a run there is trained without.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::write(&path, &error)),
        }
        Ok(RunLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(place.path());
        let held = folder.lock().unwrap();
        let error = folder.lock().unwrap_err().to_string();
        assert!(
            error.contains("another process is training this run"),
            "{error}"
        );
        drop(held);
        folder.lock().unwrap();
    }
}
