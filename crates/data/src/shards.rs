//! The files that a data set in several files consists of, and the split of each.
//!
//! All files of one ending below a folder are shards, in natural order; names that begin with a dot are no
//! data. The split is the word `train`, `test`, `val` or another of their kind (`training`, `eval`,
//! `validation`, …) in a file's name, or in the name of the nearest folder that has one:
//! `train-00000-of-00005.tar`, `validation/0.parquet`. Where no name has one, all are training data.
//!
//! Links that lead out of the folder are refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::files::{expect_inside, split_name};
use super::natural::natural;

const MOST_DEPTH: usize = 8;
const MOST_SHARDS: usize = 1 << 20;
const SPLITS: [&str; 3] = ["train", "test", "val"];

/// A file of a data set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Inside the folder.
    pub path: Box<Path>,
    /// `train`, `test` or `val`.
    pub split: &'static str,
}

/// The folder of a source that is one or a single shard, and its shards.
pub(super) fn find(source: &Path, ending: &str) -> Result<(Box<Path>, Vec<Shard>), Error> {
    let kind = fs::metadata(source).map_err(|error| {
        Error::at(
            source,
            format!("{error}. Expected a folder with .{ending} files"),
        )
    })?;
    if kind.is_file() {
        let name = source.file_name().unwrap_or_default();
        let shard = Shard {
            path: Path::new(name).into(),
            split: "train",
        };
        return Ok((source.parent().unwrap_or(Path::new("")).into(), vec![shard]));
    }
    let search = Search {
        root: source,
        real: source
            .canonicalize()
            .map_err(|error| Error::at(source, error.to_string()))?,
        ending,
    };
    let mut paths = Vec::new();
    search.below(Path::new(""), 0, &mut paths)?;
    if paths.is_empty() {
        return Err(Error::at(
            source,
            format!("expected .{ending} files, found none"),
        ));
    }
    let mut splits = Vec::new();
    for path in &paths {
        splits.push(split_of(path).map_err(|problem| Error::at(&source.join(path), problem))?);
    }
    let none = splits.iter().all(Option::is_none);
    let shard = |(path, split): (PathBuf, Option<&'static str>)| match split {
        None if !none => Err(Error::at(
            &source.join(path),
            "expected a name with train, test or val in it, as others have here",
        )),
        split => Ok(Shard {
            path: path.into(),
            split: split.unwrap_or("train"),
        }),
    };
    let shards: Result<_, _> = paths.into_iter().zip(splits).map(shard).collect();
    Ok((source.into(), shards?))
}

struct Search<'a> {
    root: &'a Path,
    /// Where it really is.
    real: PathBuf,
    ending: &'a str,
}

impl Search<'_> {
    fn below(&self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
        let place = self.root.join(folder);
        if depth == MOST_DEPTH {
            return Err(Error::at(
                &place,
                format!("expected folders {MOST_DEPTH} deep at most"),
            ));
        }
        let unreadable = |error: std::io::Error| Error::at(&place, error.to_string());
        let mut names = Vec::new();
        for entry in fs::read_dir(&place).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let in_unicode = |name| {
                let problem = "expected a name in Unicode, which run.json can hold";
                Error::at(&place.join(name), problem)
            };
            names.push(name.into_string().map_err(in_unicode)?);
        }
        names.sort_by(|a, b| natural(a, b));
        for name in names {
            let path = folder.join(&name);
            let whole = self.root.join(&path);
            let is_shard = path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case(self.ending));
            let kind = fs::symlink_metadata(&whole);
            let mut kind = kind
                .map_err(|error| Error::at(&whole, error.to_string()))?
                .file_type();
            if kind.is_symlink() {
                if !is_shard && !whole.is_dir() {
                    continue;
                }
                expect_inside(&self.real, &whole)?;
                let target = fs::metadata(&whole);
                kind = target
                    .map_err(|error| Error::at(&whole, error.to_string()))?
                    .file_type();
            }
            if kind.is_dir() {
                self.below(&path, depth + 1, found)?;
            } else if is_shard {
                if found.len() == MOST_SHARDS {
                    let problem = format!("expected at most {MOST_SHARDS} .{} files", self.ending);
                    return Err(Error::at(self.root, problem));
                }
                found.push(path);
            }
        }
        Ok(())
    }
}

/// The split that a path inside the source names, nearest to the file.
fn split_of(path: &Path) -> Result<Option<&'static str>, String> {
    for part in path.iter().rev() {
        let part = part.to_string_lossy();
        let words = part.split(|c: char| !c.is_ascii_alphabetic());
        let known = |word| SPLITS.into_iter().find(|split| *split == split_name(word));
        let mut splits = words.filter_map(known);
        if let Some(split) = splits.next() {
            return match splits.find(|other| *other != split) {
                None => Ok(Some(split)),
                Some(other) => Err(format!(
                    "expected one split in a name, found {split} and {other}"
                )),
            };
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn find(folder: &Path) -> Result<Vec<(String, &'static str)>, String> {
        let (_, shards) = super::find(folder, "tar").map_err(|error| error.to_string())?;
        let name = |shard: Shard| (shard.path.display().to_string(), shard.split);
        Ok(shards.into_iter().map(name).collect())
    }

    #[test]
    fn names_tell_the_split() {
        let folder = tree(&[
            "README.md",
            ".cache/train-9.tar",
            "data/set1k-train-10.tar",
            "data/set1k-train-9.tar",
            "data/set1k_Validation_0.TAR",
            "data/test/0.tar",
            "data/test/train.txt",
        ]);
        assert_eq!(
            find(folder.path()).unwrap(),
            [
                ("data/set1k-train-9.tar".into(), "train"),
                ("data/set1k-train-10.tar".into(), "train"),
                ("data/set1k_Validation_0.TAR".into(), "val"),
                ("data/test/0.tar".into(), "test"),
            ]
        );
        let folder = tree(&["b.tar", "a.tar"]);
        assert_eq!(
            find(folder.path()).unwrap(),
            [("a.tar".into(), "train"), ("b.tar".into(), "train")]
        );
        let one = find(&folder.path().join("b.tar")).unwrap();
        assert_eq!(one, [("b.tar".into(), "train")]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let deep = "a/".repeat(MOST_DEPTH) + "x.tar";
        for (files, problem) in [
            (&["a.txt"][..], "expected .tar files, found none"),
            (
                &["train.tar", "more.tar"],
                "more.tar: expected a name with train, test or val",
            ),
            (&["train-test.tar"], "found train and test"),
            (&[&deep], "8 deep at most"),
        ] {
            let folder = tree(files);
            let error = find(folder.path()).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert!(
            find(Path::new("nowhere"))
                .unwrap_err()
                .contains("Expected a folder with .tar")
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside() {
        use std::os::unix::fs::symlink;
        let outside = tree(&["secret.tar"]);
        let folder = tree(&["train.tar"]);
        symlink(
            outside.path().join("secret.tar"),
            folder.path().join("test.tar"),
        )
        .unwrap();
        let error = find(folder.path()).unwrap_err();
        assert!(
            error.contains("test.tar: leads out of the folder"),
            "{error}"
        );
        fs::remove_file(folder.path().join("test.tar")).unwrap();
        symlink("train.tar", folder.path().join("test.tar")).unwrap();
        assert_eq!(find(folder.path()).unwrap().len(), 2);
        symlink(".", folder.path().join("round")).unwrap();
        assert!(find(folder.path()).unwrap_err().contains("deep at most"));
    }
}
