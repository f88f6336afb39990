//! Where encoded images are: files of their own, or parts of archives and tables.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::Error;

/// Where an image is in its [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of a file.
    pub file: u32,
    /// Where the image is in it: a byte, a row; 0 where it is the whole file.
    pub at: u64,
    /// How long it is, where the store needs to be told.
    pub length: u64,
}

impl Place {
    /// A whole file of its own.
    pub fn of_file(file: usize) -> Result<Self, Error> {
        let too_many = |_| {
            Error::new(
                "data",
                format!("expected fewer than 2³² files, found {file}"),
            )
        };
        Ok(Self {
            file: u32::try_from(file).map_err(too_many)?,
            at: 0,
            length: 0,
        })
    }
}

/// A source's encoded images.
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Where the source is.
    fn root(&self) -> &Path;

    /// The name of an image inside the source.
    fn name(&self, place: Place) -> String;

    /// An image's encoded bytes, of more than `limit` the first `limit` and one more.
    fn read(&self, place: Place, limit: usize) -> Result<Vec<u8>, String>;

    /// The bytes of images that follow each other, one after another until `take` says that it wants no more.
    fn read_each(
        &self,
        places: &mut dyn Iterator<Item = Place>,
        limit: usize,
        take: &mut dyn FnMut(Result<Vec<u8>, String>) -> bool,
    ) {
        for place in places {
            if !take(self.read(place, limit)) {
                return;
            }
        }
    }

    /// Where an image is, for messages.
    fn whole_name(&self, place: Place) -> String {
        self.root().join(self.name(place)).display().to_string()
    }
}

/// Images that are files of their own.
#[derive(Debug)]
pub(crate) struct Whole {
    pub root: Box<Path>,
    /// Inside the root.
    pub paths: Vec<Box<Path>>,
}

impl Store for Whole {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self, place: Place) -> String {
        self.paths[place.file as usize].display().to_string()
    }

    fn read(&self, place: Place, limit: usize) -> Result<Vec<u8>, String> {
        let path = self.root.join(&self.paths[place.file as usize]);
        read_part(&path, 0, u64::MAX, limit)
    }
}

/// `length` bytes of a file from byte `at` on; of more than `limit` the first `limit` and one more.
pub(crate) fn read_part(
    path: &Path,
    at: u64,
    length: u64,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let read = || {
        let mut file = File::open(path)?;
        if at > 0 {
            file.seek(SeekFrom::Start(at))?;
        }
        let mut bytes = Vec::new();
        file.take(length.min(limit as u64 + 1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: std::io::Error| error.to_string())
}

/// Checks that a path leads to something inside `real`, a folder's real path.
pub(crate) fn expect_inside(real: &Path, path: &Path) -> Result<(), Error> {
    let target = path.canonicalize();
    let target = target.map_err(|error| Error::at(path, error.to_string()))?;
    if target.starts_with(real) {
        return Ok(());
    }
    let problem = format!(
        "leads out of the folder, to {}; expected images inside it",
        target.display()
    );
    Err(Error::at(path, problem))
}
