//! Fashion-MNIST: gray 28×28 images of clothes in ten classes (Xiao, Rasul, Vollgraf, 2017,
//! arXiv:1708.07747). A part is built into the program; all of it comes from Debian's package.

use std::path::Path;

use super::dataset::Dataset;
use super::{Error, idx};

/// Where the package dataset-fashion-mnist puts the full set.
pub(super) const INSTALLED: &str = "/usr/share/datasets/fashion-mnist";

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

macro_rules! built_in {
    ($name:literal) => {
        include_bytes!(concat!("../../../data/fashion-mnist/", $name)).as_slice()
    };
}

fn classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

/// The data that are built into the program: verified by their sizes and gzip's checksums.
pub(super) fn embedded() -> Result<Dataset, Error> {
    let read = |name, bytes, ranks| idx::parse(Path::new(name), idx::gunzip(bytes), ranks);
    let files = [
        read(
            "built-in training images",
            built_in!("train-images-idx3-ubyte.gz"),
            3,
        )?,
        read(
            "built-in training labels",
            built_in!("train-labels-idx1-ubyte.gz"),
            1,
        )?,
        read(
            "built-in test images",
            built_in!("t10k-images-idx3-ubyte.gz"),
            3,
        )?,
        read(
            "built-in test labels",
            built_in!("t10k-labels-idx1-ubyte.gz"),
            1,
        )?,
    ];
    idx::dataset("fashion-mnist-10k".into(), classes(), files)
}

/// All of it, from the package's folder.
pub(super) fn installed(folder: &Path) -> Result<Dataset, Error> {
    if !folder.is_dir() {
        return Err(Error::at(
            folder,
            "expected all of Fashion-MNIST here, found no such folder. Install it (apt install \
             dataset-fashion-mnist), or name the folder of its four IDX files as idx:DIR",
        ));
    }
    idx::dataset("fashion-mnist".into(), classes(), idx::files(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Images, Split};

    #[test]
    fn the_built_in_data_are_whole() {
        let data = embedded().unwrap();
        assert_eq!((data.train.len(), data.test.len()), (10_000, 10_000));
        assert_eq!(data.kind.shape(), [1, 28, 28]);
        let Split::Images(Images { pixels, labels, .. }) = &data.train else {
            panic!()
        };
        // The first training image is an ankle boot; the mean is known from the full set's start.
        assert_eq!(labels[0], 9);
        let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / pixels.len() as f64;
        assert!((mean / 255.0 - 0.2868).abs() < 1e-3, "{mean}");
    }

    #[test]
    fn a_missing_package_is_told_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("absent");
        let error = installed(&missing).unwrap_err().to_string();
        assert!(
            error.contains("absent") && error.contains("apt install dataset-fashion-mnist"),
            "{error}"
        );
    }
}
