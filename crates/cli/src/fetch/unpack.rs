//! Gzipped tar archives: files and folders alone, inside the folder, up to a limit.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

const MOST_BYTES: u64 = 8 << 30;
const MOST_FILES: usize = 1_000_000;

pub fn is_archive(name: &str) -> bool {
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// Unpacks an archive of one folder, `unpacked`, which is there whole or not at all.
pub fn unpack(archive: &Path, folder: &Path, unpacked: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let draft = folder.join(".unpacking");
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(said)?;
    }
    let file = BufReader::new(File::open(archive).map_err(said)?);
    let result = unpack_into(MultiGzDecoder::new(file), &draft, MOST_BYTES).and_then(|()| {
        let name = unpacked.file_name().unwrap_or_default();
        let inner = draft.join(name);
        if !inner.is_dir() {
            return Err(format!(
                "expected a folder {} in it, found none",
                name.display()
            ));
        }
        fs::rename(inner, unpacked).map_err(said)
    });
    let _ = fs::remove_dir_all(&draft);
    result
}

fn unpack_into(reader: impl Read, folder: &Path, most_bytes: u64) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    // The limit holds for headers too, and for what they claim.
    let mut archive = Archive::new(reader.take(most_bytes));
    for (count, member) in archive.entries().map_err(said)?.enumerate() {
        let mut member = member.map_err(said)?;
        if count == MOST_FILES {
            return Err(format!("expected at most {MOST_FILES} files"));
        }
        let name = member.path().map_err(said)?.into_owned();
        let place = |problem: String| format!("{}: {problem}", name.display());
        let path = folder.join(inside(&name).map_err(place)?);
        match member.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(path).map_err(said)?,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(said)?;
                }
                let size = member.size();
                let mut file = File::create_new(&path).map_err(|error| place(error.to_string()))?;
                let copied = std::io::copy(&mut member, &mut file)
                    .map_err(|error| place(error.to_string()))?;
                if copied != size {
                    return Err(place(format!(
                        "cut off: expected {size} bytes, found {copied}"
                    )));
                }
            }
            EntryType::XGlobalHeader => {}
            kind => return Err(place(format!("expected files and folders, found {kind:?}"))),
        }
    }
    // To the end, where the checksum of the compression is.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(said)?;
    Ok(())
}

/// The path, if it goes through folders by their names alone.
fn inside(name: &Path) -> Result<PathBuf, String> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err("expected a path inside the archive's folder".into()),
        }
    }
    Ok(path)
}
