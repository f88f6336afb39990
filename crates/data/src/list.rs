//! Images that a CSV file lists: `list:FILE.csv`.
//!
//! The header names a column `path`, a column `label` and perhaps a column `split`; other columns are left
//! alone. Paths are relative to the file's folder, with `/` between names, and lead to nothing outside it. The
//! classes are the distinct labels: in numeric order if all are whole numbers, else in natural order. Without a
//! column of splits, a fifth of each class is the test data unless `?test=` says otherwise.
//!
//! Errors name the file, the line and the value: columns that are missing, lines of unequal length, paths that
//! are absolute or lead outside, rows without a label. A file that is not there is an image that cannot be read.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;

use super::error::shown;
use super::files::{Listing, Place, Splits, TestChoice, Whole, expect_inside, split_name};
use super::{Error, ImageFiles};

const MOST_BYTES: u64 = 4 << 30;
const TEST_SHARE: &str = "0.2";

pub(super) fn list(source: &ImageFiles) -> Result<Listing, Error> {
    let path = &*source.path;
    let file = File::open(path).map_err(|error| {
        Error::at(
            path,
            format!("{error}. Expected a CSV file with columns path and label"),
        )
    })?;
    let root = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let real = root
        .canonicalize()
        .map_err(|error| Error::at(root, error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(file.take(MOST_BYTES));
    let rows = rows(&mut reader, source, |line, name| {
        expect_plain(name)?;
        match root.join(name).canonicalize() {
            // What is not there is found unreadable later.
            Err(_) => Ok(()),
            Ok(_) => expect_inside(&real, &root.join(name))
                .map_err(|error| format!("line {line}: {error}")),
        }
    });
    let Rows {
        paths,
        splits,
        has_splits,
    } = rows.map_err(|problem| Error::at(path, problem))?;
    if reader.get_ref().limit() == 0 {
        let problem = format!("expected fewer than {MOST_BYTES} bytes; divide the list");
        return Err(Error::at(path, problem));
    }
    let store = Arc::new(Whole {
        root: root.into(),
        paths,
    });
    let test = source.test.as_deref();
    let choice = TestChoice {
        test: test.or((!has_splits).then_some(TEST_SHARE)),
        seed: source.seed,
    };
    splits.divide(path, choice, None, store)
}

struct Rows {
    paths: Vec<Box<Path>>,
    splits: Splits,
    has_splits: bool,
}

/// Reads all rows; `expect` checks each path.
fn rows<R: Read>(
    reader: &mut csv::Reader<R>,
    source: &ImageFiles,
    expect: impl Fn(u64, &str) -> Result<(), String>,
) -> Result<Rows, String> {
    // The library's errors name the line.
    let header = reader.headers().map_err(|error| error.to_string())?;
    let column = |name: &str| {
        let mut columns = header
            .iter()
            .enumerate()
            .filter(|(_, column)| *column == name);
        match (columns.next(), columns.next()) {
            (Some((index, _)), None) => Ok(Some(index)),
            (None, _) => Ok(None),
            _ => Err(format!(
                "line 1: expected each column once, found `{}` twice",
                shown(name)
            )),
        }
    };
    let expected = |name: &str| {
        column(name)?.ok_or_else(|| {
            let found: Vec<&str> = header.iter().collect();
            let found = shown(&found.join(","));
            format!("line 1: expected a header with a column `{name}`, such as path,label,split; found {found}")
        })
    };
    let image = expected(source.image.as_deref().unwrap_or("path"))?;
    let label = expected(source.label.as_deref().unwrap_or("label"))?;
    let split = column("split")?;
    let (mut paths, mut splits) = (Vec::new(), Splits::default());
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| error.to_string())?
    {
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let path = cell(image);
        expect(line, path)
            .map_err(|problem| format!("line {line}: {problem}, found `{}`", shown(path)))?;
        let named = split.map_or("train", cell);
        if named.is_empty() {
            return Err(format!(
                "line {line}, column `split`: expected train, test or val, found none"
            ));
        }
        let place = Place::of_file(paths.len()).map_err(|error| error.to_string())?;
        splits
            .push(split_name(named), place, cell(label))
            .map_err(|problem| format!("line {line}: {problem}"))?;
        paths.push(Path::new(path).into());
    }
    Ok(Rows {
        paths,
        splits,
        has_splits: split.is_some(),
    })
}

/// Checks that a path is relative and goes through folders by their names alone.
fn expect_plain(path: &str) -> Result<(), String> {
    let path = Path::new(path);
    let mut parts = path.components().peekable();
    let plain = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    plain
        .then_some(())
        .ok_or_else(|| "expected a path relative to the list's folder and inside it".into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Layout;

    fn list(text: &str, test: Option<&str>) -> Result<Listing, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let source = ImageFiles {
            test: test.map(String::from),
            ..ImageFiles::new(Layout::List, path)
        };
        super::list(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_become_images() {
        let text =
            "label,path,split,note\ncat,a/1.png,train,x\ndog, a/2.png ,train,\ncat,3.png,dev,\n";
        let listing = list(text, None).unwrap();
        assert_eq!(listing.classes, ["cat", "dog"]);
        let names = |images: &[crate::files::Listed]| -> Vec<(String, u32)> {
            let name =
                |image: &crate::files::Listed| (listing.store.name(image.place), image.label);
            images.iter().map(name).collect()
        };
        assert_eq!(
            names(&listing.train),
            [("a/1.png".into(), 0), ("a/2.png".into(), 1)]
        );
        assert_eq!(names(&listing.test), [("3.png".into(), 0)]);

        let rows: String = (0..40)
            .map(|i| format!("{i}.png,{}\n", 9 + i % 2))
            .collect();
        let listing = list(&format!("path,label\n{rows}"), None).unwrap();
        assert_eq!(listing.classes, ["9", "10"]);
        assert_eq!((listing.train.len(), listing.test.len()), (32, 8));
        let listing = list(&format!("path,label\n{rows}"), Some("0.5")).unwrap();
        assert_eq!(listing.test.len(), 20);
    }

    #[test]
    fn every_defect_is_named() {
        let head = "path,label,split\na,x,train\nb,y,test\n";
        for (text, problem) in [
            ("", "a column `path`"),
            (
                "path,kind\n",
                "line 1: expected a header with a column `label`",
            ),
            ("path,label,label\n", "`label` twice"),
            (&format!("{head}c,x\n"), "line: 4"),
            (&format!("{head}c,,train\n"), "line 4: expected a label"),
            (&format!("{head}c,x,\n"), "line 4, column `split`"),
            (
                &format!("{head},x,train\n"),
                "line 4: expected a path relative",
            ),
            (&format!("{head}../c,x,train\n"), "found `../c`"),
            (&format!("{head}a/../../c,x,train\n"), "found `a/../../c`"),
            (
                &format!("{head}/etc/passwd,x,train\n"),
                "found `/etc/passwd`",
            ),
            #[cfg(unix)]
            (
                &format!("{head}link/passwd,x,train\n"),
                "leads out of the folder",
            ),
            (
                "path,label,split\na,x,train\nb,x,test\n",
                "2 to 65536 classes, found 1",
            ),
        ] {
            let error = list(text, None).unwrap_err();
            assert!(
                error.contains("list.csv") && error.contains(problem),
                "{error}"
            );
        }
    }
}
