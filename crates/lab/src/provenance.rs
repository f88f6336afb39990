//! Which data a run began with, and whether they are still the same.

use evenkeel_record::{DataSummary, Preparation, Run};
use flate2::Crc;

use crate::Error;
use crate::data::{Dataset, Images, Split, Table};

/// What a run records of its data.
pub(crate) fn summary(data: &Dataset) -> DataSummary {
    DataSummary {
        source: data.name.clone(),
        classes: data.classes.clone(),
        train_examples: data.train.len(),
        test_examples: data.test.len(),
        held_out: data.held_out,
        shape: data.kind.shape(),
        columns: data.kind.columns().to_vec(),
        train_checksum: Some(checksum(&data.train)),
        test_checksum: Some(checksum(&data.test)),
        unreadable: data.unreadable.clone(),
    }
}

/// CRC-32 of the examples (of images in files: of their SHA-256) and their labels: cheap, and against accidents, not forgers.
fn checksum(split: &Split) -> String {
    let mut crc = Crc::new();
    match split {
        Split::Images(Images { pixels, .. }) => crc.update(pixels),
        Split::Files(files) => files.digests().for_each(|digest| crc.update(digest)),
        Split::Table(Table { values, .. }) => {
            for value in values.iter() {
                crc.update(&value.to_le_bytes());
            }
        }
    }
    for label in split.labels() {
        crc.update(&label.to_le_bytes());
    }
    format!("{:08x}", crc.sum())
}

/// A run goes on only on the data that it began with.
pub(crate) fn expect_same(
    run: &Run,
    data: &Dataset,
    preparation: &Preparation,
) -> Result<(), Error> {
    let (then, now) = (&run.data, &summary(data));
    let differences = [
        differ("classes", &then.classes, &now.classes),
        differ("shape of an example", &then.shape, &now.shape),
        differ("columns", &then.columns, &now.columns),
        differ(
            "number of training examples",
            &then.train_examples,
            &now.train_examples,
        ),
        // Runs of older versions have no checksums.
        differ_if_known(
            "training examples' checksum",
            &then.train_checksum,
            &now.train_checksum,
        ),
        differ(
            "training examples' mean",
            &run.preparation.mean,
            &preparation.mean,
        ),
        differ(
            "training examples' deviation",
            &run.preparation.deviation,
            &preparation.deviation,
        ),
    ];
    let differences = differences.into_iter().chain(of_test(then, now));
    refuse(then, differences, "start a new run")
}

/// A training is repeated on the examples that it had.
pub(crate) fn expect_same_train(run: &Run, data: &Dataset) -> Result<(), Error> {
    let (then, now) = (&run.data, &summary(data));
    let difference = differ_if_known(
        "training examples' checksum",
        &then.train_checksum,
        &now.train_checksum,
    );
    refuse(then, [difference], "start a new run")
}

/// A run is measured on the test data that it began with, where no others are asked for.
pub(crate) fn expect_same_test(run: &Run, data: &Dataset) -> Result<(), Error> {
    let now = summary(data);
    let instead = "name the data to measure on by --data";
    refuse(&run.data, of_test(&run.data, &now), instead)
}

fn of_test(then: &DataSummary, now: &DataSummary) -> [Option<String>; 2] {
    [
        differ(
            "number of test examples",
            &then.test_examples,
            &now.test_examples,
        ),
        differ_if_known(
            "test examples' checksum",
            &then.test_checksum,
            &now.test_checksum,
        ),
    ]
}

/// The first difference says it: the others mostly follow from it.
fn refuse(
    then: &DataSummary,
    differences: impl IntoIterator<Item = Option<String>>,
    instead: &'static str,
) -> Result<(), Error> {
    match differences.into_iter().flatten().next() {
        None => Ok(()),
        Some(difference) => Err(Error::OtherData {
            name: then.source.clone(),
            difference,
            instead,
        }),
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, then: &T, now: &T) -> Option<String> {
    (then != now).then(|| format!("the {what} was {then:?} and is {now:?}"))
}

fn differ_if_known(what: &str, then: &Option<String>, now: &Option<String>) -> Option<String> {
    let (then, now) = (then.as_ref()?, now.as_ref()?);
    differ(what, then, now)
}
