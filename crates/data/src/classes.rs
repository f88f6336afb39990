//! Files of class names, one a line: label i is the name in line i. Blank lines are skipped.
//!
//! Errors: text that is not UTF-8, a name twice, fewer than 2 names or more than the labels can
//! tell.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::Error;

/// Classes that labels of one byte can tell.
pub(super) const BYTE_LABELS: usize = 256;
const MOST_BYTES: u64 = 1 << 20;

/// The names, at most `most`, or none where there is no such file.
pub(super) fn read(path: &Path, most: usize) -> Result<Option<Vec<String>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| Error::at(path, error.to_string()))?,
    };
    let mut text = String::new();
    file.take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::at(path, format!("expected class names as UTF-8: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        let problem = format!("expected class names of at most {MOST_BYTES} bytes, found more");
        return Err(Error::at(path, problem));
    }
    let (mut names, mut known): (Vec<String>, HashSet<String>) = Default::default();
    for (number, line) in (1..).zip(text.lines()) {
        let name = line.trim();
        if name.is_empty() {
            continue;
        }
        if !known.insert(name.to_owned()) {
            return Err(Error::at(
                path,
                format!("line {number}: expected each class once, found `{name}` again"),
            ));
        }
        if names.len() == most {
            return Err(Error::at(
                path,
                format!("line {number}: expected at most {most} classes, found more"),
            ));
        }
        names.push(name.into());
    }
    if names.len() < 2 {
        return Err(Error::at(
            path,
            format!(
                "expected at least two class names, one a line, found {}; complete or remove the file",
                names.len()
            ),
        ));
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_and_defects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.txt");
        assert_eq!(read(&path, 256).unwrap(), None);
        fs::write(&path, " a\r\n\nb c\n\n").unwrap();
        assert_eq!(read(&path, 256).unwrap().unwrap(), ["a", "b c"]);
        let many: String = (0..=256).map(|i| format!("{i}\n")).collect();
        for (bytes, problem) in [
            (&b""[..], "at least two class names, one a line, found 0"),
            (b"a\n", "found 1"),
            (
                b"a\n\nb\na\n",
                "line 4: expected each class once, found `a` again",
            ),
            (many.as_bytes(), "line 257: expected at most 256 classes"),
            (b"a\n\xff\n", "UTF-8"),
            (&vec![b'a'; 2 << 20], "at most 1048576 bytes"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read(&path, 256).unwrap_err().to_string();
            assert!(
                error.contains("classes.txt") && error.contains(problem),
                "{error}"
            );
        }
    }
}
