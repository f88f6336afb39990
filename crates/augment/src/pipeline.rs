//! Operations in a row, then the conversion to numbers.

use serde::{Deserialize, Serialize};

use crate::convert::Tables;
use crate::{Error, Image, Normalize, Operation, Parameters, Stream};

/// What happens to each image on its way into a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// In order.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// The last step.
    pub normalize: Normalize,
}

/// A pipeline that has been checked against the images it will see.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    operations: Vec<Operation>,
    tables: Tables,
    /// Width, height, channels of what comes in and of what goes out.
    pub input: [usize; 3],
    pub output: [usize; 3],
}

/// Memory that is kept between images.
#[derive(Debug)]
pub(crate) struct Scratch {
    image: Image,
    bytes: Vec<u8>,
}

impl Pipeline {
    /// Checks every setting for images of this size.
    pub(crate) fn check(
        &self,
        width: usize,
        height: usize,
        channels: usize,
    ) -> Result<Checked, Error> {
        let size = check_operations(&self.operations, width, height)?;
        Ok(Checked {
            operations: self.operations.clone(),
            tables: self.normalize.tables(channels)?,
            input: [width, height, channels],
            output: [size.0, size.1, channels],
        })
    }

    /// The size `(width, height)` of what comes out for images of this size.
    ///
    /// # Errors
    /// If a setting is out of range or does not fit; names the step and the field.
    pub fn output_size(&self, width: usize, height: usize) -> Result<(usize, usize), Error> {
        check_operations(&self.operations, width, height)
    }

    /// What the operations draw for an image of this size, for recording and replaying.
    pub fn draw(
        &self,
        width: usize,
        height: usize,
        stream: Stream,
    ) -> Result<Vec<Parameters>, Error> {
        let mut size = (width, height);
        let mut draw = |(step, operation): (usize, &Operation)| {
            let (width, height) = size;
            size = check_operation(step, operation, width, height)?;
            Ok(operation.draw(width, height, &mut stream.operation(step)))
        };
        self.operations.iter().enumerate().map(&mut draw).collect()
    }

    /// The picture that these parameters make of an image.
    pub fn replay(image: &Image, parameters: &[Parameters]) -> Image {
        let (mut image, mut scratch) = (image.clone(), Vec::new());
        for parameters in parameters {
            parameters.apply(&mut image, &mut scratch);
        }
        image
    }

    /// The augmented image, as a picture.
    pub fn augment(&self, image: &Image, stream: Stream) -> Result<Image, Error> {
        Ok(Self::replay(
            image,
            &self.draw(image.width(), image.height(), stream)?,
        ))
    }
}

fn check_operations(
    operations: &[Operation],
    width: usize,
    height: usize,
) -> Result<(usize, usize), Error> {
    operations
        .iter()
        .enumerate()
        .try_fold((width, height), |(width, height), (step, operation)| {
            check_operation(step, operation, width, height)
        })
}

fn check_operation(
    step: usize,
    operation: &Operation,
    width: usize,
    height: usize,
) -> Result<(usize, usize), Error> {
    operation
        .output_size(width, height)
        .map_err(|problem| Error::Operation {
            step,
            operation: operation.name(),
            problem,
        })
}

impl Checked {
    pub fn scratch(&self) -> Scratch {
        let [width, height, channels] = self.input;
        let pixels = vec![0; width * height * channels];
        let image = Image::new(width, height, channels, pixels).expect("a checked size");
        Scratch {
            image,
            bytes: Vec::new(),
        }
    }

    /// Augments, converts and writes one image of the checked size.
    pub fn write(&self, image: &Image, stream: Stream, scratch: &mut Scratch, output: &mut [f32]) {
        if self.operations.is_empty() {
            return self.tables.write(image, output);
        }
        scratch.image.copy_from(image);
        for (step, operation) in self.operations.iter().enumerate() {
            let (width, height) = (scratch.image.width(), scratch.image.height());
            let parameters = operation.draw(width, height, &mut stream.operation(step));
            parameters.apply(&mut scratch.image, &mut scratch.bytes);
        }
        self.tables.write(&scratch.image, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cutout, HorizontalFlip, PadMode, RandomCrop, Sample};

    fn pipeline() -> Pipeline {
        Pipeline {
            operations: vec![
                Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
                Operation::RandomCrop(RandomCrop {
                    height: 5,
                    width: 6,
                    padding: 2,
                    mode: PadMode::Constant(0),
                }),
                Operation::Cutout(Cutout {
                    size: 2,
                    count: 1,
                    fill: 9,
                    probability: 1.0,
                }),
            ],
            normalize: Normalize {
                mean: vec![0.0],
                std: vec![1.0 / 255.0],
            },
        }
    }

    #[test]
    fn fast_and_step_by_step_agree() {
        let pipeline = pipeline();
        let checked = pipeline.check(6, 5, 1).unwrap();
        let mut scratch = checked.scratch();
        let image = Image::new(6, 5, 1, (10..40).collect()).unwrap();
        for index in 0..200 {
            let stream = Stream::new(3, Sample { epoch: 1, index });
            let mut output = [0.0; 30];
            checked.write(&image, stream, &mut scratch, &mut output);
            let parameters = pipeline.draw(6, 5, stream).unwrap();
            let expected = Pipeline::replay(&image, &parameters);
            for (number, &level) in output.iter().zip(expected.pixels()) {
                assert!((number - f32::from(level)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn draws_are_pinned() {
        let stream = Stream::new(
            7,
            Sample {
                epoch: 2,
                index: 11,
            },
        );
        let text = serde_json::to_string(&pipeline().draw(6, 5, stream).unwrap()).unwrap();
        assert_eq!(text, include_str!("pinned-draws.json").trim());
    }

    #[test]
    fn survives_serde_and_refuses_unknown_fields() {
        let text = serde_json::to_string(&pipeline()).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline());
        let typo = text.replace("probability", "probabilty");
        let error = serde_json::from_str::<Pipeline>(&typo)
            .unwrap_err()
            .to_string();
        assert!(error.contains("probabilty"), "{error}");
    }

    #[test]
    fn errors_name_step_and_field() {
        let error = pipeline().output_size(1, 1).unwrap_err().to_string();
        assert!(error.starts_with("step 1 (random_crop): width"), "{error}");
    }
}
