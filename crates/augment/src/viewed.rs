//! Views of images as examples: a row holds all views of an image, then what each counts.

use crate::convert::Tables;
use crate::ops::Colours;
use crate::views::View;
use crate::{
    Error, ExampleWriter, Examples, ImageSource, Normalize, Operation, Pipeline, Sample, Size,
    Stream, Views,
};

/// Images through operations that draw nothing, then as all of their views.
///
/// A row is [`most`](ViewedImages::most) pictures of channels·height·width numbers, one after the other, and
/// then as many weights, which add up to 1. An image of which some views coincide has fewer: the pictures
/// behind them are zeros, and weigh nothing.
pub struct ViewedImages<S> {
    source: S,
    before: Pipeline,
    views: Views,
    tables: Tables,
    most: usize,
    size: Size,
}

impl<S: ImageSource> ViewedImages<S> {
    /// # Errors
    /// If an operation draws, or the operations or the views do not fit the images: names the step or the view.
    pub fn new(
        source: S,
        before: Vec<Operation>,
        views: Views,
        normalize: Normalize,
    ) -> Result<Self, Error> {
        if let Some(step) = before.iter().position(|operation| !operation.is_fixed()) {
            return Err(Error::Operation {
                step,
                operation: before[step].name(),
                problem: "before views, expected operations that draw nothing".into(),
            });
        }
        let tables = normalize.tables(source.channels())?;
        let before = Pipeline {
            operations: before,
            normalize,
            exact: true,
        };
        // The smallest tells whether crops fit, and the size that comes out of every one.
        let sizes = before.sizes(source.sizes())?;
        let size = views.size(sizes.least)?;
        views.size(sizes.most)?;
        Ok(Self {
            most: views.most(),
            source,
            before,
            views,
            tables,
            size,
        })
    }

    /// The views of an image of which none coincide.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Of each view.
    pub fn size(&self) -> Size {
        self.size
    }

    fn numbers(&self) -> usize {
        self.source.channels() * self.size.width * self.size.height
    }
}

impl<S: ImageSource> Examples for ViewedImages<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn features(&self) -> usize {
        self.most * (self.numbers() + 1)
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(ViewWriter {
            images: self,
            known: None,
        })
    }
}

struct ViewWriter<'a, S> {
    images: &'a ViewedImages<S>,
    /// The views of the last image: those of most images are the same.
    known: Option<(Size, Vec<View>)>,
}

impl<S: ImageSource> ViewWriter<'_, S> {
    fn views(&mut self, size: Size) -> Result<&[View], Error> {
        if self.known.as_ref().is_none_or(|(known, _)| *known != size) {
            let ViewedImages {
                views, size: seen, ..
            } = self.images;
            let found = views.size(size)?;
            if found != *seen {
                let problem = format!(
                    "expected views of {seen} of every image, found {found} of one of {size}"
                );
                return Err(Error::View(problem));
            }
            self.known = Some((size, views.of(size)?));
        }
        Ok(self.known.as_ref().map_or(&[], |(_, views)| views))
    }
}

impl<S: ImageSource> ExampleWriter for ViewWriter<'_, S> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let ViewedImages {
            source,
            before,
            tables,
            ..
        } = self.images;
        let numbers = self.images.numbers();
        let index = sample.index;
        let told = |error: Error| Error::Example {
            index,
            problem: error.to_string(),
        };
        let read;
        let image = match source.image(index) {
            Some(image) => image,
            None => {
                read = source.read(index, Vec::new())?;
                &read
            }
        };
        let image = before
            .augment(image, Stream::new(0, sample))
            .map_err(told)?;
        let (pictures, weights) = features.split_at_mut(self.images.most * numbers);
        pictures.fill(0.0);
        weights.fill(0.0);
        let views = self
            .views(Size::new(image.width(), image.height()))
            .map_err(told)?;
        let places = pictures.chunks_exact_mut(numbers).zip(weights);
        for (view, (picture, weight)) in views.iter().zip(places) {
            let mut seen = view.of(&image).map_err(told)?;
            tables.write(&mut seen, Colours::default(), picture);
            *weight = view.weight as f32;
        }
        Ok(source.label(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CenterCrop, HorizontalFlip, Image, Sizes};

    /// Gray images of 4×3 and 6×3, in turn.
    struct Two;

    impl ImageSource for Two {
        fn len(&self) -> usize {
            2
        }

        fn sizes(&self) -> Sizes {
            Sizes::from(Size::new(4, 3)).or(Size::new(6, 3).into())
        }

        fn channels(&self) -> usize {
            1
        }

        fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
            let width = 4 + 2 * index;
            memory.extend((0..3 * width as u8).map(|i| i * 10));
            Image::new(width, 3, 1, memory)
        }

        fn label(&self, index: usize) -> u32 {
            7 + index as u32
        }
    }

    fn levels() -> Normalize {
        Normalize {
            mean: vec![0.0],
            std: vec![1.0 / 255.0],
        }
    }

    #[test]
    fn a_row_is_the_views_and_their_weights() {
        let views = Views::TenCrop {
            height: 3,
            width: 4,
        };
        let images = ViewedImages::new(Two, Vec::new(), views.clone(), levels()).unwrap();
        assert_eq!((images.most(), images.features()), (10, 130));
        assert_eq!(images.size(), Size::new(4, 3));
        let mut writer = images.writer();
        // Of the small image all crops coincide; of the wide one, those above each other.
        for (index, count) in [(0, 2), (1, 6), (0, 2)] {
            let mut row = [f32::NAN; 130];
            let sample = Sample { epoch: 0, index };
            assert_eq!(writer.write(sample, &mut row), Ok(7 + index as u32));
            let (pictures, weights) = row.split_at(120);
            let expected = [vec![1.0 / count as f32; count], vec![0.0; 10 - count]].concat();
            assert_eq!(weights, expected);
            let image = Two.read(index, Vec::new()).unwrap();
            let size = Size::new(image.width(), image.height());
            let views = views.of(size).unwrap();
            assert_eq!(views.len(), count);
            for (view, picture) in views.iter().zip(pictures.chunks(12)) {
                let shown = view.of(&image).unwrap();
                for (number, level) in picture.iter().zip(shown.pixels()) {
                    assert!((number - f32::from(*level)).abs() < 1e-4);
                }
            }
            assert!(pictures[12 * count..].iter().all(|number| *number == 0.0));
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let told = |before: Vec<Operation>, views| {
            ViewedImages::new(Two, before, views, levels())
                .err()
                .unwrap()
                .to_string()
        };
        let flip = Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 });
        let problem = told(vec![flip], Views::Single);
        assert!(problem.contains("draw nothing"), "{problem}");
        let large = Views::TenCrop {
            height: 5,
            width: 4,
        };
        assert!(told(Vec::new(), large).contains("height"));
        // The views of images of several sizes would have several.
        let images = ViewedImages::new(Two, Vec::new(), Views::Single, levels()).unwrap();
        let mut row = vec![0.0; images.features()];
        let sample = Sample { epoch: 0, index: 1 };
        let error = images.writer().write(sample, &mut row).unwrap_err();
        assert!(
            error.to_string().contains("expected views of 4×3"),
            "{error}"
        );
        let crop = Operation::CenterCrop(CenterCrop {
            height: 3,
            width: 3,
        });
        let images = ViewedImages::new(Two, vec![crop], Views::Flips, levels()).unwrap();
        let mut row = vec![0.0; images.features()];
        images.writer().write(sample, &mut row).unwrap();
    }
}
