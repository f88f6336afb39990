//! What `evenkeel data check` tells of a source.

use std::collections::HashMap;
use std::fmt;

use super::{Dataset, Error, Images, Kind, Source, Split};

/// Counts and oddities of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The source by name.
    pub name: String,
    /// The shape of an example.
    pub shape: Vec<usize>,
    /// A class, its training examples, its test examples.
    pub classes: Vec<(String, usize, usize)>,
    /// Training examples that are equal to an earlier one.
    pub duplicates: usize,
    /// Test examples that are in the training data too.
    pub leaked: usize,
    /// Examples of one value throughout.
    pub constant: usize,
}

/// Reads a source and looks for what would spoil a training.
pub fn check(source: &Source) -> Result<Report, Error> {
    let data = Dataset::open(source)?;
    let count = |split: &Split, class: usize| {
        split
            .labels()
            .iter()
            .filter(|&&label| label as usize == class)
            .count()
    };
    let classes = data.classes.iter().enumerate();
    let classes = classes
        .map(|(i, name)| (name.clone(), count(&data.train, i), count(&data.test, i)))
        .collect();
    let (train, test) = (rows(&data.train), rows(&data.test));
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    for row in &train {
        *seen.entry(row).or_default() += 1;
    }
    let constant = |row: &&Vec<u8>| match data.kind {
        Kind::Images { .. } => row.iter().all(|byte| *byte == row[0]),
        Kind::Table { .. } => row.chunks_exact(4).all(|value| value == &row[..4]),
    };
    Ok(Report {
        name: data.name.clone(),
        shape: data.kind.shape(),
        classes,
        duplicates: train.len() - seen.len(),
        leaked: test
            .iter()
            .filter(|row| seen.contains_key(row.as_slice()))
            .count(),
        constant: train.iter().chain(&test).filter(constant).count(),
    })
}

/// Each example as bytes.
fn rows(split: &Split) -> Vec<Vec<u8>> {
    match split {
        Split::Images(Images { bytes, pixels, .. }) => {
            pixels.chunks_exact(*bytes).map(<[u8]>::to_vec).collect()
        }
        Split::Table(table) => {
            let row = |row: &[f32]| row.iter().flat_map(|value| value.to_le_bytes()).collect();
            table.values.chunks_exact(table.columns).map(row).collect()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = self
            .classes
            .iter()
            .fold((0, 0), |sum, c| (sum.0 + c.1, sum.1 + c.2));
        writeln!(
            f,
            "{}: {train} training and {test} test examples of {:?}",
            self.name, self.shape
        )?;
        let width = self
            .classes
            .iter()
            .map(|(name, ..)| name.chars().count())
            .max();
        let width = width.unwrap_or(0).max(5);
        writeln!(f, "{:width$}  {:>8}  {:>8}", "class", "training", "test")?;
        for (name, train, test) in &self.classes {
            writeln!(f, "{name:width$}  {train:>8}  {test:>8}")?;
        }
        let Self {
            duplicates,
            leaked,
            constant,
            ..
        } = self;
        write!(
            f,
            "{duplicates} training examples repeat another, {leaked} test examples are in the \
             training data, {constant} examples are of one value throughout"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_built_in_data() {
        let report = check(&Source::FashionMnist10k).unwrap();
        assert_eq!(
            report.classes.iter().map(|class| class.2).sum::<usize>(),
            10_000
        );
        assert!(report.classes.iter().all(|(_, _, test)| *test == 1000));
        assert_eq!(report.leaked, 0, "{report}");
    }
}
