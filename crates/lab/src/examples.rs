//! From data to rows of numbers for the net.

use std::sync::Arc;

use evenkeel_augment::{
    AugmentedImages, Error as LoaderError, ExampleWriter, Examples, Image, ImageFile, ImageSource,
    Normalize, Operation, Pipeline, Sample, Size, Sizes, ViewedImages, Views,
};
use evenkeel_record::Preparation;

use crate::Error;
use crate::data::{Files, Images, Kind, Split, Table};

/// What examples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Images in files go through the operations as they are in their files.
    Train {
        /// See [`Pipeline::exact`].
        exact: bool,
    },
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
                operations.splice(0..0, files.test().iter().cloned());
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
        // At test every step is taken as it says.
        exact: purpose != (Use::Train { exact: false }),
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

    fn file(&self, index: usize, _: Vec<u8>) -> Option<Result<ImageFile<'_>, LoaderError>> {
        let (colors, limits) = self.files.decoding();
        let bytes = self
            .files
            .encoded(index)
            .map_err(|problem| LoaderError::Example {
                index,
                problem: format!("{}: {problem}", self.files.whole_name(index)),
            });
        Some(bytes.map(|bytes| ImageFile {
            bytes,
            colors,
            limits,
        }))
    }

    fn file_name(&self, index: usize) -> Option<String> {
        Some(self.files.whole_name(index))
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
    use std::path::Path;

    use evenkeel_augment::{Batch, Loader, LoaderOptions};

    use super::*;
    use crate::data::{Dataset, ImageFiles, ImageOptions, Layout, Source, preparation};

    fn operations(text: &str) -> Vec<Operation> {
        serde_json::from_str(text).unwrap()
    }

    /// The images of `reference/fixtures/sources`, of several sizes.
    fn photos(cache_bytes: usize) -> Dataset {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/sources");
        let source = ImageFiles::new(Layout::Tar, folder.join("webdataset"));
        let test = r#"[{"op": "resize", "to": {"short_side": 12}}, {"op": "center_crop", "height": 10, "width": 12}]"#;
        let options = ImageOptions {
            test: operations(test),
            cache_bytes,
            ..ImageOptions::default()
        };
        Dataset::open_with(&Source::Files(source), &options).unwrap()
    }

    #[test]
    fn images_of_many_sizes_become_batches_that_are_the_same_for_any_workers_cache_and_start() {
        let (cached, uncached) = (photos(1 << 20), photos(0));
        let random = operations(
            r#"[{"op": "random_resized_crop", "height": 10, "width": 12}, {"op": "horizontal_flip"}]"#,
        );
        let epoch = |data: &Dataset, workers, start| -> Vec<Batch> {
            let examples = prepare(
                &data.train,
                &data.kind,
                &preparation(data),
                random.clone(),
                3,
                Use::Train { exact: false },
            );
            let options = LoaderOptions {
                batch_size: 2,
                workers,
                prefetch: 2,
                shuffle: Some(4),
                drop_last: false,
            };
            let loader = Loader::new(examples.unwrap(), options).unwrap();
            loader.epoch(1, start).map(Result::unwrap).collect()
        };
        let expected = epoch(&cached, 0, 0);
        assert_eq!(expected.len(), 3);
        for workers in [1, 2, 8] {
            for start in 0..3 {
                assert_eq!(epoch(&cached, workers, start), expected[start..]);
                assert_eq!(epoch(&uncached, workers, start), expected[start..]);
            }
        }
    }

    #[test]
    fn the_test_sees_what_its_operations_make() {
        let data = photos(0);
        let preparation = Preparation {
            mean: vec![0.0; 3],
            deviation: vec![1.0 / 255.0; 3],
        };
        let examples = prepare(
            &data.test,
            &data.kind,
            &preparation,
            Vec::new(),
            0,
            Use::Test,
        )
        .unwrap();
        let mut features = vec![0.0; examples.features()];
        let sample = Sample { epoch: 0, index: 1 };
        assert_eq!(examples.writer().write(sample, &mut features), Ok(1));
        let Split::Files(files) = &data.test else {
            panic!("expected files")
        };
        let image = files.read_for_test(1).unwrap();
        assert_eq!((image.width(), image.height()), (12, 10));
        assert!((features[0] - f32::from(image.pixel(0, 0)[0])).abs() < 1e-3);
        assert!((features[119 + 240] - f32::from(image.pixel(11, 9)[2])).abs() < 1e-3);
    }

    #[test]
    fn operations_must_end_in_the_size_that_the_test_sees() {
        let data = photos(0);
        let wrong = operations(r#"[{"op": "random_resized_crop", "height": 9, "width": 12}]"#);
        let refused = prepare(
            &data.train,
            &data.kind,
            &preparation(&data),
            wrong,
            0,
            Use::Train { exact: false },
        );
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("into 12×9; expected 12×10"), "{error}");
    }

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
