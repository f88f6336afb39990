//! Center crop; and the five and ten crops that predictions are averaged over.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::crop::{PadMode, Window};
use super::flip::Flipped;
use super::{Draw, Parameters, check};
use crate::Error;
use crate::size::{Size, Sizes};

/// The window in the middle. Nothing is drawn.
///
/// Dialect: torchvision's `CenterCrop`, which rounds halves to even; an image that is smaller than the
/// window is an error here, while torchvision pads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Rows of the window.
    pub height: usize,
    /// Columns of the window.
    pub width: usize,
}

impl Draw for CenterCrop {
    type Parameters = Window;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::count("width", self.width, 1..=sizes.least.width)?;
        check::count("height", self.height, 1..=sizes.least.height)?;
        Ok(Size::new(self.width, self.height).into())
    }

    fn draw(&self, size: Size, _: &mut Draws) -> Window {
        let start = |image: usize, window: usize| {
            let half = (image - window) as f64 / 2.0;
            half.round_ties_even() as isize
        };
        Window {
            left: start(size.width, self.width),
            top: start(size.height, self.height),
            width: self.width,
            height: self.height,
            mode: PadMode::default(),
        }
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

/// The four corners of an image and its middle, as views: parameters to replay.
///
/// Dialect: torchvision's `FiveCrop`: top left, top right, bottom left, bottom right, middle.
///
/// # Errors
/// If the window is larger than the image.
pub fn five_crop(image: Size, window: Size) -> Result<[Vec<Parameters>; 5], Error> {
    let Size { width, height } = window;
    let middle = CenterCrop { height, width };
    let check = image.checked().and_then(|size| middle.check(size.into()));
    check.map_err(|problem| Error::View(format!("five crop: {problem}")))?;
    let middle = middle.draw(image, &mut evenkeel_random::Key::from_seed(0).draws());
    let (right, bottom) = (image.width - width, image.height - height);
    let corner = |left: usize, top: usize| Window {
        left: left as isize,
        top: top as isize,
        ..middle
    };
    let windows = [
        corner(0, 0),
        corner(right, 0),
        corner(0, bottom),
        corner(right, bottom),
        middle,
    ];
    Ok(windows.map(|window| vec![Parameters::CenterCrop(window)]))
}

/// The five crops of an image and of its mirror image, as views: parameters to replay.
///
/// Dialect: torchvision's `TenCrop`.
///
/// # Errors
/// If the window is larger than the image.
pub fn ten_crop(image: Size, window: Size) -> Result<[Vec<Parameters>; 10], Error> {
    let crops = five_crop(image, window)?;
    Ok(std::array::from_fn(|view| {
        let flip = Parameters::HorizontalFlip(Flipped { flipped: true });
        let flip = (view >= 5).then_some(flip);
        flip.into_iter().chain(crops[view % 5].clone()).collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Pipeline};

    #[test]
    fn ten_crops_are_where_they_should_be() {
        let image = Image::new(5, 4, 1, (0..20).collect()).unwrap();
        let views = ten_crop(Size::new(5, 4), Size::new(2, 3)).unwrap();
        let found = views.map(|view| Pipeline::replay(&image, &view).unwrap().into_pixels());
        let at = |left: u8, top: u8| {
            let rows = [top, top + 1, top + 2].map(|y| 5 * y + left);
            rows.iter()
                .flat_map(|&start| [start, start + 1])
                .collect::<Vec<u8>>()
        };
        // (5 − 2)/2 and (4 − 3)/2 are rounded to even.
        let expected = [at(0, 0), at(3, 0), at(0, 1), at(3, 1), at(2, 0)];
        assert_eq!(found[..5], expected);
        let mirrored = |pixels: &Vec<u8>| -> Vec<u8> {
            pixels
                .iter()
                .map(|&level| level / 5 * 5 + 4 - level % 5)
                .collect()
        };
        let expected: Vec<_> = expected.iter().map(mirrored).collect();
        assert_eq!(found[5..], expected);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        for (image, window) in [((5, 4), (6, 1)), ((5, 4), (1, 0)), ((0, 4), (1, 1))] {
            let size = |(width, height)| Size { width, height };
            assert!(five_crop(size(image), size(window)).is_err());
            assert!(ten_crop(size(image), size(window)).is_err());
        }
    }
}
