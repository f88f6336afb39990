//! Operations in a row, then the conversion to numbers.

use serde::{Deserialize, Serialize};

use crate::convert::Tables;
use crate::decode::JpegMemory;
use crate::image::{check_channels, check_size};
use crate::ops::Plan;
use crate::ops::name_classes;
use crate::size::{Size, Sizes};
use crate::{Encoded, Error, Image, Normalize, Operation, Parameters, Stream};

/// What happens to each image on its way into a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// In order.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// The last step.
    pub normalize: Normalize,
    /// Whether every picture is the one that its steps give one by one. Without it, neighbouring steps are folded into one,
    /// and a first resize into the decoding of a JPEG (at a fraction of its size, or before its luma and colour differences
    /// become colours), where that is faster and as good, but not the same to the last level; [`Pipeline::replay`] is
    /// always exact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

/// A pipeline that has been checked against the images it will see.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    operations: Vec<Operation>,
    tables: Tables,
    exact: bool,
    /// What comes in.
    input: Sizes,
    /// Width, height, channels of what goes out.
    pub output: [usize; 3],
}

impl Pipeline {
    /// Checks every setting for images of these sizes.
    pub(crate) fn check(&self, sizes: Sizes, channels: usize) -> Result<Checked, Error> {
        check_channels(channels)?;
        let size = self.only_size(sizes)?;
        Ok(Checked {
            operations: self.operations.clone(),
            tables: self.normalize.tables(channels)?,
            exact: self.exact,
            input: sizes,
            output: [size.width, size.height, channels],
        })
    }

    /// The sizes that may come out for images of this size.
    ///
    /// # Errors
    /// If a setting is out of range or does not fit; names the step and the field.
    pub fn output_sizes(&self, width: usize, height: usize) -> Result<Sizes, Error> {
        self.sizes(Size::new(width, height).into())
    }

    /// The sizes that may come out for images of any of these sizes.
    ///
    /// # Errors
    /// As [`Pipeline::output_sizes`].
    pub fn sizes(&self, of: Sizes) -> Result<Sizes, Error> {
        for size in [of.least, of.most] {
            check_size(size.width, size.height).map_err(Error::Image)?;
        }
        let mut operations = self.operations.iter().enumerate();
        operations.try_fold(of, |sizes, (step, operation)| {
            let sizes = operation
                .check_nesting()
                .and_then(|()| operation.check(sizes));
            sizes.map_err(|problem| refused(step, operation.name(), problem))
        })
    }

    /// The one size that comes out for images of any of these sizes.
    ///
    /// # Errors
    /// As [`Pipeline::output_size`].
    pub fn only_size(&self, of: Sizes) -> Result<Size, Error> {
        let sizes = self.sizes(of)?;
        sizes.only().ok_or(Error::SizeVaries(sizes))
    }

    /// The size `(width, height)` of what comes out for images of this size.
    ///
    /// # Errors
    /// As [`Pipeline::output_sizes`]; and if the size depends on what is drawn, as batches need one.
    pub fn output_size(&self, width: usize, height: usize) -> Result<(usize, usize), Error> {
        let size = self.only_size(Size::new(width, height).into())?;
        Ok((size.width, size.height))
    }

    /// With numbers for the names of classes, where operations name any.
    ///
    /// # Errors
    /// If a class is none of the data's: names the step, the field and the classes.
    pub fn with_classes(&self, classes: &[String]) -> Result<Self, Error> {
        Ok(Self {
            operations: name_classes(&self.operations, classes)?,
            ..self.clone()
        })
    }

    /// What the operations draw for an image of this size, for recording and replaying; where they mind the label, as for
    /// one that they do not name.
    ///
    /// # Errors
    /// As [`Pipeline::output_sizes`].
    pub fn draw(
        &self,
        width: usize,
        height: usize,
        stream: Stream,
    ) -> Result<Vec<Parameters>, Error> {
        self.draw_all(None, Size::new(width, height), stream)
    }

    /// What the operations draw for an image with this label; [`Pipeline::label`] says what becomes of that.
    ///
    /// # Errors
    /// As [`Pipeline::output_sizes`].
    pub fn draw_for(
        &self,
        label: u32,
        width: usize,
        height: usize,
        stream: Stream,
    ) -> Result<Vec<Parameters>, Error> {
        self.draw_all(Some(label), Size::new(width, height), stream)
    }

    fn draw_all(
        &self,
        mut label: Option<u32>,
        mut size: Size,
        stream: Stream,
    ) -> Result<Vec<Parameters>, Error> {
        self.output_sizes(size.width, size.height)?;
        let draw = |(step, operation): (usize, &Operation)| {
            let parameters = operation.draw_for(label, size, &mut stream.operation(step));
            let output = parameters.check(size);
            size = output.map_err(|problem| refused(step, operation.name(), problem))?;
            label = label.map(|label| parameters.label(label));
            Ok(parameters)
        };
        self.operations.iter().enumerate().map(draw).collect()
    }

    /// What the label of an image becomes with these parameters.
    pub fn label(parameters: &[Parameters], label: u32) -> u32 {
        parameters
            .iter()
            .fold(label, |label, parameters| parameters.label(label))
    }

    /// The picture that these parameters make of an image, step by step.
    ///
    /// # Errors
    /// If parameters, which may come from a file, do not fit the image; names the step and the
    /// field.
    pub fn replay(image: &Image, parameters: &[Parameters]) -> Result<Image, Error> {
        Self::replay_as(image, parameters, true)
    }

    /// The picture that these parameters make of an image: with `exact` as [`Pipeline::replay`], without it as a pipeline
    /// makes it that is not exact.
    ///
    /// # Errors
    /// As [`Pipeline::replay`].
    pub fn replay_as(
        image: &Image,
        parameters: &[Parameters],
        exact: bool,
    ) -> Result<Image, Error> {
        let whole = Size::new(image.width(), image.height());
        let mut size = whole;
        for (step, parameters) in parameters.iter().enumerate() {
            let check = parameters
                .check_nesting()
                .and_then(|()| parameters.check(size));
            size = check.map_err(|problem| refused(step, parameters.name(), problem))?;
        }
        let (mut image, mut scratch) = (image.clone(), Vec::new());
        if exact {
            for parameters in parameters {
                parameters.apply(&mut image, &mut scratch);
            }
            return Ok(image);
        }
        let plan = Plan::new(parameters, whole, image.channels(), exact);
        plan.run(&mut image, &mut scratch).apply(&mut image);
        Ok(image)
    }

    /// The augmented image, as a picture.
    ///
    /// # Errors
    /// As [`Pipeline::output_sizes`].
    pub fn augment(&self, image: &Image, stream: Stream) -> Result<Image, Error> {
        let drawn = self.draw(image.width(), image.height(), stream)?;
        Self::replay_as(image, &drawn, self.exact)
    }
}

fn refused(step: usize, operation: &'static str, problem: String) -> Error {
    Error::Operation {
        step,
        operation,
        problem,
    }
}

impl Checked {
    /// Checks that an image of this size and with these channels is one that was expected.
    fn admit(&self, size: Size, found: usize) -> Result<(), String> {
        let Sizes { least, most } = self.input;
        let [.., channels] = self.output;
        let within = (least.width..=most.width).contains(&size.width)
            && (least.height..=most.height).contains(&size.height)
            && found == channels;
        within.then_some(()).ok_or_else(|| {
            format!(
                "expected an image of {} with {channels} channels, found {size} with {found}",
                self.input
            )
        })
    }

    /// What the operations draw for an admitted image with this label; returns what becomes of it.
    fn draw(
        &self,
        mut label: u32,
        mut size: Size,
        stream: Stream,
        parameters: &mut Vec<Parameters>,
    ) -> u32 {
        parameters.clear();
        for (step, operation) in self.operations.iter().enumerate() {
            let drawn = operation.draw_for(Some(label), size, &mut stream.operation(step));
            label = drawn.label(label);
            // What an operation draws for a size that it accepts fits it.
            size = drawn.check(size).unwrap_or(size);
            parameters.push(drawn);
        }
        label
    }

    /// Augments what an image's first operations take of it, then converts that. Returns its label. `pixels` is memory,
    /// kept between images.
    pub fn write_of(
        &self,
        image: &Image,
        label: u32,
        pixels: &mut Vec<u8>,
        stream: Stream,
        memory: &mut Memory,
        output: &mut [f32],
    ) -> Result<u32, String> {
        let size = Size::new(image.width(), image.height());
        self.admit(size, image.channels())?;
        let label = self.draw(label, size, stream, &mut memory.parameters);
        let mut plan = Plan::new(&memory.parameters, size, image.channels(), self.exact);
        let mut first = plan.take_first(size);
        let part = first.part([1; 2], size);
        let mut image = image.part(part, std::mem::take(pixels));
        first.apply(&mut image, &mut memory.scratch);
        let last = plan.run(&mut image, &mut memory.scratch);
        self.tables.write(&mut image, last, output);
        *pixels = image.into_pixels();
        Ok(label)
    }

    /// Augments an image in place, then converts it. Returns its label.
    pub fn write(
        &self,
        image: &mut Image,
        label: u32,
        stream: Stream,
        memory: &mut Memory,
        output: &mut [f32],
    ) -> Result<u32, String> {
        let size = Size::new(image.width(), image.height());
        self.admit(size, image.channels())?;
        let label = self.draw(label, size, stream, &mut memory.parameters);
        let plan = Plan::new(&memory.parameters, size, image.channels(), self.exact);
        let last = plan.run(image, &mut memory.scratch);
        self.tables.write(image, last, output);
        Ok(label)
    }

    /// Decodes a file as far as it is needed, augments what comes of it, and converts it. Returns its label. `pixels` is
    /// memory for them, kept between images.
    pub fn write_file(
        &self,
        file: Encoded<'_>,
        label: u32,
        pixels: &mut Vec<u8>,
        stream: Stream,
        memory: &mut Memory,
        output: &mut [f32],
    ) -> Result<u32, String> {
        let (size, channels) = (file.size(), file.channels());
        self.admit(size, channels)?;
        let label = self.draw(label, size, stream, &mut memory.parameters);
        let mut plan = Plan::new(&memory.parameters, size, channels, self.exact);
        let first = plan.take_first(size);
        let (pixels_of, scratch) = (std::mem::take(pixels), &mut memory.scratch);
        let image = file.resample(first, self.exact, pixels_of, scratch, &mut memory.jpeg);
        let mut image = image.map_err(|error| error.to_string())?;
        let last = plan.run(&mut image, &mut memory.scratch);
        self.tables.write(&mut image, last, output);
        *pixels = image.into_pixels();
        Ok(label)
    }
}

impl Memory {
    /// Exchanges this memory, that of the next image's pixels, for a larger one.
    pub fn keep_larger(&mut self, pixels: &mut Vec<u8>) {
        if self.scratch.capacity() > pixels.capacity() {
            std::mem::swap(&mut self.scratch, pixels);
        }
    }
}

/// What a thread keeps between images.
#[derive(Default)]
pub(crate) struct Memory {
    scratch: Vec<u8>,
    parameters: Vec<Parameters>,
    jpeg: JpegMemory,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cutout, HorizontalFlip, PadMode, RandomCrop, Sample};
    use proptest::prelude::*;

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
            exact: false,
        }
    }

    fn stream(index: usize) -> Stream {
        Stream::new(7, Sample { epoch: 2, index })
    }

    /// The definition: the pixel that the operations, last to first, fetch from the image.
    fn pixel(image: &Image, done: &[Parameters], x: isize, y: isize) -> Vec<u8> {
        let channels = image.channels();
        let Some((last, before)) = done.split_last() else {
            return image.pixel(x as usize, y as usize).to_vec();
        };
        // What goes into the last operation has the size of the crop before it, or the image's.
        let size = before.iter().rev().find_map(|parameters| match parameters {
            Parameters::RandomCrop(window) => Some((window.width, window.height)),
            _ => None,
        });
        let (w, h) = size.unwrap_or((image.width(), image.height()));
        let (w, h) = (w as isize, h as isize);
        match last {
            Parameters::HorizontalFlip(flip) if flip.flipped => pixel(image, before, w - 1 - x, y),
            Parameters::HorizontalFlip(_) => pixel(image, before, x, y),
            Parameters::Cutout(squares) => {
                let side = squares.size as isize;
                let inside = |&(left, top): &(isize, isize)| {
                    (left..left + side).contains(&x) && (top..top + side).contains(&y)
                };
                if squares.corners.iter().any(inside) {
                    vec![squares.fill; channels]
                } else {
                    pixel(image, before, x, y)
                }
            }
            Parameters::RandomCrop(window) => {
                let (x, y) = (x + window.left, y + window.top);
                let mirror = |v: isize, last: isize| last - (last - v.abs()).abs();
                let inside = (0..w).contains(&x) && (0..h).contains(&y);
                let (x, y) = match window.mode {
                    PadMode::Constant(value) if !inside => return vec![value; channels],
                    PadMode::Reflect => (mirror(x, w - 1), mirror(y, h - 1)),
                    _ => (x.clamp(0, w - 1), y.clamp(0, h - 1)),
                };
                pixel(image, before, x, y)
            }
            other => unreachable!("{} is not among the operations here", other.name()),
        }
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        let mode = prop_oneof![
            any::<u8>().prop_map(PadMode::Constant),
            Just(PadMode::Edge),
            Just(PadMode::Reflect),
        ];
        prop_oneof![
            (0.0..=1.0).prop_map(|probability| {
                Operation::HorizontalFlip(HorizontalFlip { probability })
            }),
            (1..9_usize, 1..9_usize, 0..4_usize, mode).prop_map(
                |(height, width, padding, mode)| {
                    Operation::RandomCrop(RandomCrop {
                        height,
                        width,
                        padding,
                        mode,
                    })
                }
            ),
            (1..6_usize, 1..4_usize, any::<u8>(), 0.0..=1.0).prop_map(
                |(size, count, fill, probability)| {
                    Operation::Cutout(Cutout {
                        size,
                        count,
                        fill,
                        probability,
                    })
                }
            ),
        ]
    }

    proptest! {
           /// Of any pipeline that fits, on images of any shape: the numbers, the picture and the
           /// definition agree.
           #[test]
           fn numbers_and_picture_match_the_definition(
               operations in prop::collection::vec(any_operation(), 0..6),
               width in 1..9_usize,
               height in 1..9_usize,
               channels in 1..5_usize,
               index in 0..1000_usize,
           ) {
               let normalize = Normalize {
                   mean: vec![0.0; channels],
                   std: vec![1.0 / 255.0; channels],
               };
               let pipeline = Pipeline {
    operations,
    normalize,
    exact: false,
    };
               let Ok(checked) = pipeline.check(Size::new(width, height).into(), channels) else {
                   return Ok(()); // does not fit
               };
               let pixels = (0..width * height * channels).map(|i| (i * 31 % 256) as u8).collect();
               let image = Image::new(width, height, channels, pixels).unwrap();
               let parameters = pipeline.draw(width, height, stream(index)).unwrap();

               let text = serde_json::to_string(&parameters).unwrap();
               let recorded: Vec<Parameters> = serde_json::from_str(&text).unwrap();
               let picture = Pipeline::replay(&image, &recorded).unwrap();
               prop_assert_eq!(&picture, &pipeline.augment(&image, stream(index)).unwrap());
               let [w, h, c] = checked.output;
               prop_assert_eq!([picture.width(), picture.height(), picture.channels()], [w, h, c]);

               let mut numbers = vec![f32::NAN; w * h * c];
               let memory = &mut Memory::default();
               checked.write(&mut image.clone(), 0, stream(index), memory, &mut numbers).unwrap();
               for y in 0..h {
                   for x in 0..w {
                       let expected = pixel(&image, &parameters, x as isize, y as isize);
                       prop_assert_eq!(picture.pixel(x, y), &expected[..]);
                       for (channel, &level) in expected.iter().enumerate() {
                           let number = numbers[(channel * h + y) * w + x];
                           prop_assert!((number - f32::from(level)).abs() < 1e-4);
                       }
                   }
               }
           }
       }

    /// Pins the randomness: a change here changes every augmented batch.
    #[test]
    fn draws_are_pinned() {
        let draws = (10..16).map(|index| {
            let draw = pipeline().draw(6, 5, stream(index)).unwrap();
            serde_json::to_string(&draw).unwrap() + "\n"
        });
        assert_eq!(
            draws.collect::<String>(),
            include_str!("pinned-draws.jsonl")
        );
    }

    #[test]
    fn survives_serde_and_refuses_unknown_fields() {
        let text = serde_json::to_string(&pipeline()).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline());
        for field in ["probability", "padding", "size", "mean", "op\""] {
            let typo = text.replacen(field, &format!("x{field}"), 1);
            let error = serde_json::from_str::<Pipeline>(&typo).unwrap_err();
            assert!(error.to_string().contains("field"), "{typo}: {error}");
        }
        let draw = pipeline().draw(6, 5, stream(11)).unwrap();
        for parameters in draw {
            let text = serde_json::to_string(&parameters).unwrap();
            let extra = text.replacen('{', "{\"extra\":1,", 1);
            let error = serde_json::from_str::<Parameters>(&extra).unwrap_err();
            assert!(error.to_string().contains("extra"), "{error}");
        }
    }

    #[test]
    fn a_recipe_may_leave_out_what_is_usual() {
        let text = r#"
            operations = [
                { op = "horizontal_flip" },
                { op = "random_crop", height = 28, width = 28, padding = 2 },
                { op = "random_crop", height = 28, width = 28, mode = { constant = 7 } },
                { op = "random_crop", height = 28, width = 28, mode = "reflect" },
                { op = "cutout", size = 8 },
            ]
            normalize = { mean = [0.3], std = [0.3] }
        "#;
        let crop = |padding, mode| {
            Operation::RandomCrop(RandomCrop {
                height: 28,
                width: 28,
                padding,
                mode,
            })
        };
        let expected = [
            Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
            crop(2, PadMode::Constant(0)),
            crop(0, PadMode::Constant(7)),
            crop(0, PadMode::Reflect),
            Operation::Cutout(Cutout {
                size: 8,
                count: 1,
                fill: 0,
                probability: 1.0,
            }),
        ];
        let pipeline: Pipeline = toml::from_str(text).unwrap();
        assert_eq!(pipeline.operations, expected);
    }

    #[test]
    fn errors_name_step_and_field() {
        let error = pipeline().output_size(1, 1).unwrap_err().to_string();
        assert!(error.starts_with("step 1 (random_crop): width"), "{error}");
        let error = pipeline().draw(1, 1, stream(0)).unwrap_err().to_string();
        assert!(error.starts_with("step 1 (random_crop): width"), "{error}");
    }

    #[test]
    fn a_pipeline_of_many_sizes_ends_in_one_or_is_no_source_of_batches() {
        let text = r#"
            operations = [
                { op = "scale_jitter", side = [256, 480] },
                { op = "center_crop", height = 224, width = 224 },
            ]
            normalize = { mean = [0.3], std = [0.3] }
        "#;
        let mut pipeline: Pipeline = toml::from_str(text).unwrap();
        assert_eq!(pipeline.output_size(500, 375).unwrap(), (224, 224));
        assert_eq!(
            pipeline
                .check(Size::new(500, 375).into(), 1)
                .unwrap()
                .output,
            [224, 224, 1]
        );
        pipeline.operations.pop();
        let sizes = pipeline.output_sizes(500, 375).unwrap();
        assert_eq!(sizes.to_string(), "341–640×256–480");
        for error in [
            pipeline.output_size(500, 375).unwrap_err(),
            pipeline.check(Size::new(500, 375).into(), 1).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("341–640×256–480 pixels"), "{error}");
            assert!(error.contains("end with"), "{error}");
        }
        // A picture has whatever size was drawn.
        assert!(pipeline.draw(500, 375, stream(0)).is_ok());
    }

    #[test]
    fn sizes_that_no_image_has_are_refused() {
        for (width, height) in [(0, 5), (6, 0), (usize::MAX, usize::MAX)] {
            assert!(pipeline().output_size(width, height).is_err());
            assert!(pipeline().draw(width, height, stream(0)).is_err());
            assert!(
                pipeline()
                    .check(Size::new(width, height).into(), 1)
                    .is_err()
            );
        }
        assert!(pipeline().check(Size::new(6, 5).into(), 0).is_err());
    }

    #[test]
    fn recorded_parameters_that_do_not_fit_are_refused() {
        let image = Image::new(6, 5, 1, vec![0; 30]).unwrap();
        for (parameters, problem) in [
            (
                r#"[{"op":"cutout","corners":[[9223372036854775807,0]],"size":2,"fill":9}]"#,
                "step 0 (cutout): corners",
            ),
            (
                r#"[{"op":"horizontal_flip","flipped":true},
                    {"op":"random_crop","left":-5,"top":0,"width":99,"height":5,"mode":"reflect"}]"#,
                "step 1 (random_crop): left",
            ),
        ] {
            let parameters: Vec<Parameters> = serde_json::from_str(parameters).unwrap();
            let error = Pipeline::replay(&image, &parameters).unwrap_err();
            assert!(error.to_string().starts_with(problem), "{error}");
        }
    }
}
