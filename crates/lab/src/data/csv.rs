//! Tables of numbers with a header and a column of labels.

use std::collections::BTreeSet;
use std::path::Path;

use super::Error;
use super::dataset::{Dataset, Kind, Split, Table, stratified};

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
    } = read(path, label)?;
    let classes = classes(&labels);
    if classes.len() < 2 {
        let problem = format!("column `{label}`: expected at least two classes, found {classes:?}");
        return Err(Error::at(path, problem));
    }
    if classes.len() > MOST_CLASSES {
        let problem = format!(
            "column `{label}`: expected at most {MOST_CLASSES} classes, found \
                               {}. Is it a number to predict?",
            classes.len()
        );
        return Err(Error::at(path, problem));
    }
    let index = |label: &String| classes.iter().position(|class| class == label);
    let labels: Vec<u32> = labels
        .iter()
        .filter_map(index)
        .map(|class| class as u32)
        .collect();
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
    })
}

struct Raw {
    columns: Vec<String>,
    values: Vec<f32>,
    labels: Vec<String>,
}

fn read(path: &Path, label: &str) -> Result<Raw, Error> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| Error::at(path, error.to_string()))?;
    let header = reader
        .headers()
        .map_err(|error| Error::at(path, error.to_string()))?
        .clone();
    if header.len() > MOST_COLUMNS {
        let problem = format!(
            "expected at most {MOST_COLUMNS} columns, found {}",
            header.len()
        );
        return Err(Error::at(path, problem));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = header.iter().find(|name| !seen.insert(*name)) {
        return Err(Error::at(
            path,
            format!("line 1: expected each column once, found `{twice}` twice"),
        ));
    }
    let Some(labelled) = header.iter().position(|name| name == label) else {
        let nearest = header.iter().max_by(|a, b| {
            strsim::jaro_winkler(a, label).total_cmp(&strsim::jaro_winkler(b, label))
        });
        return Err(Error::at(
            path,
            format!(
                "line 1: expected a column `{label}`, found none; did you mean `{}`?",
                nearest.unwrap_or_default()
            ),
        ));
    };
    let columns: Vec<String> = header
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != labelled)
        .map(|(_, name)| name.into())
        .collect();
    if columns.is_empty() {
        return Err(Error::at(
            path,
            "line 1: expected columns of numbers beside the label, found none",
        ));
    }
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for record in reader.records() {
        // The library's errors name the line.
        let record = record.map_err(|error| Error::at(path, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        if labels.len() == MOST_ROWS {
            return Err(Error::at(
                path,
                format!("line {line}: expected at most {MOST_ROWS} rows"),
            ));
        }
        for (i, cell) in record.iter().enumerate() {
            if i == labelled {
                labels.push(cell.to_owned());
                continue;
            }
            match cell.parse::<f32>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => {
                    return Err(Error::at(
                        path,
                        format!(
                            "line {line}, column `{}`: expected a finite number, found `{cell}`",
                            &header[i]
                        ),
                    ));
                }
            }
        }
    }
    if labels.is_empty() {
        return Err(Error::at(
            path,
            "expected rows after the header, found none",
        ));
    }
    Ok(Raw {
        columns,
        values,
        labels,
    })
}

/// The distinct labels: in numeric order if all are whole numbers, else in alphabetic order.
fn classes(labels: &[String]) -> Vec<String> {
    let distinct: BTreeSet<&String> = labels.iter().collect();
    let mut classes: Vec<String> = distinct.into_iter().cloned().collect();
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
        ] {
            let error = open(text).unwrap_err().to_string();
            assert!(
                error.contains("table.csv") && error.contains(problem),
                "{error}"
            );
        }
    }
}
