//! Tables of numbers with a header and a column of labels.
//!
//! Each other column is a feature. The classes are the distinct labels: in numeric order if all are
//! whole numbers, else in alphabetic order. The test rows are a share of each class, a function of
//! the seed.
//!
//! Errors name the file, the line, the column and the value: a column twice or none of that name,
//! lines of unequal length, cells that are no finite numbers, rows without a label, fewer than two
//! classes, more than the limits below.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Error;
use super::dataset::{Dataset, Kind, Split, Table, stratified};
use super::error::shown;

/// A number takes at least two bytes of text, so this bounds the numbers to 8 GiB.
const MOST_BYTES: u64 = 4 << 30;
const MOST_ROWS: usize = 100_000_000;
const MOST_COLUMNS: usize = 65_536;
const MOST_CLASSES: usize = 65_536;

pub(super) fn file(
    path: &Path,
    label: &str,
    test: f64,
    seed: u64,
    name: String,
) -> Result<Dataset, Error> {
    let Raw {
        columns,
        values,
        labels,
        classes,
    } = read(path, label, MOST_BYTES)?;
    if classes.len() < 2 {
        let problem = format!("column `{label}`: expected at least two classes, found {classes:?}");
        return Err(Error::at(path, problem));
    }
    let (tested, trained) = stratified(&labels, test, seed);
    if tested.is_empty() {
        return Err(Error::at(
            path,
            format!("test={test} leaves no rows to test on; use a larger share"),
        ));
    }
    let width = columns.len();
    let all = Split::Table(Table {
        columns: width,
        values: values.into(),
        labels: labels.into(),
    });
    Ok(Dataset {
        name,
        classes,
        kind: Kind::Table { columns },
        train: all.subset(&trained),
        test: all.subset(&tested),
        held_out: false,
        unreadable: Vec::new(),
    })
}

struct Raw {
    columns: Vec<String>,
    values: Vec<f32>,
    /// Indices of classes.
    labels: Vec<u32>,
    classes: Vec<String>,
}

type Reader = csv::Reader<std::io::Take<File>>;

fn read(path: &Path, label: &str, most_bytes: u64) -> Result<Raw, Error> {
    let file = File::open(path).map_err(|error| {
        Error::at(
            path,
            format!("{error}. Expected a file of comma-separated numbers"),
        )
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(file.take(most_bytes + 1));
    let raw = header(&mut reader, label)
        .and_then(|header| rows(&mut reader, header))
        .map_err(|problem| Error::at(path, problem));
    // First, as a file that is cut off has other defects too.
    if reader.get_ref().limit() == 0 {
        return Err(Error::at(
            path,
            format!("expected at most {most_bytes} bytes, found more; use a part of the rows"),
        ));
    }
    raw
}

struct Header {
    names: Vec<String>,
    /// The position of the column of labels.
    label: usize,
}

fn header(reader: &mut Reader, label: &str) -> Result<Header, String> {
    // The library's errors name the line.
    let header = reader.headers().map_err(|error| error.to_string())?;
    if header.is_empty() {
        return Err(format!(
            "expected a header with a column `{label}` and rows of numbers, found an empty file"
        ));
    }
    if header.len() > MOST_COLUMNS {
        return Err(format!(
            "line 1: expected at most {MOST_COLUMNS} columns, found {}",
            header.len()
        ));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = header.iter().find(|name| !seen.insert(*name)) {
        return Err(format!(
            "line 1: expected each column once, found `{}` twice; rename one",
            shown(twice)
        ));
    }
    let Some(position) = header.iter().position(|name| name == label) else {
        let nearest = header.iter().max_by(|a, b| {
            strsim::jaro_winkler(a, label).total_cmp(&strsim::jaro_winkler(b, label))
        });
        return Err(format!(
            "line 1: expected a column `{label}`, found none; did you mean `{}`?",
            shown(nearest.unwrap_or_default())
        ));
    };
    if header.len() == 1 {
        return Err("line 1: expected columns of numbers beside the label, found none".into());
    }
    Ok(Header {
        names: header.iter().map(String::from).collect(),
        label: position,
    })
}

fn rows(reader: &mut Reader, header: Header) -> Result<Raw, String> {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| error.to_string())?
    {
        let line = record.position().map_or(0, csv::Position::line);
        if labels.len() == MOST_ROWS {
            return Err(format!("line {line}: expected at most {MOST_ROWS} rows"));
        }
        for (i, cell) in record.iter().enumerate() {
            let column = &header.names[i];
            if i != header.label {
                values.push(number(cell).ok_or_else(|| {
                    format!(
                        "line {line}, column `{column}`: expected a finite number, found `{}`; \
                         remove the row or the column, or put a number",
                        shown(cell)
                    )
                })?);
                continue;
            }
            if cell.is_empty() {
                return Err(format!(
                    "line {line}, column `{column}`: expected a label, found none; remove the row"
                ));
            }
            // The classes are numbered as they come, and sorted when all are known.
            let label = match known.get(cell) {
                Some(&label) => label,
                None if known.len() == MOST_CLASSES => {
                    return Err(format!(
                        "line {line}, column `{column}`: expected at most {MOST_CLASSES} classes, \
                         found more. Is it a number to predict?"
                    ));
                }
                None => {
                    let label = known.len() as u32;
                    known.insert(cell.to_owned(), label);
                    label
                }
            };
            labels.push(label);
        }
    }
    if labels.is_empty() {
        return Err("expected rows after the header, found none".into());
    }
    let classes = sorted(known.keys().cloned().collect());
    let mut renamed = vec![0; classes.len()];
    for (class, name) in (0..).zip(&classes) {
        renamed[known[name] as usize] = class;
    }
    for label in &mut labels {
        *label = renamed[*label as usize];
    }
    let mut columns = header.names;
    columns.remove(header.label);
    Ok(Raw {
        columns,
        values,
        labels,
        classes,
    })
}

fn number(cell: &str) -> Option<f32> {
    cell.parse().ok().filter(|value: &f32| value.is_finite())
}

/// In numeric order if all are whole numbers, else in alphabetic order, in which they come.
fn sorted(mut classes: Vec<String>) -> Vec<String> {
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(text: &str) -> Result<Dataset, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        fs::write(&path, text).unwrap();
        file(&path, "kind", 0.25, 1, "csv:table".into())
    }

    #[test]
    fn reads_rows_and_sorts_classes() {
        let rows: String = (0..80)
            .map(|i| format!("{},{},{}\n", i, 5, i % 2 * 10 + 1))
            .collect();
        let data = open(&format!("x, constant ,kind\n{rows}")).unwrap();
        assert_eq!(data.classes, ["1", "11"]);
        assert_eq!((data.train.len(), data.test.len()), (60, 20));
        let Split::Table(table) = &data.train else {
            panic!()
        };
        for (row, label) in table.values.chunks_exact(2).zip(table.labels.iter()) {
            assert_eq!((row[1], row[0] as u32 % 2), (5.0, *label));
        }
    }

    #[test]
    fn every_defect_is_named() {
        let many_columns: String = (0..MOST_COLUMNS).map(|i| format!("{i},")).collect();
        let many_columns = many_columns + "kind\n";
        let many_classes: String = (0..=MOST_CLASSES).map(|i| format!("0,{i}\n")).collect();
        let many_classes = "x,kind\n".to_owned() + &many_classes;
        for (text, problem) in [
            (
                "x,kind\n1,a\noops,b\n",
                "line 3, column `x`: expected a finite number, found `oops`",
            ),
            ("x,kind\n1,a\ninf,b\n", "found `inf`"),
            ("x,kin\n1,a\n", "did you mean `kin`"),
            ("x,x,kind\n1,2,a\n", "`x` twice"),
            ("x,kind\n", "found none"),
            ("x,kind\n1,a\n2,a\n", "at least two classes"),
            ("kind\na\nb\n", "beside the label"),
            ("x,kind\n1,a\n2\n", "line: 3"),
            ("", "found an empty file"),
            (
                "x,kind\n1,a\n,b\n",
                "line 3, column `x`: expected a finite number, found ``",
            ),
            ("x,kind\n1e39,a\n", "found `1e39`"),
            ("x,kind\nNaN,a\n", "found `NaN`"),
            (
                "x,kind\n1,a\n2,\n",
                "line 3, column `kind`: expected a label, found none",
            ),
            ("x,kind\n1,a\n2,b\n", "test=0.25 leaves no rows"),
            (
                &format!("x,kind\n{},a\n", "y".repeat(99)),
                &format!("found `{}…`", "y".repeat(40)),
            ),
            (&many_columns, "at most 65536 columns, found 65537"),
            (
                &many_classes,
                "line 65538, column `kind`: expected at most 65536 classes",
            ),
        ] {
            let error = open(text).unwrap_err().to_string();
            assert!(
                error.contains("table.csv") && error.contains(problem),
                "{error}"
            );
        }
    }

    #[test]
    fn text_that_is_not_utf8_and_files_too_large_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let read = |most| read(&path, "kind", most).map(|raw| raw.labels);
        assert!(read(9).unwrap_err().to_string().contains("table.csv"));
        fs::write(&path, "x,kind\n1,a\n2,b\n").unwrap();
        assert_eq!(read(15).unwrap(), [0, 1]);
        for most in 0..15 {
            let error = read(most).unwrap_err().to_string();
            let expected = format!("expected at most {most} bytes, found more");
            assert!(error.contains(&expected), "{error}");
        }
        fs::write(&path, b"x,kind\n1,a\n2,\xff\n").unwrap();
        let error = read(99).unwrap_err().to_string();
        assert!(
            error.contains("line 3") && error.contains("UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn classes_are_numbers_in_order_or_words_in_order() {
        for (labels, classes) in [
            (["10", "9", "-1"], ["-1", "9", "10"]),
            (["10", "9", "b"], ["10", "9", "b"]),
        ] {
            let rows: String = (0..30)
                .map(|i| format!("{i},{}\n", labels[i % 3]))
                .collect();
            let data = open(&format!("\u{feff}x,kind\n{rows}")).unwrap();
            assert_eq!(data.classes, classes);
            let Split::Table(table) = &data.test else {
                panic!()
            };
            for (value, label) in table.values.iter().zip(table.labels.iter()) {
                assert_eq!(classes[*label as usize], labels[*value as usize % 3]);
            }
        }
    }
}
