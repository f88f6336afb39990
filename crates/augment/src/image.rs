//! 8-bit images.

use crate::Error;
use crate::decode::Part;

/// An 8-bit image: rows from the top, pixels from the left, channels interleaved.
///
/// One channel is gray, two are gray and opacity, three are red, green and blue, four the same and
/// opacity. Operations on colours leave opacity as it is; those on places treat all channels alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

/// The longest side, as in the file formats that images come from.
pub(crate) const LONGEST_SIDE: usize = 65_535;
/// Bounds the memory that a file or a recipe can ask for.
pub(crate) const MOST_PIXELS: usize = 1 << 28;

impl Image {
    /// # Errors
    /// If a side is not in 1..=65,535, there are more than 2²⁸ pixels, there are not 1 to 4
    /// channels, or the pixels are not width·height·channels bytes.
    pub fn new(
        width: usize,
        height: usize,
        channels: usize,
        pixels: Vec<u8>,
    ) -> Result<Self, Error> {
        check_size(width, height).map_err(Error::Image)?;
        check_channels(channels)?;
        let expected = width * height * channels;
        if pixels.len() != expected {
            let found = pixels.len();
            return Err(Error::Image(format!(
                "expected {expected} bytes for {width}×{height}×{channels}, found {found}"
            )));
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Values a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes of one pixel.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        &self.pixels[(y * self.width + x) * self.channels..][..self.channels]
    }

    /// Becomes an image of another size whose bytes `write` fills, all of them, given this one's, in a buffer
    /// that is kept between images: no allocation where the sizes recur.
    pub(crate) fn rewrite(
        &mut self,
        width: usize,
        height: usize,
        scratch: &mut Vec<u8>,
        write: impl FnOnce(&Self, &mut [u8]),
    ) {
        // What is left of an earlier image is overwritten.
        scratch.resize(width * height * self.channels, 0);
        write(self, scratch);
        std::mem::swap(&mut self.pixels, scratch);
        (self.width, self.height) = (width, height);
    }

    /// A copy of a part that lies inside, in `memory`.
    pub(crate) fn part(&self, part: Part, mut memory: Vec<u8>) -> Self {
        let Part {
            left,
            top,
            width,
            height,
        } = part;
        memory.clear();
        let rows = self.pixels.chunks_exact(self.width * self.channels);
        for row in rows.skip(top).take(height) {
            memory.extend_from_slice(&row[left * self.channels..][..width * self.channels]);
        }
        Self {
            width,
            height,
            channels: self.channels,
            pixels: memory,
        }
    }

    pub(crate) fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut(self.width * self.channels)
    }
}

/// Checks the size of an image that is, or is to be.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(), String> {
    let sides = 1..=LONGEST_SIDE;
    // The product is formed only of sides within the limit, so it does not overflow.
    let fits = sides.contains(&width) && sides.contains(&height) && width * height <= MOST_PIXELS;
    fits.then_some(()).ok_or_else(|| {
        format!(
            "expected sides of 1 to {LONGEST_SIDE} and at most {MOST_PIXELS} pixels, found \
             {width}×{height}"
        )
    })
}

pub(crate) fn check_channels(channels: usize) -> Result<(), Error> {
    if (1..=4).contains(&channels) {
        Ok(())
    } else {
        Err(Error::Image(format!(
            "expected 1 to 4 channels, found {channels}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold() {
        assert!(Image::new(2, 3, 1, vec![0; 6]).is_ok());
        for (width, height, channels, bytes) in [
            (0, 1, 1, 0),
            (1, 0, 1, 0),
            (1, 1, 0, 0),
            (1, 1, 5, 5),
            (2, 2, 1, 3),
            (65_536, 1, 1, 65_536),
            (65_535, 4_097, 1, 0),
        ] {
            let image = Image::new(width, height, channels, vec![0; bytes]);
            assert!(image.unwrap_err().to_string().contains("expected"));
        }
        assert!(Image::new(usize::MAX, usize::MAX, 4, vec![]).is_err());
    }
}
