//! Images in files, decoded when they are asked for.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_augment::{Colors, DecodeLimits, Image, Operation, Pipeline, Size, Sizes, decode};
use sha2::{Digest, Sha256};

use crate::examples::unnormalized;

/// Labelled images of a folder. Memory holds their paths and what is known of each, and encoded bytes up to
/// a limit: no more for larger images, some 200 bytes for each more.
#[derive(Clone, Debug)]
pub struct Files {
    pub(in crate::data) files: Arc<[Arc<KnownFile>]>,
    /// A label each.
    pub labels: Arc<[u32]>,
    /// Brings each image to the size that the net sees.
    pub(crate) test: Arc<[Operation]>,
    pub(in crate::data) folder: Arc<Folder>,
}

/// What all files have in common.
#[derive(Debug)]
pub(in crate::data) struct Folder {
    pub root: PathBuf,
    pub colors: Colors,
    pub limits: DecodeLimits,
}

/// An image file that was read once.
#[derive(Debug)]
pub(in crate::data) struct KnownFile {
    /// Inside the folder.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
    pub size: Size,
    pub sums: Sums,
    pub cached: Option<Arc<[u8]>>,
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

impl Folder {
    /// The bytes of a file, up to the limit and one more.
    pub fn bytes(&self, path: &Path) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let limit = self.limits.bytes as u64 + 1;
        File::open(self.root.join(path))
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    pub fn decode(&self, bytes: &[u8]) -> Result<Image, String> {
        decode(bytes, self.colors, &self.limits).map_err(|error| error.to_string())
    }
}

impl Files {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Values a pixel.
    pub fn channels(&self) -> usize {
        self.folder.colors.channels()
    }

    /// The path of image `index`, inside the folder.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].path
    }

    /// The narrowest ranges that hold the sizes of all.
    pub fn sizes(&self) -> Option<Sizes> {
        let sizes = self.files.iter().map(|file| Sizes::from(file.size));
        sizes.reduce(Sizes::or)
    }

    pub(crate) fn sums(&self) -> impl Iterator<Item = Sums> {
        self.files.iter().map(|file| file.sums)
    }

    pub(crate) fn digests(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.files.iter().map(|file| &file.digest)
    }

    pub(crate) fn subset(&self, indices: &[usize]) -> Self {
        Self {
            files: indices
                .iter()
                .map(|&i| Arc::clone(&self.files[i]))
                .collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            ..self.clone()
        }
    }

    /// Image `index` as it is in its file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no longer the one that was there when the data were opened: a
    /// training on other data would not be the one that its record tells of. Names the file.
    pub fn read(&self, index: usize) -> Result<Image, String> {
        let KnownFile {
            path,
            digest,
            cached,
            ..
        } = &*self.files[index];
        let read = match cached {
            Some(bytes) => self.folder.decode(bytes),
            None => self.folder.bytes(path).and_then(|bytes| {
                if Sha256::digest(&bytes)[..] != digest[..] {
                    return Err("changed since the data were opened; start anew".into());
                }
                self.folder.decode(&bytes)
            }),
        };
        let place = self.folder.root.join(path);
        read.map_err(|problem| format!("{}: {problem}", place.display()))
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
