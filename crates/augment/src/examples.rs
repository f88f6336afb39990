//! What batches are made of: examples as rows of numbers, and images as such.

use std::borrow::Cow;

use crate::pipeline::{Checked, Memory};
use crate::{Colors, DecodeLimits, Encoded, Error, Image, Pipeline, Sample, Sizes, Stream};

/// Examples as rows of numbers with a label.
pub trait Examples: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers an example.
    fn features(&self) -> usize;

    /// Channels, rows and columns of an example, where it is an image.
    fn image_shape(&self) -> Option<[usize; 3]> {
        None
    }

    /// Makes one thread's writer, which may keep memory between examples.
    fn writer(&self) -> Box<dyn ExampleWriter + '_>;
}

/// Writes examples, on one thread.
pub trait ExampleWriter {
    /// Writes the numbers of one example and returns its label.
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error>;
}

/// Images with labels.
pub trait ImageSource: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sizes that they have.
    fn sizes(&self) -> Sizes;

    /// Values a pixel, in all of them.
    fn channels(&self) -> usize;

    /// Image `index`, to be changed in place by the pipeline. `memory` is empty and may become its
    /// pixels, so that nothing is allocated where sizes recur.
    fn read(&self, index: usize, memory: Vec<u8>) -> Result<Image, Error>;

    /// Image `index`, if it lies in memory as one: then no more of it is copied than its first operations need, where
    /// [`ImageSource::read`] would copy it whole.
    fn image(&self, _index: usize) -> Option<&Image> {
        None
    }

    /// The bytes of the file that image `index` is in, where [`ImageSource::read`] would decode one: of a JPEG no more is
    /// decoded than its first operations need. `memory` is empty and may hold them.
    fn file(&self, _index: usize, _memory: Vec<u8>) -> Option<Result<ImageFile<'_>, Error>> {
        None
    }

    /// What errors of decoding image `index` call its file.
    fn file_name(&self, _index: usize) -> Option<String> {
        None
    }

    /// The label of image `index`.
    fn label(&self, index: usize) -> u32;
}

impl<S: ImageSource + ?Sized> ImageSource for &S {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn sizes(&self) -> Sizes {
        (**self).sizes()
    }

    fn channels(&self) -> usize {
        (**self).channels()
    }

    fn read(&self, index: usize, memory: Vec<u8>) -> Result<Image, Error> {
        (**self).read(index, memory)
    }

    fn image(&self, index: usize) -> Option<&Image> {
        (**self).image(index)
    }

    fn file(&self, index: usize, memory: Vec<u8>) -> Option<Result<ImageFile<'_>, Error>> {
        (**self).file(index, memory)
    }

    fn file_name(&self, index: usize) -> Option<String> {
        (**self).file_name(index)
    }

    fn label(&self, index: usize) -> u32 {
        (**self).label(index)
    }
}

/// A file's bytes and how it is decoded.
#[derive(Clone, Debug)]
pub struct ImageFile<'a> {
    /// All of them.
    pub bytes: Cow<'a, [u8]>,
    /// The colours that the image is to have.
    pub colors: Colors,
    /// What it may ask for.
    pub limits: DecodeLimits,
}

/// Images through a pipeline, as [`Examples`].
pub struct AugmentedImages<S> {
    source: S,
    pipeline: Checked,
    seed: u64,
}

impl<S: ImageSource> AugmentedImages<S> {
    /// # Errors
    /// If the pipeline does not fit the images.
    pub fn new(source: S, pipeline: &Pipeline, seed: u64) -> Result<Self, Error> {
        let pipeline = pipeline.check(source.sizes(), source.channels())?;
        Ok(Self {
            source,
            pipeline,
            seed,
        })
    }
}

impl<S: ImageSource> Examples for AugmentedImages<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn features(&self) -> usize {
        self.pipeline.output.iter().product()
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        let [width, height, channels] = self.pipeline.output;
        Some([channels, height, width])
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(ImageWriter {
            images: self,
            bytes: Vec::new(),
            pixels: Vec::new(),
            memory: Memory::default(),
        })
    }
}

struct ImageWriter<'a, S> {
    images: &'a AugmentedImages<S>,
    bytes: Vec<u8>,
    pixels: Vec<u8>,
    memory: Memory,
}

impl<S: ImageSource> ExampleWriter for ImageWriter<'_, S> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let AugmentedImages {
            source,
            pipeline,
            seed,
        } = self.images;
        let index = sample.index;
        let stream = Stream::new(*seed, sample);
        let here = |problem| Error::Example { index, problem };
        let label = source.label(index);
        let mut pixels = std::mem::take(&mut self.pixels);
        pixels.clear();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let label = if let Some(image) = source.image(index) {
            let label = pipeline
                .write_of(
                    image,
                    label,
                    &mut pixels,
                    stream,
                    &mut self.memory,
                    features,
                )
                .map_err(here)?;
            (self.pixels, self.bytes) = (pixels, bytes);
            label
        } else if let Some(file) = source.file(index, bytes) {
            let ImageFile {
                bytes,
                colors,
                limits,
            } = file?;
            let encoded =
                Encoded::open(&bytes, colors, &limits).map_err(|error| here(error.to_string()))?;
            let label = pipeline
                .write_file(
                    encoded,
                    label,
                    &mut pixels,
                    stream,
                    &mut self.memory,
                    features,
                )
                .map_err(here)?;
            self.pixels = pixels;
            if let Cow::Owned(bytes) = bytes {
                self.bytes = bytes;
            }
            label
        } else {
            let mut image = source.read(index, pixels)?;
            let label = pipeline
                .write(&mut image, label, stream, &mut self.memory, features)
                .map_err(here)?;
            self.pixels = image.into_pixels();
            label
        };
        self.memory.keep_larger(&mut self.pixels);
        Ok(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cutout, HorizontalFlip, Normalize, Operation, PadMode, RandomCrop, Size};

    /// Three images of 3×2 with two channels; the last is a row short, reading on is an error.
    struct Few;

    impl ImageSource for Few {
        fn len(&self) -> usize {
            4
        }

        fn sizes(&self) -> Sizes {
            Size::new(3, 2).into()
        }

        fn channels(&self) -> usize {
            2
        }

        fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
            if index > 2 {
                let problem = "unreadable".into();
                return Err(Error::Example { index, problem });
            }
            let height = 2 - usize::from(index == 2);
            memory.extend((0..6 * height as u8).map(|i| i + 20 * index as u8));
            Image::new(3, height, 2, memory)
        }

        fn label(&self, index: usize) -> u32 {
            index as u32 + 5
        }
    }

    fn pipeline() -> Pipeline {
        Pipeline {
            operations: vec![
                Operation::RandomCrop(RandomCrop {
                    height: 3,
                    width: 2,
                    padding: 1,
                    mode: PadMode::Edge,
                }),
                Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
                Operation::Cutout(Cutout {
                    size: 1,
                    count: 1,
                    fill: 0,
                    probability: 0.5,
                }),
            ],
            normalize: Normalize {
                mean: vec![0.0; 2],
                std: vec![1.0 / 255.0; 2],
            },
            exact: false,
        }
    }

    #[test]
    fn an_example_is_its_image_augmented_by_seed_epoch_and_index() {
        let images = AugmentedImages::new(Few, &pipeline(), 6).unwrap();
        assert_eq!((images.len(), images.features()), (4, 12));
        let mut writer = images.writer();
        for (epoch, index) in (0..20).flat_map(|epoch| [(epoch, 1), (epoch, 0)]) {
            let sample = Sample { epoch, index };
            let mut features = [f32::NAN; 12];
            assert_eq!(writer.write(sample, &mut features), Ok(index as u32 + 5));
            let image = Few.read(index, Vec::new()).unwrap();
            let picture = pipeline().augment(&image, Stream::new(6, sample)).unwrap();
            for (position, number) in features.iter().enumerate() {
                let (channel, y, x) = (position / 6, position / 2 % 3, position % 2);
                let level = picture.pixel(x, y)[channel];
                assert!((number - f32::from(level)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn images_that_break_their_word_are_named_and_the_others_stay_whole() {
        let images = AugmentedImages::new(Few, &pipeline(), 6).unwrap();
        let mut features = [f32::NAN; 12];
        let sample = |index| Sample { epoch: 0, index };
        images.writer().write(sample(1), &mut features).unwrap();
        let expected = features;

        let mut writer = images.writer();
        for (index, problem) in [
            (
                2,
                "expected an image of 3×2 with 2 channels, found 3×1 with 2",
            ),
            (3, "unreadable"),
        ] {
            let error = writer.write(sample(index), &mut features).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("example {index}: ")), "{error}");
            assert!(error.contains(problem), "{error}");
        }
        writer.write(sample(1), &mut features).unwrap();
        assert_eq!(features, expected);
    }

    #[test]
    fn a_pipeline_that_does_not_fit_is_refused() {
        let mut pipeline = pipeline();
        pipeline.normalize.mean.pop();
        let error = AugmentedImages::new(Few, &pipeline, 6).err().unwrap();
        assert!(error.to_string().contains("2 channels, found 1"), "{error}");
    }
}
