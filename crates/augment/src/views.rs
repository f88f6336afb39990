//! Views of an image at test: what predictions are averaged over.
//!
//! A view is operations that draw nothing, which end in the size that the net sees. Which views there are may
//! depend on the image's size; two of them that show the same pixels, such as the corners of an image that is no
//! larger than the crop, are made once. How much each counts is told by its weight.
//!
//! Sources: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
//! Networks" (2012), for ten crops; Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
//! Image Recognition" (2015), for several scales.

use evenkeel_random::Key;
use serde::{Deserialize, Serialize};

use crate::{
    CenterCrop, Error, Filter, HorizontalFlip, Operation, Parameters, Pipeline, Resize, ResizeTo,
    Shape, Size, five_crop,
};

/// The views of each image that a prediction is averaged over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Views {
    /// The image itself.
    #[default]
    Single,
    /// The image and its mirror image.
    Flips,
    /// Four corners, the middle, and the same of the mirror image.
    TenCrop {
        /// Rows of a crop.
        height: usize,
        /// Columns of a crop.
        width: usize,
    },
    /// Crops at several sizes of the image.
    MultiScale(MultiScale),
    /// Any list: each a view, its operations drawing nothing.
    List(Vec<Vec<Operation>>),
}

/// Crops at several sizes of the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiScale {
    /// The sides that the image is resized to.
    #[serde(default = "residual_nets")]
    pub sides: Vec<usize>,
    /// Which side that is: the short one, or both.
    #[serde(default)]
    pub shape: Shape,
    /// Rows of a crop.
    pub height: usize,
    /// Columns of a crop.
    pub width: usize,
    /// Where crops are.
    #[serde(default)]
    pub crops: Crops,
    /// Whether each crop's mirror image is a view too.
    #[serde(default = "yes")]
    pub flips: bool,
    /// What coinciding crops count.
    #[serde(default)]
    pub coinciding: Coinciding,
    /// What a pixel of a resized image is made of.
    #[serde(default)]
    pub filter: Filter,
}

/// Where crops are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crops {
    /// In the middle.
    Middle,
    /// In the four corners and the middle.
    #[default]
    Five,
}

/// What views that show the same pixels count. They are made once either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coinciding {
    /// As much as any other view: an average over different views.
    #[default]
    Once,
    /// As much as there are of them: the average over the list as it is written.
    Each,
}

/// A view of one image: parameters to replay, and its share of the average.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// For [`Pipeline::replay`].
    pub parameters: Vec<Parameters>,
    /// Those of all views of an image add up to 1.
    pub weight: f64,
}

/// He et al., "Deep Residual Learning for Image Recognition" (2016).
fn residual_nets() -> Vec<usize> {
    vec![224, 256, 384, 480, 640]
}

fn yes() -> bool {
    true
}

const MOST_VIEWS: usize = 10_000;

impl Views {
    /// The views of an image of this size, none twice.
    ///
    /// # Errors
    /// If there are none or more than 10,000, an operation draws, a crop does not fit, or the views have
    /// different sizes: names the view, the step and the field.
    pub fn of(&self, image: Size) -> Result<Vec<View>, Error> {
        let lists = self.lists(image)?;
        if !(1..=MOST_VIEWS).contains(&lists.len()) {
            let found = lists.len();
            return Err(Error::View(format!(
                "expected 1 to {MOST_VIEWS} views, found {found}"
            )));
        }
        let each =
            matches!(self, Self::MultiScale(scales) if scales.coinciding == Coinciding::Each);
        let mut views: Vec<View> = Vec::new();
        let mut size = None;
        for (index, parameters) in lists.into_iter().enumerate() {
            let of_view = output(image, &parameters).map_err(|problem| refused(index, problem))?;
            let first = *size.get_or_insert(of_view);
            if of_view != first {
                let problem =
                    format!("expected views of one size, {first} as the first, found {of_view}");
                return Err(refused(index, problem));
            }
            let parameters = plain(image, parameters);
            match views.iter_mut().find(|view| view.parameters == parameters) {
                Some(view) if each => view.weight += 1.0,
                Some(_) => {}
                None => views.push(View {
                    parameters,
                    weight: 1.0,
                }),
            }
        }
        let total: f64 = views.iter().map(|view| view.weight).sum();
        views.iter_mut().for_each(|view| view.weight /= total);
        Ok(views)
    }

    /// How many views there are of an image of which none coincide.
    pub fn most(&self) -> usize {
        match self {
            Self::Single => 1,
            Self::Flips => 2,
            Self::TenCrop { .. } => 10,
            Self::MultiScale(scales) => {
                let crops = match scales.crops {
                    Crops::Middle => 1,
                    Crops::Five => 5,
                };
                scales.sides.len() * crops * (1 + usize::from(scales.flips))
            }
            Self::List(views) => views.len(),
        }
    }

    /// The size of each view of an image of this size.
    ///
    /// # Errors
    /// As [`Views::of`].
    pub fn size(&self, image: Size) -> Result<Size, Error> {
        let views = self.of(image)?;
        // There is one at least.
        let parameters = views.first().map_or(&[][..], |view| &view.parameters);
        output(image, parameters).map_err(|problem| refused(0, problem))
    }

    fn lists(&self, image: Size) -> Result<Vec<Vec<Parameters>>, Error> {
        let flip = || Operation::HorizontalFlip(HorizontalFlip { probability: 1.0 });
        match self {
            Self::Single => Ok(vec![Vec::new()]),
            Self::Flips => Ok(vec![Vec::new(), drawn(0, image, &[flip()])?]),
            Self::TenCrop { height, width } => {
                let views = crate::ten_crop(image, Size::new(*width, *height))?;
                Ok(views.into())
            }
            Self::MultiScale(scales) => scales.lists(image, flip()),
            Self::List(views) => {
                let views = views.iter().enumerate();
                views
                    .map(|(index, operations)| drawn(index, image, operations))
                    .collect()
            }
        }
    }
}

impl MultiScale {
    fn lists(&self, image: Size, flip: Operation) -> Result<Vec<Vec<Parameters>>, Error> {
        let mut lists = Vec::new();
        let window = Size::new(self.width, self.height);
        for (index, &side) in self.sides.iter().enumerate() {
            let to = match self.shape {
                Shape::ShortSide => ResizeTo::ShortSide(side),
                Shape::Square => ResizeTo::Size {
                    width: side,
                    height: side,
                },
            };
            let resize = Operation::Resize(Resize {
                to,
                filter: self.filter,
                antialias: true,
            });
            let resized = drawn(index, image, &[resize])?;
            let size = output(image, &resized).map_err(|problem| refused(index, problem))?;
            let crops = match self.crops {
                Crops::Five => five_crop(size, window)?.to_vec(),
                Crops::Middle => {
                    let crop = CenterCrop {
                        height: self.height,
                        width: self.width,
                    };
                    vec![drawn(index, size, &[Operation::CenterCrop(crop)])?]
                }
            };
            for crop in crops {
                let view: Vec<_> = resized.iter().cloned().chain(crop).collect();
                if self.flips {
                    let mirrored = drawn(index, window, std::slice::from_ref(&flip))?;
                    lists.push(view.iter().cloned().chain(mirrored).collect());
                }
                lists.push(view);
            }
        }
        Ok(lists)
    }
}

fn refused(view: usize, problem: impl std::fmt::Display) -> Error {
    Error::View(format!("view {view}: {problem}"))
}

/// The parameters of operations that draw nothing.
fn drawn(view: usize, mut size: Size, operations: &[Operation]) -> Result<Vec<Parameters>, Error> {
    let mut parameters = Vec::with_capacity(operations.len());
    for (step, operation) in operations.iter().enumerate() {
        let refuse = |problem: String| {
            refused(
                view,
                format!("step {step} ({}): {problem}", operation.name()),
            )
        };
        operation.check_nesting().map_err(refuse)?;
        if !operation.is_fixed() {
            return Err(refuse("expected an operation that draws nothing".into()));
        }
        operation
            .check(size.checked().map_err(refuse)?.into())
            .map_err(refuse)?;
        // It draws nothing, so any key will do.
        let of_step = operation.draw(size, &mut Key::from_seed(0).draws());
        size = of_step.check(size).map_err(refuse)?;
        parameters.push(of_step);
    }
    Ok(parameters)
}

/// The size of what comes out.
fn output(image: Size, parameters: &[Parameters]) -> Result<Size, String> {
    parameters
        .iter()
        .try_fold(image.checked()?, |size, step| step.check(size))
}

/// Without the steps that change nothing, so that equal views are equal parameters: resizes to the size that
/// there is, crops of all there is, flips that do not flip.
fn plain(image: Size, parameters: Vec<Parameters>) -> Vec<Parameters> {
    let mut size = image;
    let mut kept = Vec::with_capacity(parameters.len());
    for step in parameters {
        let changes = match &step {
            Parameters::Resize(to) => (to.width, to.height) != (size.width, size.height),
            Parameters::CenterCrop(window) | Parameters::Pad(window) => {
                (window.left, window.top, window.width, window.height)
                    != (0, 0, size.width, size.height)
            }
            Parameters::HorizontalFlip(flip) => flip.flipped,
            Parameters::VerticalFlip(flip) => flip.flipped,
            _ => true,
        };
        // `output` has been through all of them.
        size = step.check(size).unwrap_or(size);
        if changes {
            kept.push(step);
        }
    }
    kept
}

impl View {
    /// Whether it is the image itself.
    pub fn is_whole(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The picture that the net sees.
    ///
    /// # Errors
    /// If the image is not of the size that the view was made for.
    pub fn of(&self, image: &crate::Image) -> Result<crate::Image, Error> {
        Pipeline::replay(image, &self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    fn image(width: usize, height: usize) -> Image {
        let pixels = (0..width * height).map(|i| (i * 37 % 251) as u8).collect();
        Image::new(width, height, 1, pixels).unwrap()
    }

    fn views(text: &str) -> Views {
        toml::from_str::<std::collections::BTreeMap<String, Views>>(text)
            .unwrap()
            .remove("views")
            .unwrap()
    }

    #[test]
    fn data_survives_serde() {
        for text in [
            "views = \"single\"",
            "views = \"flips\"",
            "views = { ten_crop = { height = 3, width = 4 } }",
            "views = { multi_scale = { height = 3, width = 4, sides = [5, 6], shape = \"square\", crops = \
             \"middle\", flips = false, coinciding = \"each\" } }",
            "views = { list = [[], [{ op = \"vertical_flip\", probability = 1.0 }]] }",
        ] {
            let views = views(text);
            let again = serde_json::from_str(&serde_json::to_string(&views).unwrap()).unwrap();
            assert_eq!(views, again);
        }
        assert!(toml::from_str::<MultiScale>("height = 3\nwidth = 3\nwidht = 3").is_err());
    }

    #[test]
    fn each_view_is_what_its_operations_make() {
        let photo = image(9, 7);
        let views = views("views = { multi_scale = { height = 5, width = 6, sides = [7, 8] } }");
        let views = views.of(Size::new(9, 7)).unwrap();
        assert_eq!(views.len(), 20);
        let pictures: Vec<_> = views.iter().map(|view| view.of(&photo).unwrap()).collect();
        assert!(
            pictures
                .iter()
                .all(|picture| (picture.width(), picture.height()) == (6, 5))
        );
        // Of the first scale, which is the image's own: its mirrored top left corner, then the corner.
        assert_eq!(pictures[1].pixel(0, 0), photo.pixel(0, 0));
        assert_eq!(pictures[0].pixel(5, 0), photo.pixel(0, 0));
        assert_eq!(pictures[7].pixel(5, 4), photo.pixel(8, 6));
        for (i, a) in pictures.iter().enumerate() {
            assert!(
                pictures[..i].iter().all(|b| a != b),
                "views {i} and an earlier one are equal"
            );
        }
    }

    #[test]
    fn crops_that_coincide_are_made_once_and_count_once_or_each() {
        let scales = |coinciding| {
            views(&format!(
                "views = {{ multi_scale = {{ height = 8, width = 8, sides = [8, 12], shape = \"square\", \
                 flips = false, coinciding = \"{coinciding}\" }} }}"
            ))
        };
        let weights = |views: Views| -> Vec<f64> {
            views
                .of(Size::new(10, 10))
                .unwrap()
                .iter()
                .map(|view| view.weight)
                .collect()
        };
        assert_eq!(scales("once").most(), 10);
        assert_eq!(scales("once").size(Size::new(10, 10)), Ok(Size::new(8, 8)));
        assert_eq!(weights(scales("once")), [1.0 / 6.0; 6]);
        assert_eq!(weights(scales("each")), [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]);
        let whole = Views::TenCrop {
            height: 10,
            width: 10,
        }
        .of(Size::new(10, 10))
        .unwrap();
        assert_eq!(whole.len(), 2);
        assert!(whole[0].is_whole() && whole[0].weight == 0.5);
    }

    #[test]
    fn flips_are_the_image_and_its_mirror_image() {
        let photo = image(3, 2);
        let views = Views::Flips.of(Size::new(3, 2)).unwrap();
        assert_eq!(views.len(), 2);
        assert_eq!(views[0].of(&photo).unwrap(), photo);
        assert_eq!(views[1].of(&photo).unwrap().pixel(0, 1), photo.pixel(2, 1));
        assert_eq!(Views::Single.of(Size::new(3, 2)).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_view_is_refused() {
        for (text, problem) in [
            (
                "views = { list = [] }",
                "expected 1 to 10000 views, found 0",
            ),
            (
                "views = { multi_scale = { height = 3, width = 3, sides = [] } }",
                "found 0",
            ),
            (
                "views = { list = [[{ op = \"horizontal_flip\" }]] }",
                "view 0: step 0 (horizontal_flip): expected an operation that draws nothing",
            ),
            (
                "views = { list = [[], [{ op = \"center_crop\", height = 2, width = 2 }]] }",
                "view 1: expected views of one size, 9×7 as the first, found 2×2",
            ),
            (
                "views = { list = [[{ op = \"center_crop\", height = 20, width = 2 }]] }",
                "view 0: step 0 (center_crop): height",
            ),
            (
                "views = { multi_scale = { height = 30, width = 3, sides = [8] } }",
                "five crop: height",
            ),
            ("views = { ten_crop = { height = 8, width = 3 } }", "height"),
        ] {
            let error = views(text).of(Size::new(9, 7)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
