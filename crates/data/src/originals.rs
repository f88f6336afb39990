//! Training images as their source has them.

use evenkeel_augment::Image;
use evenkeel_random::Key;

use super::files::Unread;
use super::{Dataset, Error, Images, Kind, Source, Split};

/// A training image as its source has it.
#[derive(Clone, Debug)]
pub struct Original {
    /// Its name inside the source: a path, a member of an archive, a row of a table; elsewhere its index.
    pub name: String,
    /// Its index in the training data.
    pub index: usize,
    /// Its class.
    pub class: String,
    /// The index of its class.
    pub label: u32,
    /// The image.
    pub image: Image,
}

/// The training images of a source. Those that are in files are read when they are asked for.
#[derive(Debug)]
pub struct Originals(Kept);

#[derive(Debug)]
enum Kept {
    Files(Unread),
    Memory {
        name: String,
        classes: Vec<String>,
        /// Width, height, channels.
        size: [usize; 3],
        images: Images,
    },
}

impl Originals {
    /// Lists or reads a source.
    ///
    /// # Errors
    /// If it cannot be read or is a table.
    pub fn open(source: &Source) -> Result<Self, Error> {
        if let Source::Files(files) = source {
            return Unread::open(files).map(|files| Self(Kept::Files(files)));
        }
        let data = Dataset::open(source)?;
        match (data.kind, data.train) {
            (
                Kind::Images {
                    height,
                    width,
                    channels,
                },
                Split::Images(images),
            ) => Ok(Self(Kept::Memory {
                name: data.name,
                classes: data.classes,
                size: [width, height, channels],
                images,
            })),
            _ => Err(Error::new(&data.name, "expected images, found a table")),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Files(files) => files.len(),
            Kept::Memory { images, .. } => images.labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        match &self.0 {
            Kept::Files(files) => files.classes(),
            Kept::Memory { classes, .. } => classes,
        }
    }

    /// Some images in order, chosen by the seed. Of those in files, only these are read.
    ///
    /// # Errors
    /// If one cannot be read; names it.
    pub fn choose(&self, count: usize, seed: u64) -> Result<Vec<Original>, Error> {
        let mut indices: Vec<usize> = (0..self.len()).collect();
        let key = Key::from_seed(seed).child("chosen");
        key.draws().shuffle(&mut indices);
        indices.truncate(count);
        indices.sort_unstable();
        indices.into_iter().map(|index| self.read(index)).collect()
    }

    /// Image `index`, which must be there.
    ///
    /// # Errors
    /// If it cannot be read; names it.
    pub fn read(&self, index: usize) -> Result<Original, Error> {
        match &self.0 {
            Kept::Files(files) => files.read(index),
            Kept::Memory {
                name,
                classes,
                size: [width, height, channels],
                images,
            } => {
                let pixels = images.pixels[index * images.bytes..][..images.bytes].to_vec();
                let image = Image::new(*width, *height, *channels, pixels);
                let label = images.labels[index];
                Ok(Original {
                    name: index.to_string(),
                    class: classes[label as usize].clone(),
                    label,
                    index,
                    image: image.map_err(|error| Error::new(name, error.to_string()))?,
                })
            }
        }
    }
}
