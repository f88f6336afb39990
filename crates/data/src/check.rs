//! What `evenkeel data check` tells of a source.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::{Dataset, Error, FilesReport, Images, Kind, Source, Split, files, preparation};

/// Counts, statistics and oddities of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The source by name.
    #[serde(rename = "source")]
    pub name: String,
    /// The shape of an example.
    pub shape: Vec<usize>,
    /// The classes.
    pub classes: Vec<ClassCount>,
    /// The channels of images (0..1) or the columns of a table, with statistics as training uses them: the
    /// deviation is 1 where all values are equal.
    pub values: Vec<Statistics>,
    /// Training examples that are equal to an earlier one.
    pub duplicates: usize,
    /// Test examples that are in the training data too.
    pub leaked: usize,
    /// Examples of both kinds whose equal has another class.
    pub mislabelled: usize,
    /// Images of one value throughout.
    pub constant_images: usize,
    /// Columns of a table that have one value throughout the training data.
    pub constant_columns: Vec<String>,
}

/// A class and how many examples it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// In the training data.
    pub train: usize,
    /// In the test data.
    pub test: usize,
}

/// A channel or a column, with statistics of its training values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Its name.
    pub name: String,
    /// The mean.
    pub mean: f64,
    /// The deviation.
    pub deviation: f64,
}

/// What was found in a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Checked {
    /// Of examples in memory.
    Memory(Report),
    /// Of images in files.
    Files(FilesReport),
}

/// Reads a source and looks for what would spoil a training.
pub fn check(source: &Source) -> Result<Checked, Error> {
    match source {
        Source::Files(files) => files::report(files).map(Checked::Files),
        _ => Ok(Checked::Memory(report(&Dataset::open(source)?))),
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(report) => report.fmt(f),
            Self::Files(report) => report.fmt(f),
        }
    }
}

fn report(data: &Dataset) -> Report {
    let (train, test) = (rows(&data.train), rows(&data.test));
    // The class of the first example of this content.
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut mislabelled = 0;
    for (row, &label) in train.iter().zip(data.train.labels()) {
        mislabelled += usize::from(*seen.entry(row).or_insert(label) != label);
    }
    for (row, label) in test.iter().zip(data.test.labels()) {
        mislabelled += usize::from(seen.get(&**row).is_some_and(|first| first != label));
    }
    Report {
        name: data.name.clone(),
        shape: data.kind.shape(),
        classes: classes(data),
        values: values(data),
        duplicates: train.len() - seen.len(),
        leaked: test.iter().filter(|row| seen.contains_key(&***row)).count(),
        mislabelled,
        constant_images: match data.kind {
            Kind::Images { .. } => {
                let constant = |row: &&Cow<[u8]>| row.iter().all(|byte| *byte == row[0]);
                train.iter().chain(&test).filter(constant).count()
            }
            Kind::Table { .. } => 0,
        },
        constant_columns: constant_columns(data),
    }
}

fn classes(data: &Dataset) -> Vec<ClassCount> {
    count_classes(
        &data.classes,
        data.train.labels().iter(),
        data.test.labels().iter(),
    )
}

/// Counts labels, indices of the names.
pub(super) fn count_classes<'a>(
    names: &[String],
    train: impl Iterator<Item = &'a u32>,
    test: impl Iterator<Item = &'a u32>,
) -> Vec<ClassCount> {
    let class = |name: &String| ClassCount {
        name: name.clone(),
        train: 0,
        test: 0,
    };
    let mut classes: Vec<_> = names.iter().map(class).collect();
    train.for_each(|&label| classes[label as usize].train += 1);
    test.for_each(|&label| classes[label as usize].test += 1);
    classes
}

fn values(data: &Dataset) -> Vec<Statistics> {
    let names = match &data.kind {
        Kind::Images { channels: 3, .. } => ["red", "green", "blue"].map(String::from).to_vec(),
        Kind::Images { .. } => vec!["gray".into()],
        Kind::Table { columns } => columns.clone(),
    };
    let statistics = preparation(data);
    let statistics = statistics.mean.into_iter().zip(statistics.deviation);
    let values = names.into_iter().zip(statistics);
    values
        .map(|(name, (mean, deviation))| Statistics {
            name,
            mean: mean.into(),
            deviation: deviation.into(),
        })
        .collect()
}

fn constant_columns(data: &Dataset) -> Vec<String> {
    let (Kind::Table { columns }, Split::Table(table)) = (&data.kind, &data.train) else {
        return Vec::new();
    };
    let mut rows = table.values.chunks_exact(table.columns);
    let Some(first) = rows.next() else {
        return Vec::new();
    };
    let mut constant = vec![true; table.columns];
    for row in rows {
        for ((constant, value), first) in constant.iter_mut().zip(row).zip(first) {
            *constant &= value == first;
        }
    }
    let columns = columns
        .iter()
        .zip(constant)
        .filter(|(_, constant)| *constant);
    columns.map(|(name, _)| name.clone()).collect()
}

/// Each example as bytes, of images in files the SHA-256 of each: equal ones are equal examples.
pub fn rows(split: &Split) -> Vec<Cow<'_, [u8]>> {
    match split {
        Split::Images(Images { bytes, pixels, .. }) => {
            pixels.chunks_exact(*bytes).map(Cow::Borrowed).collect()
        }
        // Equal images are found by their encoded bytes.
        Split::Files(files) => files
            .digests()
            .map(|digest| Cow::Borrowed(&digest[..]))
            .collect(),
        Split::Table(table) => {
            let row = |row: &[f32]| row.iter().flat_map(|value| value.to_le_bytes()).collect();
            table.values.chunks_exact(table.columns).map(row).collect()
        }
    }
}

/// The training and the test examples of all classes.
pub(super) fn totals(classes: &[ClassCount]) -> (usize, usize) {
    let sum = |sum: (usize, usize), class: &ClassCount| (sum.0 + class.train, sum.1 + class.test);
    classes.iter().fold((0, 0), sum)
}

/// Writes the tables of classes and of values; `value` says what a value is of.
pub(super) fn write_counts(
    f: &mut fmt::Formatter<'_>,
    classes: &[ClassCount],
    value: &str,
    values: &[Statistics],
) -> fmt::Result {
    let names = classes.iter().map(|class| &class.name);
    let names = names.chain(values.iter().map(|value| &value.name));
    let width = names.map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).max("channel".len());
    writeln!(f, "{:width$}  {:>10}  {:>10}", "class", "training", "test")?;
    for ClassCount { name, train, test } in classes {
        writeln!(f, "{name:width$}  {train:>10}  {test:>10}")?;
    }
    writeln!(f, "{value:width$}  {:>10}  {:>10}", "mean", "deviation")?;
    for Statistics {
        name,
        mean,
        deviation,
    } in values
    {
        writeln!(f, "{name:width$}  {mean:>10.4}  {deviation:>10.4}")?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = totals(&self.classes);
        writeln!(
            f,
            "{}: {train} training and {test} test examples of {:?}",
            self.name, self.shape
        )?;
        let value = if self.shape.len() == 1 {
            "column"
        } else {
            "channel"
        };
        write_counts(f, &self.classes, value, &self.values)?;
        write!(
            f,
            "{} training examples repeat another, {} test examples are in the training data, the equals of \
             {} have another class",
            self.duplicates, self.leaked, self.mislabelled
        )?;
        if self.shape.len() > 1 {
            return write!(
                f,
                ", {} images are of one value throughout",
                self.constant_images
            );
        }
        match &self.constant_columns[..] {
            [] => write!(f, ", no column is of one value throughout"),
            constant => write!(f, ", of one value throughout: {}", constant.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;

    #[test]
    fn counts_the_built_in_data() {
        let Checked::Memory(report) = check(&Source::FashionMnist10k).unwrap() else {
            panic!("it is built in");
        };
        assert_eq!(
            report
                .classes
                .iter()
                .map(|class| class.train)
                .sum::<usize>(),
            10_000
        );
        assert!(report.classes.iter().all(|class| class.test == 1000));
        assert_eq!(report.leaked, 0, "{report}");
        let [
            Statistics {
                name,
                mean,
                deviation,
            },
        ] = &report.values[..]
        else {
            panic!("{report}")
        };
        // Known of the full set: 0.2860 and 0.3530.
        assert_eq!(name, "gray");
        assert!((mean - 0.286).abs() < 2e-3 && (deviation - 0.353).abs() < 2e-3);
    }

    #[test]
    fn finds_what_is_odd_in_images() {
        let split = |images: &[[u8; 3]], labels: &[u32]| {
            Split::Images(Images {
                bytes: 3,
                pixels: images.as_flattened().into(),
                labels: labels.into(),
            })
        };
        let report = report(&Dataset {
            name: "odd".into(),
            classes: vec!["a".into(), "b".into()],
            kind: Kind::Images {
                height: 1,
                width: 1,
                channels: 3,
            },
            train: split(
                &[[0, 51, 9], [255, 51, 9], [0, 51, 9], [0, 51, 9]],
                &[0, 1, 0, 1],
            ),
            test: split(&[[0, 51, 9], [4, 4, 4]], &[1, 1]),
            held_out: false,
            unreadable: Vec::new(),
        });
        let counts: Vec<_> = report
            .classes
            .iter()
            .map(|class| (class.train, class.test))
            .collect();
        assert_eq!(counts, [(2, 0), (2, 2)]);
        assert_eq!(
            (
                report.duplicates,
                report.leaked,
                report.mislabelled,
                report.constant_images
            ),
            (2, 1, 2, 1)
        );
        let of = |value: &Statistics| {
            (
                value.name.clone(),
                value.mean as f32,
                value.deviation as f32,
            )
        };
        assert_eq!(
            of(&report.values[0]),
            ("red".into(), 0.25, 0.1875_f32.sqrt())
        );
        assert_eq!(of(&report.values[1]), ("green".into(), 0.2, 1.0));
        let text = report.to_string();
        assert!(text.contains("blue") && text.ends_with("1 images are of one value throughout"));
    }

    #[test]
    fn finds_what_is_odd_in_tables() {
        let split = |values: &[f32], labels: &[u32]| {
            Split::Table(Table {
                columns: 2,
                values: values.into(),
                labels: labels.into(),
            })
        };
        let report = report(&Dataset {
            name: "odd".into(),
            classes: vec!["a".into(), "b".into()],
            kind: Kind::Table {
                columns: vec!["x".into(), "same".into()],
            },
            train: split(&[1.0, 5.0, 3.0, 5.0, 3.0, 5.0, 5.0, 5.0], &[0, 1, 0, 1]),
            test: split(&[3.0, 5.0, 5.0, 6.0], &[1, 1]),
            held_out: false,
            unreadable: Vec::new(),
        });
        assert_eq!((report.duplicates, report.leaked), (1, 1));
        assert_eq!(report.constant_columns, ["same"]);
        assert_eq!(report.values[0].mean, 3.0);
        assert_eq!(report.values[0].deviation as f32, 2.0_f32.sqrt());
        assert!(
            report
                .to_string()
                .ends_with("of one value throughout: same")
        );
    }
}
