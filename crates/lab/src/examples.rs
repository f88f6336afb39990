//! From data to rows of numbers for the net.

use std::sync::Arc;

use evenkeel_augment::{
    AugmentedImages, Error as LoaderError, ExampleWriter, Examples, Image, ImageSource, Normalize,
    Operation, Pipeline, Sample, Size, Sizes, ViewedImages, Views,
};
use evenkeel_record::Preparation;

use crate::Error;
use crate::data::{Dataset, Files, Images, Kind, Split, Sums, Table};

/// How examples become numbers whatever their augmentation, by statistics of the training data: per
/// channel of images (on the scale 0..1), per column of a table. Where all values are equal, the
/// deviation is taken as 1.
pub(crate) fn preparation(data: &Dataset) -> Preparation {
    let statistics: Vec<(f32, f32)> = match (&data.kind, &data.train) {
        (&Kind::Images { channels, .. }, Split::Images(images)) => (0..channels)
            .map(|channel| of_levels(images, channel, channels))
            .collect(),
        (_, Split::Files(files)) => (0..files.channels())
            .map(|channel| {
                let (mean, deviation) = Sums::statistics(files.sums(), channel);
                (mean as f32, or_one(deviation))
            })
            .collect(),
        (_, Split::Table(table)) => (0..table.columns).map(|j| of_column(table, j)).collect(),
        (Kind::Table { .. }, Split::Images(_)) => unreachable!("a source has one kind of examples"),
    };
    let (mean, deviation) = statistics.into_iter().unzip();
    Preparation { mean, deviation }
}

fn of_levels(images: &Images, channel: usize, channels: usize) -> (f32, f32) {
    // From counts of the 256 levels: exact, whatever the order.
    let mut counts = [0_u64; 256];
    for &level in images.pixels[channel..].iter().step_by(channels) {
        counts[usize::from(level)] += 1;
    }
    let levels = counts
        .iter()
        .enumerate()
        .map(|(level, &n)| (n as f64, level as f64 / 255.0));
    mean_and_deviation(levels)
}

fn of_column(table: &Table, column: usize) -> (f32, f32) {
    let values = table.values.iter().skip(column).step_by(table.columns);
    mean_and_deviation(values.map(|&value| (1.0, f64::from(value))))
}

/// Of weighted values, in two passes.
fn mean_and_deviation(values: impl Iterator<Item = (f64, f64)> + Clone) -> (f32, f32) {
    let average = |value: &dyn Fn(f64) -> f64| {
        let sums = |(sum, count), (n, x)| (sum + n * value(x), count + n);
        let (sum, count) = values.clone().fold((0.0, 0.0), sums);
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let mean = average(&|x| x);
    let deviation = average(&|x| (x - mean).powi(2)).sqrt();
    (mean as f32, or_one(deviation))
}

/// What values that are all equal are divided by.
fn or_one(deviation: f64) -> f32 {
    if deviation > 0.0 {
        deviation as f32
    } else {
        1.0
    }
}

/// Where only pictures are made, no numbers of them.
pub(crate) fn unnormalized() -> Normalize {
    Normalize {
        mean: Vec::new(),
        std: Vec::new(),
    }
}

/// What examples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Images in files go through the operations as they are in their files.
    Train,
    /// Images in files are brought to the net's size before the operations.
    Test,
}

/// A split as examples, through these operations.
pub(crate) fn prepare(
    split: &Split,
    kind: &Kind,
    preparation: &Preparation,
    mut operations: Vec<Operation>,
    seed: u64,
    purpose: Use,
) -> Result<Arc<dyn Examples>, Error> {
    let Kind::Images {
        height,
        width,
        channels,
    } = *kind
    else {
        return match split {
            Split::Table(table) if operations.is_empty() => Ok(Arc::new(Rows {
                table: table.clone(),
                preparation: preparation.clone(),
            })),
            _ => Err(Error::Unfit(
                "augment.operations are for images, and the data is a table; remove them".into(),
            )),
        };
    };
    let seen = Size::new(width, height);
    let sizes = match split {
        Split::Files(files) => {
            // A training without operations sees what the test sees.
            if purpose == Use::Test || operations.is_empty() {
                operations.splice(0..0, files.test.iter().cloned());
            }
            files.sizes().unwrap_or(seen.into())
        }
        _ => seen.into(),
    };
    let Preparation { mean, deviation } = preparation.clone();
    let pipeline = Pipeline {
        operations,
        normalize: Normalize {
            mean,
            std: deviation,
        },
    };
    let size = pipeline.only_size(sizes);
    let size = size.map_err(|error| Error::Unfit(format!("augment.operations: {error}")))?;
    if size != seen {
        return Err(Error::Unfit(format!(
            "augment.operations turn images of {sizes} into {size}; expected {seen}, which the net sees at \
             test"
        )));
    }
    match split {
        Split::Images(images) => {
            let source = InMemory {
                images: images.clone(),
                size: [width, height, channels],
            };
            Ok(Arc::new(AugmentedImages::new(source, &pipeline, seed)?))
        }
        Split::Files(files) => Ok(Arc::new(AugmentedImages::new(
            InFiles {
                files: files.clone(),
                sizes,
            },
            &pipeline,
            seed,
        )?)),
        Split::Table(_) => unreachable!("a source has one kind of examples"),
    }
}

/// A split of images as all of their views.
pub(crate) struct Viewed {
    pub examples: Arc<dyn Examples>,
    /// Views of an image.
    pub most: usize,
    /// Of each view.
    pub size: Size,
}

/// The views of a split's images, each first through operations that draw nothing.
pub(crate) fn views(
    split: &Split,
    kind: &Kind,
    preparation: &Preparation,
    before: Vec<Operation>,
    views: Views,
) -> Result<Viewed, Error> {
    fn of<S: ImageSource + 'static>(
        source: S,
        before: Vec<Operation>,
        views: Views,
        normalize: Normalize,
    ) -> Result<Viewed, Error> {
        let images = ViewedImages::new(source, before, views, normalize)?;
        Ok(Viewed {
            most: images.most(),
            size: images.size(),
            examples: Arc::new(images),
        })
    }
    let Preparation { mean, deviation } = preparation.clone();
    let normalize = Normalize {
        mean,
        std: deviation,
    };
    match (split, kind) {
        (
            Split::Images(images),
            &Kind::Images {
                height,
                width,
                channels,
            },
        ) => {
            let source = InMemory {
                images: images.clone(),
                size: [width, height, channels],
            };
            of(source, before, views, normalize)
        }
        (Split::Files(files), &Kind::Images { height, width, .. }) => {
            let sizes = files.sizes().unwrap_or(Size::new(width, height).into());
            let source = InFiles {
                files: files.clone(),
                sizes,
            };
            of(source, before, views, normalize)
        }
        _ => unreachable!("the caller asks for views of images only"),
    }
}

struct InMemory {
    images: Images,
    size: [usize; 3],
}

impl ImageSource for InMemory {
    fn len(&self) -> usize {
        self.images.labels.len()
    }

    fn sizes(&self) -> Sizes {
        let [width, height, _] = self.size;
        Size::new(width, height).into()
    }

    fn channels(&self) -> usize {
        self.size[2]
    }

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, LoaderError> {
        let bytes = self.images.bytes;
        memory.extend_from_slice(&self.images.pixels[index * bytes..][..bytes]);
        let [width, height, channels] = self.size;
        Image::new(width, height, channels, memory)
    }

    fn label(&self, index: usize) -> u32 {
        self.images.labels[index]
    }
}

/// Images that are read and decoded when they are asked for.
struct InFiles {
    files: Files,
    sizes: Sizes,
}

impl ImageSource for InFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn channels(&self) -> usize {
        self.files.channels()
    }

    fn read(&self, index: usize, _: Vec<u8>) -> Result<Image, LoaderError> {
        let image = self.files.read(index);
        image.map_err(|problem| LoaderError::Example { index, problem })
    }

    fn label(&self, index: usize) -> u32 {
        self.files.labels[index]
    }
}

struct Rows {
    table: Table,
    preparation: Preparation,
}

struct RowWriter<'a>(&'a Rows);

impl Examples for Rows {
    fn len(&self) -> usize {
        self.table.labels.len()
    }

    fn features(&self) -> usize {
        self.table.columns
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(RowWriter(self))
    }
}

impl ExampleWriter for RowWriter<'_> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, LoaderError> {
        let Rows {
            table:
                Table {
                    columns,
                    values,
                    labels,
                },
            preparation,
        } = self.0;
        let row = &values[sample.index * columns..][..*columns];
        let statistics = preparation.mean.iter().zip(&preparation.deviation);
        for ((feature, value), (mean, deviation)) in features.iter_mut().zip(row).zip(statistics) {
            *feature = (value - mean) / deviation;
        }
        Ok(labels[sample.index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_augment::{Loader, LoaderOptions};

    #[test]
    fn tables_are_standardized_by_the_training_data() {
        let table = |values: &[f32]| {
            let labels = vec![0; values.len() / 2].into();
            Split::Table(Table {
                columns: 2,
                values: values.into(),
                labels,
            })
        };
        let kind = Kind::Table {
            columns: vec!["a".into(), "b".into()],
        };
        let data = Dataset {
            name: "test".into(),
            classes: vec!["one".into(), "two".into()],
            kind: kind.clone(),
            train: table(&[1.0, 5.0, 3.0, 5.0]),
            test: table(&[4.0, 6.0]),
            held_out: false,
            unreadable: Vec::new(),
        };
        let preparation = preparation(&data);
        let examples = prepare(&data.test, &kind, &preparation, Vec::new(), 0, Use::Test).unwrap();
        let options = LoaderOptions {
            batch_size: 1,
            workers: 0,
            prefetch: 0,
            shuffle: None,
            drop_last: false,
        };
        let mut epoch = Loader::new(examples, options).unwrap().epoch(0, 0);
        assert_eq!(epoch.next().unwrap().unwrap().features, [2.0, 1.0]);
    }
}
