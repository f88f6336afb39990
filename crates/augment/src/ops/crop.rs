//! Random crop, with padding.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw};
use crate::Image;
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// Pads all four sides, then cuts out a window of this size at a uniformly random place.
///
/// Dialect: torchvision's `RandomCrop(size, padding, padding_mode)` with one padding for all sides.
/// As there without `pad_if_needed`, a window larger than the padded image is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Rows of the window.
    pub height: usize,
    /// Columns of the window.
    pub width: usize,
    /// Pixels added on each side.
    #[serde(default)]
    pub padding: usize,
    /// What is added.
    #[serde(default)]
    pub mode: PadMode,
}

/// What a padded pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// This value in every channel.
    Constant(u8),
    /// The nearest pixel of the image.
    Edge,
    /// The image mirrored at its border pixel, which is not repeated.
    Reflect,
}

impl PadMode {
    /// A reflection reaches only as far as the image does.
    fn most_padding(self, image: usize) -> usize {
        match self {
            Self::Reflect => image - 1,
            Self::Constant(_) | Self::Edge => LONGEST_SIDE,
        }
    }
}

impl Default for PadMode {
    fn default() -> Self {
        Self::Constant(0)
    }
}

/// Where the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The window's left column, in the image's coordinates: negative in the padding.
    pub left: isize,
    /// The window's top row.
    pub top: isize,
    /// Its columns.
    pub width: usize,
    /// Its rows.
    pub height: usize,
    /// What is outside the image.
    pub mode: PadMode,
}

impl Draw for RandomCrop {
    type Parameters = Window;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        // What fits the smallest images fits all.
        let Size { width, height } = sizes.least;
        let Self { padding, mode, .. } = *self;
        if padding > LONGEST_SIDE {
            return Err(format!(
                "padding: expected at most {LONGEST_SIDE}, found {padding}"
            ));
        }
        for (name, size, image) in [
            ("width", self.width, width),
            ("height", self.height, height),
        ] {
            let padded = image + 2 * padding;
            if !(1..=padded).contains(&size) {
                return Err(format!(
                    "{name}: expected 1 to {padded} (the image's {image} and the padding on both \
                     sides), found {size}"
                ));
            }
            if padding > mode.most_padding(image) {
                return Err(format!(
                    "padding: to reflect an image of {name} {image}, expected below {image}, \
                     found {padding}"
                ));
            }
        }
        Ok(Size::new(self.width, self.height).checked()?.into())
    }

    fn draw(&self, Size { width, height }: Size, draws: &mut Draws) -> Window {
        let mut start = |size: usize, image: usize| {
            // `check` bounds both: the number of places is positive and fits 32 bits.
            let places = image + 2 * self.padding - size + 1;
            let place = draws.below(u32::try_from(places).unwrap_or(u32::MAX));
            place as isize - self.padding as isize
        };
        let top = start(self.height, height);
        let left = start(self.width, width);
        Window {
            left,
            top,
            width: self.width,
            height: self.height,
            mode: self.mode,
        }
    }
}

impl Window {
    /// The image's coordinate at `position`; `None` in constant padding.
    fn source(&self, position: isize, size: usize) -> Option<usize> {
        let last = size as isize - 1;
        match self.mode {
            _ if (0..=last).contains(&position) => Some(position as usize),
            PadMode::Constant(_) => None,
            PadMode::Edge => Some(position.clamp(0, last) as usize),
            PadMode::Reflect if position < 0 => Some(position.unsigned_abs()),
            PadMode::Reflect => Some((2 * last - position) as usize),
        }
    }
}

impl Apply for Window {
    fn check(&self, Size { width, height }: Size) -> Result<Size, String> {
        let output = Size::new(self.width, self.height).checked()?;
        for (name, start, size, image) in [
            ("left", self.left, self.width, width),
            ("top", self.top, self.height, height),
        ] {
            let padding = self.mode.most_padding(image) as isize;
            let places = -padding..=image as isize + padding - size as isize;
            if !places.contains(&start) {
                return Err(format!(
                    "{name}: expected {} to {} for {size} of {image} pixels, found {start}",
                    places.start(),
                    places.end()
                ));
            }
        }
        Ok(output)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let Self {
            left,
            top,
            width,
            height,
            mode,
        } = *self;
        let same_size = (width, height) == (image.width(), image.height());
        if same_size && (left, top) == (0, 0) {
            return;
        }
        let fill = if let PadMode::Constant(value) = mode {
            value
        } else {
            0
        };
        image.rewrite(width, height, scratch, |image, pixels| {
            let channels = image.channels();
            // The columns inside the image are one run; the others go pixel by pixel.
            let right = image.width() as isize - left;
            let start = (-left).clamp(0, width as isize) as usize;
            let end = right.clamp(start as isize, width as isize) as usize;
            for (row, y) in pixels.chunks_exact_mut(width * channels).zip(top..) {
                let Some(y) = self.source(y, image.height()) else {
                    row.fill(fill);
                    continue;
                };
                let source = &image.pixels()[y * image.width() * channels..];
                if start < end {
                    let first = (start as isize + left) as usize;
                    row[start * channels..end * channels]
                        .copy_from_slice(&source[first * channels..][..(end - start) * channels]);
                }
                for x in (0..start).chain(end..width) {
                    let pixel = &mut row[x * channels..][..channels];
                    match self.source(x as isize + left, image.width()) {
                        Some(x) => pixel.copy_from_slice(&source[x * channels..][..channels]),
                        None => pixel.fill(fill),
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    fn image(width: usize, height: usize, channels: usize) -> Image {
        let pixels = (0..width * height * channels)
            .map(|i| (i * 31 % 255 + 1) as u8)
            .collect();
        Image::new(width, height, channels, pixels).unwrap()
    }

    /// Pads a copy pixel by pixel, then cuts.
    fn naive(image: &Image, window: Window) -> Vec<u8> {
        let mut pixels = Vec::new();
        for y in 0..window.height as isize {
            for x in 0..window.width as isize {
                let (x, y) = (x + window.left, y + window.top);
                let (w, h) = (image.width() as isize, image.height() as isize);
                let inside = (0..w).contains(&x) && (0..h).contains(&y);
                let reflect = |v: isize, n: isize| {
                    if v < 0 {
                        -v
                    } else if v >= n {
                        2 * (n - 1) - v
                    } else {
                        v
                    }
                };
                match window.mode {
                    PadMode::Constant(value) if !inside => {
                        pixels.extend(std::iter::repeat_n(value, image.channels()));
                    }
                    PadMode::Reflect => {
                        let (x, y) = (reflect(x, w), reflect(y, h));
                        pixels.extend(image.pixel(x as usize, y as usize));
                    }
                    _ => {
                        let (x, y) = (x.clamp(0, w - 1), y.clamp(0, h - 1));
                        pixels.extend(image.pixel(x as usize, y as usize));
                    }
                }
            }
        }
        pixels
    }

    #[test]
    fn matches_padding_and_cutting_at_every_place() {
        for mode in [
            PadMode::Constant(0),
            PadMode::Constant(9),
            PadMode::Edge,
            PadMode::Reflect,
        ] {
            for (width, height, channels) in [(5, 4, 1), (4, 6, 3), (7, 5, 2)] {
                let image = image(width, height, channels);
                for (left, top) in (-3..=4).flat_map(|x| (-3..=4).map(move |y| (x, y))) {
                    for (w, h) in [(3, 2), (width, height), (1, 1)] {
                        let (right, bottom) = (left + w as isize, top + h as isize);
                        let padded = (width as isize + 3, height as isize + 3);
                        if right > padded.0 || bottom > padded.1 {
                            continue;
                        }
                        let window = Window {
                            left,
                            top,
                            width: w,
                            height: h,
                            mode,
                        };
                        window.check(Size::new(width, height)).unwrap();
                        let mut cropped = image.clone();
                        window.apply(&mut cropped, &mut Vec::new());
                        assert_eq!(cropped.pixels(), naive(&image, window), "{window:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_place_is_equally_likely() {
        let crop = RandomCrop {
            height: 4,
            width: 4,
            padding: 1,
            mode: PadMode::Edge,
        };
        let mut draws = Key::from_seed(8).draws();
        let mut counts = [[0_u32; 3]; 3];
        for _ in 0..90_000 {
            let window = crop.draw(Size::new(4, 4), &mut draws);
            counts[(window.top + 1) as usize][(window.left + 1) as usize] += 1;
        }
        let chi: f64 = counts
            .iter()
            .flatten()
            .map(|&n| (f64::from(n) - 1e4).powi(2) / 1e4)
            .sum();
        // With 8 degrees of freedom, 26.1 is exceeded once in a thousand; the seed is fixed.
        assert!(chi < 26.1, "{counts:?}");
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let crop = RandomCrop {
            height: 9,
            width: 4,
            padding: 2,
            mode: PadMode::Edge,
        };
        assert!(
            crop.check(Size::new(4, 4).into())
                .unwrap_err()
                .contains("height: expected 1 to 8")
        );
        let crop = RandomCrop {
            height: 4,
            width: 4,
            padding: 4,
            mode: PadMode::Reflect,
        };
        assert!(
            crop.check(Size::new(4, 4).into())
                .unwrap_err()
                .contains("below 4")
        );
        let crop = RandomCrop {
            height: 4,
            width: 0,
            padding: 0,
            mode: PadMode::Edge,
        };
        assert!(
            crop.check(Size::new(4, 4).into())
                .unwrap_err()
                .contains("found 0")
        );
        let crop = RandomCrop {
            height: 65_536,
            width: 1,
            padding: 65_535,
            mode: PadMode::Edge,
        };
        assert!(
            crop.check(Size::new(4, 4).into())
                .unwrap_err()
                .contains("1×65536")
        );
    }

    #[test]
    fn windows_out_of_reach_are_refused() {
        let window = |left, width, mode| Window {
            left,
            top: 0,
            width,
            height: 1,
            mode,
        };
        for (window, problem) in [
            (
                window(isize::MIN, 1, PadMode::Edge),
                "left: expected -65535",
            ),
            (window(isize::MAX, 1, PadMode::Edge), "to 65538"),
            (window(-4, 1, PadMode::Reflect), "left: expected -3 to 6"),
            (window(6, 2, PadMode::Reflect), "left: expected -3 to 5"),
            (window(0, usize::MAX, PadMode::Edge), "sides"),
            (window(0, 0, PadMode::Edge), "sides"),
        ] {
            let error = window.check(Size::new(4, 4)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
