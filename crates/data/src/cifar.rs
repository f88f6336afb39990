//! The binary versions of CIFAR-10 and CIFAR-100: records of a label (CIFAR-100: of a coarse label, which is left
//! alone, and a fine one) and 3072 bytes, red, green and blue plane by plane. `batches.meta.txt` or
//! `fine_label_names.txt`, where there is one, names the classes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Error;
use super::classes::{self, BYTE_LABELS};
use super::dataset::{Dataset, Images, Kind, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Records of one file: 10,000 in the original.
const MOST_RECORDS: usize = 1_000_000;

const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// One of the two.
pub(super) struct Version {
    name: &'static str,
    /// Bytes of labels before the pixels; the last of them counts.
    labels: usize,
    classes: usize,
    /// The file of the classes' names.
    names: &'static str,
    train: &'static [&'static str],
    test: &'static str,
}

pub(super) const CIFAR_10: Version = Version {
    name: "CIFAR-10",
    labels: 1,
    classes: 10,
    names: "batches.meta.txt",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
};

pub(super) const CIFAR_100: Version = Version {
    name: "CIFAR-100",
    labels: 2,
    classes: 100,
    names: "fine_label_names.txt",
    train: &["train.bin"],
    test: "test.bin",
};

pub(super) fn folder(folder: &Path, version: &Version, name: String) -> Result<Dataset, Error> {
    let classes = classes::read(&folder.join(version.names), BYTE_LABELS)?;
    let classes = classes.unwrap_or_else(|| match version.labels {
        1 => CLASSES.map(String::from).to_vec(),
        _ => (0..version.classes)
            .map(|class| class.to_string())
            .collect(),
    });
    let train = read(folder, version, version.train, classes.len())?;
    let test = read(folder, version, &[version.test], classes.len())?;
    Ok(Dataset {
        name,
        classes,
        kind: Kind::Images {
            height: SIDE,
            width: SIDE,
            channels: 3,
        },
        train,
        test,
        held_out: false,
        unreadable: Vec::new(),
    })
}

fn read(folder: &Path, version: &Version, files: &[&str], classes: usize) -> Result<Split, Error> {
    let record_bytes = version.labels + 3 * PLANE;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let path = folder.join(file);
        let mut bytes = Vec::new();
        let limit = (MOST_RECORDS * record_bytes + 1) as u64;
        File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| {
                Error::at(
                    &path,
                    format!(
                        "{error}. Expected a file of {}'s binary version",
                        version.name
                    ),
                )
            })?;
        if bytes.is_empty()
            || bytes.len() % record_bytes != 0
            || bytes.len() > MOST_RECORDS * record_bytes
        {
            return Err(Error::at(
                &path,
                format!(
                    "expected a whole number of records of {record_bytes} bytes, found {} bytes",
                    bytes.len()
                ),
            ));
        }
        for (record, bytes) in bytes.chunks_exact(record_bytes).enumerate() {
            let label = bytes[version.labels - 1];
            if usize::from(label) >= classes {
                let problem = format!(
                    "record {record}: expected a label of 0 to {}, found {label}",
                    classes - 1
                );
                return Err(Error::at(&path, problem));
            }
            labels.push(u32::from(label));
            let planes = &bytes[version.labels..];
            pixels.extend(
                (0..PLANE).flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]]),
            );
        }
    }
    Ok(Split::Images(Images {
        bytes: 3 * PLANE,
        pixels: pixels.into(),
        labels: labels.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn record(label: u8) -> Vec<u8> {
        let mut bytes = vec![label];
        bytes.extend([[1; PLANE], [2; PLANE], [3; PLANE]].concat());
        bytes
    }

    #[test]
    fn planes_become_pixels_and_defects_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for i in 1..=5 {
            fs::write(folder.path().join(format!("data_batch_{i}.bin")), record(i)).unwrap();
        }
        let test = folder.path().join("test_batch.bin");
        let read = || super::folder(folder.path(), &CIFAR_10, "cifar10:here".into());
        assert!(read().unwrap_err().to_string().contains("test_batch.bin"));
        fs::write(&test, [record(0), record(9)].concat()).unwrap();
        let data = read().unwrap();
        assert_eq!(
            (data.train.labels(), data.test.labels()),
            (&[1, 2, 3, 4, 5][..], &[0, 9][..])
        );
        let Split::Images(images) = data.test else {
            panic!()
        };
        assert_eq!(images.pixels[..6], [1, 2, 3, 1, 2, 3]);

        assert_eq!(data.classes, CLASSES);
        let names = folder.path().join("batches.meta.txt");
        fs::write(&names, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        assert_eq!(read().unwrap().classes[9], "j");
        fs::write(&test, record(10)).unwrap();
        assert!(
            read()
                .unwrap_err()
                .to_string()
                .contains("label of 0 to 9, found 10")
        );
        fs::write(&test, &record(1)[1..]).unwrap();
        assert!(read().unwrap_err().to_string().contains("found 3072 bytes"));
    }

    #[test]
    fn of_cifar_100_the_fine_labels_count() {
        let folder = tempfile::tempdir().unwrap();
        for (name, label) in [("train.bin", 99), ("test.bin", 7)] {
            let mut bytes = vec![19];
            bytes.extend(record(label));
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let read = || super::folder(folder.path(), &CIFAR_100, "cifar100:here".into());
        let data = read().unwrap();
        assert_eq!(
            (data.train.labels(), data.test.labels()),
            (&[99][..], &[7][..])
        );
        assert_eq!((data.classes.len(), &*data.classes[99]), (100, "99"));
        let Split::Images(images) = data.test else {
            panic!()
        };
        assert_eq!(images.pixels[..6], [1, 2, 3, 1, 2, 3]);
        fs::write(folder.path().join("fine_label_names.txt"), "a\nb\n").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("label of 0 to 1, found 99"), "{error}");
    }
}
