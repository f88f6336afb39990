//! Images that were read once and are decoded when they are asked for.

use std::borrow::Cow;
use std::sync::Arc;

use evenkeel_augment::{Colors, DecodeLimits, Image, Operation, Pipeline, Size, Sizes, decode};
use sha2::{Digest, Sha256};

use super::{Place, Store};
use crate::unnormalized;

/// Labelled images in files of their own, in archives or in tables. Memory holds where each is and what is
/// known of it, some 150 bytes (and its path, where it is a file of its own), and encoded bytes up to a limit:
/// no more for larger images.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) images: Arc<[Known]>,
    /// A label each.
    pub labels: Arc<[u32]>,
    /// Brings each image to the size that the net sees.
    pub(super) test: Arc<[Operation]>,
    pub(super) decoding: Decoding,
    pub(super) store: Arc<dyn Store>,
}

/// How encoded bytes become images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding {
    pub colors: Colors,
    pub limits: DecodeLimits,
}

/// An image that was read once.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub place: Place,
    /// SHA-256 of its encoded bytes.
    pub digest: [u8; 32],
    /// Width and height: an image's sides fit.
    size: [u16; 2],
    /// Per channel.
    levels: [u64; 3],
    /// Per channel.
    squares: [u64; 3],
    pub cached: Option<Arc<[u8]>>,
}

impl Known {
    pub fn new(place: Place, bytes: &[u8], image: &Image) -> Self {
        let side = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
        let Sums {
            levels, squares, ..
        } = Sums::of(image);
        Self {
            place,
            digest: Sha256::digest(bytes).into(),
            size: [side(image.width()), side(image.height())],
            levels,
            squares,
            cached: None,
        }
    }

    pub fn size(&self) -> Size {
        Size::new(self.size[0].into(), self.size[1].into())
    }

    pub fn sums(&self) -> Sums {
        Sums {
            pixels: u64::from(self.size[0]) * u64::from(self.size[1]),
            levels: self.levels,
            squares: self.squares,
        }
    }
}

/// Of all pixels of an image: exact, and merged in any order to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub pixels: u64,
    /// Per channel.
    pub levels: [u64; 3],
    /// Per channel.
    pub squares: [u64; 3],
}

impl Sums {
    pub fn of(image: &Image) -> Self {
        let mut sums = Self::default();
        for pixel in image.pixels().chunks_exact(image.channels()) {
            sums.pixels += 1;
            for (channel, &level) in pixel.iter().enumerate().take(3) {
                sums.levels[channel] += u64::from(level);
                sums.squares[channel] += u64::from(level).pow(2);
            }
        }
        sums
    }

    /// Mean and deviation of a channel on the scale 0..1, of the sums of many images.
    pub fn statistics(all: impl Iterator<Item = Self>, channel: usize) -> (f64, f64) {
        let (mut n, mut levels, mut squares) = (0_u128, 0_u128, 0_u128);
        for sums in all {
            n += u128::from(sums.pixels);
            levels += u128::from(sums.levels[channel]);
            squares += u128::from(sums.squares[channel]);
        }
        if n == 0 {
            return (0.0, 0.0);
        }
        // n·Σx² − (Σx)² is exact in whole numbers, so nothing cancels: both are below 2¹²⁸ for 2⁵⁵ pixels.
        let spread = (n * squares - levels * levels) as f64;
        let scale = 255.0 * n as f64;
        (levels as f64 / scale, spread.sqrt() / scale)
    }
}

impl Decoding {
    pub fn decode(&self, bytes: &[u8]) -> Result<Image, String> {
        decode(bytes, self.colors, &self.limits).map_err(|error| error.to_string())
    }
}

impl Files {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Values a pixel.
    pub fn channels(&self) -> usize {
        self.decoding.colors.channels()
    }

    /// The name of image `index` inside the source: a file's path, a member of an archive, a row of a table.
    pub fn name(&self, index: usize) -> String {
        self.store.name(self.images[index].place)
    }

    /// The narrowest ranges that hold the sizes of all.
    pub fn sizes(&self) -> Option<Sizes> {
        let sizes = self.images.iter().map(|image| Sizes::from(image.size()));
        sizes.reduce(Sizes::or)
    }

    /// What brings each image to the size that the net sees; draws nothing.
    pub fn test(&self) -> &[Operation] {
        &self.test
    }

    pub(crate) fn sums(&self) -> impl Iterator<Item = Sums> {
        self.images.iter().map(Known::sums)
    }

    /// The SHA-256 of each image's encoded bytes.
    pub fn digests(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.images.iter().map(|image| &image.digest)
    }

    pub(crate) fn subset(&self, indices: &[usize]) -> Self {
        Self {
            images: indices.iter().map(|&i| self.images[i].clone()).collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            ..self.clone()
        }
    }

    /// Image `index` as it is encoded.
    ///
    /// # Errors
    /// If it cannot be read, or is no longer the one that was there when the data were opened: a
    /// training on other data would not be the one that its record tells of. Names the image.
    pub fn read(&self, index: usize) -> Result<Image, String> {
        let read = self
            .encoded(index)
            .and_then(|bytes| self.decoding.decode(&bytes));
        read.map_err(|problem| format!("{}: {problem}", self.whole_name(index)))
    }

    /// The bytes of image `index`, or why there are none.
    ///
    /// # Errors
    /// As [`Files::read`], without the image's name.
    pub fn encoded(&self, index: usize) -> Result<Cow<'_, [u8]>, String> {
        let Known {
            place,
            digest,
            cached,
            ..
        } = &self.images[index];
        if let Some(bytes) = cached {
            return Ok(Cow::Borrowed(bytes));
        }
        let bytes = self.store.read(*place, self.decoding.limits.bytes)?;
        if Sha256::digest(&bytes)[..] != digest[..] {
            return Err("changed since the data were opened; start anew".into());
        }
        Ok(Cow::Owned(bytes))
    }

    /// What errors call image `index`.
    pub fn whole_name(&self, index: usize) -> String {
        self.store.whole_name(self.images[index].place)
    }

    /// How encoded bytes become images.
    pub fn decoding(&self) -> (Colors, DecodeLimits) {
        (self.decoding.colors, self.decoding.limits)
    }

    /// Image `index` as the net sees it at test.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read_for_test(&self, index: usize) -> Result<Image, String> {
        let image = self.read(index)?;
        let pipeline = Pipeline {
            operations: self.test.to_vec(),
            normalize: unnormalized(),
            exact: true,
        };
        // Operations at test draw nothing, so any stream will do.
        let stream = evenkeel_augment::Stream::new(0, evenkeel_augment::Sample { epoch: 0, index });
        pipeline
            .augment(&image, stream)
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_give_the_statistics_of_all_pixels() {
        let images = [
            Image::new(2, 1, 3, vec![0, 51, 255, 255, 51, 255]).unwrap(),
            Image::new(1, 2, 3, vec![0, 51, 0, 255, 51, 0]).unwrap(),
        ];
        let statistics = |channel| Sums::statistics(images.iter().map(Sums::of), channel);
        assert_eq!(statistics(0), (0.5, 0.5));
        assert_eq!(statistics(1), (0.2, 0.0));
        assert_eq!(statistics(2), (0.5, 0.5));
        assert_eq!(Sums::statistics(std::iter::empty(), 0), (0.0, 0.0));
    }
}
