//! CIFAR-10's binary version: records of a label and 3072 bytes, red, green and blue plane by plane.
//! `batches.meta.txt`, where there is one, names the classes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::dataset::{Dataset, Images, Kind, Split};
use super::{Error, classes};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
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

pub(super) fn folder(folder: &Path, name: String) -> Result<Dataset, Error> {
    let batches: Vec<String> = (1..=5).map(|i| format!("data_batch_{i}.bin")).collect();
    let classes = classes::read(&folder.join("batches.meta.txt"))?
        .unwrap_or_else(|| CLASSES.map(String::from).to_vec());
    let train = read(folder, &batches, classes.len())?;
    let test = read(folder, &["test_batch.bin".into()], classes.len())?;
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

fn read(folder: &Path, files: &[String], classes: usize) -> Result<Split, Error> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let path = folder.join(file);
        let mut bytes = Vec::new();
        let limit = (MOST_RECORDS * RECORD + 1) as u64;
        File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| {
                Error::at(
                    &path,
                    format!("{error}. Expected a file of CIFAR-10's binary version"),
                )
            })?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 || bytes.len() > MOST_RECORDS * RECORD {
            return Err(Error::at(
                &path,
                format!(
                    "expected a whole number of records of {RECORD} bytes, found {} bytes",
                    bytes.len()
                ),
            ));
        }
        for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
            let label = bytes[0];
            if usize::from(label) >= classes {
                let problem = format!(
                    "record {record}: expected a label of 0 to {}, found {label}",
                    classes - 1
                );
                return Err(Error::at(&path, problem));
            }
            labels.push(u32::from(label));
            let planes = &bytes[1..];
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
        let read = || super::folder(folder.path(), "cifar10:here".into());
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
}
