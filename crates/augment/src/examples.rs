//! What batches are made of: examples as rows of numbers, and images as such.

use crate::pipeline::Checked;
use crate::{Error, Image, Pipeline, Sample, Stream};

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

    /// Makes one thread's writer, which may keep memory between examples.
    fn writer(&self) -> Box<dyn ExampleWriter + '_>;
}

/// Writes examples, on one thread.
pub trait ExampleWriter {
    /// Writes the numbers of one example and returns its label.
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error>;
}

/// Images with labels, all of one size.
pub trait ImageSource: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width, height, channels of each.
    fn size(&self) -> [usize; 3];

    /// Appends the bytes of image `index`, of this size, to the empty `pixels` (rows of interleaved
    /// channels). This copy is the one that the pipeline then changes in place.
    fn read(&self, index: usize, pixels: &mut Vec<u8>) -> Result<(), Error>;

    /// The label of image `index`.
    fn label(&self, index: usize) -> u32;
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
        let [width, height, channels] = source.size();
        let pipeline = pipeline.check(width, height, channels)?;
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

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(ImageWriter {
            images: self,
            pixels: Vec::new(),
            scratch: Vec::new(),
        })
    }
}

struct ImageWriter<'a, S> {
    images: &'a AugmentedImages<S>,
    pixels: Vec<u8>,
    scratch: Vec<u8>,
}

impl<S: ImageSource> ExampleWriter for ImageWriter<'_, S> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let AugmentedImages {
            source,
            pipeline,
            seed,
        } = self.images;
        let mut pixels = std::mem::take(&mut self.pixels);
        pixels.clear();
        source.read(sample.index, &mut pixels)?;
        let [width, height, channels] = pipeline.input;
        let mut image =
            Image::new(width, height, channels, pixels).map_err(|error| Error::Example {
                index: sample.index,
                problem: error.to_string(),
            })?;
        let stream = Stream::new(*seed, sample);
        pipeline.write(&mut image, stream, &mut self.scratch, features);
        self.pixels = image.into_pixels();
        Ok(source.label(sample.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cutout, HorizontalFlip, Normalize, Operation, PadMode, RandomCrop};

    /// Three images of 3×2 with two channels; the last is a byte short, reading on is an error.
    struct Few;

    impl ImageSource for Few {
        fn len(&self) -> usize {
            4
        }

        fn size(&self) -> [usize; 3] {
            [3, 2, 2]
        }

        fn read(&self, index: usize, pixels: &mut Vec<u8>) -> Result<(), Error> {
            if index > 2 {
                let problem = "unreadable".into();
                return Err(Error::Example { index, problem });
            }
            pixels.extend((0..12 - (index == 2) as u8).map(|i| i + 20 * index as u8));
            Ok(())
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
            let mut pixels = Vec::new();
            Few.read(index, &mut pixels).unwrap();
            let image = Image::new(3, 2, 2, pixels).unwrap();
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
        for (index, problem) in [(2, "expected 12 bytes"), (3, "unreadable")] {
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
