//! Files that are written whole or not at all, and read up to a limit.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::Error;

/// The most that is read from any file of a run.
const MOST_BYTES: u64 = 1 << 30;

/// Writes a file so that it is there whole or as it was before, whenever the process or the
/// machine stops: a temporary file beside it, synced, renamed over it, and the folder synced.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".draft-")
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(|error| Error::write(path, &error))
}

/// Reads a file of at most 1 GiB.
pub fn read_limited(path: &Path) -> Result<Vec<u8>, Error> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Error::read(path, &error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::new(
            path,
            "expected at most 1 GiB; this is not a file of a run",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_no_drafts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner/file");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_limited(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        assert!(
            write_atomic(&path, b"new")
                .unwrap_err()
                .to_string()
                .contains("taken")
        );
        assert!(path.join("by a folder").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_limited(Path::new("no/such/run.json"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no/such/run.json") && error.contains("run's folder"),
            "{error}"
        );
    }
}
