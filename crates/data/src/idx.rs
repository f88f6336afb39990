//! IDX files, as MNIST's: a magic number, the sizes, then bytes; plain or gzipped.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::Error;
use super::classes::{self, BYTE_LABELS};
use super::dataset::{Dataset, Images, Kind, Split};

/// The most bytes that are read from one file, decompressed.
const MOST_BYTES: u64 = 8 << 30;
const LONGEST_SIDE: usize = 65_535;

/// A folder of four files; `classes.txt`, where there is one, names the classes.
pub(super) fn folder(folder: &Path, name: String) -> Result<Dataset, Error> {
    if !folder.is_dir() {
        return Err(Error::at(
            folder,
            "expected a folder of IDX files, found none",
        ));
    }
    let files = files(folder)?;
    let named = classes::read(&folder.join("classes.txt"), BYTE_LABELS)?;
    let classes = named.unwrap_or_else(|| {
        let labels = files[1].values.iter().chain(&files[3].values);
        (0..=labels.max().copied().unwrap_or(0))
            .map(|class| class.to_string())
            .collect()
    });
    if classes.len() < 2 {
        return Err(Error::at(
            &files[1].path,
            "expected at least two classes, found the label 0 alone. If there are others, name \
             them in classes.txt, one a line",
        ));
    }
    dataset(name, classes, files)
}

/// Training images, training labels, test images, test labels.
pub(super) fn files(folder: &Path) -> Result<[Idx; 4], Error> {
    Ok([
        open(folder, "train", "images", 3)?,
        open(folder, "train", "labels", 1)?,
        open(folder, "t10k", "images", 3)?,
        open(folder, "t10k", "labels", 1)?,
    ])
}

/// A parsed file.
pub(super) struct Idx {
    path: PathBuf,
    sizes: Vec<usize>,
    values: Vec<u8>,
}

pub(super) fn gunzip(bytes: &[u8]) -> Box<dyn Read + '_> {
    Box::new(MultiGzDecoder::new(bytes))
}

/// Finds `train-images-idx3-ubyte`, with a dot or a dash before `idx`, plain or gzipped.
fn open(folder: &Path, part: &str, what: &str, ranks: usize) -> Result<Idx, Error> {
    let names = ["-", "."].into_iter().flat_map(|dash| {
        ["", ".gz"].map(|end| format!("{part}-{what}{dash}idx{ranks}-ubyte{end}"))
    });
    let Some(path) = names
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
    else {
        return Err(Error::at(
            folder,
            format!("expected a file {part}-{what}-idx{ranks}-ubyte or ….gz, found none"),
        ));
    };
    let file = File::open(&path).map_err(|error| Error::at(&path, error.to_string()))?;
    let file = BufReader::new(file);
    let gzipped = path.extension().is_some_and(|end| end == "gz");
    let reader: Box<dyn Read> = if gzipped {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    parse(&path, reader, ranks)
}

pub(super) fn parse(
    path: &Path,
    mut reader: Box<dyn Read + '_>,
    ranks: usize,
) -> Result<Idx, Error> {
    let wrong = |problem: String| Error::at(path, problem);
    let mut header = vec![0; 4 + 4 * ranks];
    reader.read_exact(&mut header).map_err(|error| {
        wrong(format!(
            "expected an IDX header of {} bytes: {error}",
            4 + 4 * ranks
        ))
    })?;
    let expected = [0, 0, 8, ranks as u8];
    if header[..4] != expected {
        return Err(wrong(format!(
            "expected the magic number {expected:02x?} (bytes in {ranks} dimensions), found {:02x?}",
            &header[..4]
        )));
    }
    let (words, _) = header[4..].as_chunks::<4>();
    let sizes: Vec<usize> = words
        .iter()
        .map(|word| u32::from_be_bytes(*word) as usize)
        .collect();
    if sizes[1..]
        .iter()
        .any(|size| !(1..=LONGEST_SIDE).contains(size))
    {
        return Err(wrong(format!(
            "expected sides of 1 to {LONGEST_SIDE}, found {:?}",
            &sizes[1..]
        )));
    }
    let total = sizes
        .iter()
        .map(|&size| size as u64)
        .try_fold(1, u64::checked_mul);
    let Some(total) = total.filter(|total| *total <= MOST_BYTES) else {
        return Err(wrong(format!(
            "expected at most {MOST_BYTES} bytes, found sizes {sizes:?}"
        )));
    };
    // One more than declared, to notice what is too long; a header that lies about a short file
    // reserves no memory.
    let mut values = Vec::new();
    reader
        .take(total + 1)
        .read_to_end(&mut values)
        .map_err(|error| wrong(format!("damaged after {} bytes: {error}", values.len())))?;
    if values.len() as u64 != total {
        let found = if values.len() as u64 > total {
            "more".into()
        } else {
            values.len().to_string()
        };
        return Err(wrong(format!(
            "expected {total} bytes after the header {sizes:?}, found {found}"
        )));
    }
    Ok(Idx {
        path: path.to_owned(),
        sizes,
        values,
    })
}

/// The four files, checked against each other.
pub(super) fn dataset(
    name: String,
    classes: Vec<String>,
    files: [Idx; 4],
) -> Result<Dataset, Error> {
    let [train_images, train_labels, test_images, test_labels] = files;
    if train_images.sizes[1..] != test_images.sizes[1..] {
        return Err(Error::at(
            &test_images.path,
            format!(
                "expected images of {:?} as the training images, found {:?}",
                &train_images.sizes[1..],
                &test_images.sizes[1..]
            ),
        ));
    }
    let kind = Kind::Images {
        height: train_images.sizes[1],
        width: train_images.sizes[2],
        channels: 1,
    };
    let train = split(train_images, train_labels, classes.len())?;
    let test = split(test_images, test_labels, classes.len())?;
    Ok(Dataset {
        name,
        classes,
        kind,
        train,
        test,
        held_out: false,
        unreadable: Vec::new(),
    })
}

fn split(images: Idx, labels: Idx, classes: usize) -> Result<Split, Error> {
    if images.sizes[0] != labels.sizes[0] {
        return Err(Error::at(
            &labels.path,
            format!(
                "expected {} labels as there are images, found {}",
                images.sizes[0], labels.sizes[0]
            ),
        ));
    }
    if images.sizes[0] == 0 {
        return Err(Error::at(
            &images.path,
            "expected at least one image, found none",
        ));
    }
    if let Some(at) = labels
        .values
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        return Err(Error::at(
            &labels.path,
            format!(
                "label {at}: expected 0 to {}, found {}",
                classes - 1,
                labels.values[at]
            ),
        ));
    }
    Ok(Split::Images(Images {
        bytes: images.sizes[1..].iter().product(),
        pixels: images.values.into(),
        labels: labels.values.into_iter().map(u32::from).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn write(folder: &Path, changed: &str, bytes: Vec<u8>) {
        for (name, bytes) in [
            ("train-images-idx3-ubyte", idx(&[2, 2, 3], &[7; 12])),
            ("train-labels-idx1-ubyte", idx(&[2], &[0, 2])),
            ("t10k-images-idx3-ubyte", idx(&[1, 2, 3], &[9; 6])),
            ("t10k-labels-idx1-ubyte", idx(&[1], &[1])),
        ] {
            fs::write(folder.join(name), bytes).unwrap();
        }
        if !changed.is_empty() {
            fs::write(folder.join(changed), bytes).unwrap();
        }
    }

    fn read(folder: &Path) -> Result<Dataset, Error> {
        super::folder(folder, "idx:here".into())
    }

    #[test]
    fn reads_plain_and_gzipped_with_dash_and_dot() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "", vec![]);
        let plain = read(folder.path()).unwrap();
        assert_eq!(plain.classes, ["0", "1", "2"]);
        fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
        let packed = gzipped(&idx(&[1, 2, 3], &[9; 6]));
        fs::write(folder.path().join("t10k-images.idx3-ubyte.gz"), packed).unwrap();
        fs::write(folder.path().join("classes.txt"), "a\nb\nc\n").unwrap();
        let data = read(folder.path()).unwrap();
        assert_eq!(data.classes, ["a", "b", "c"]);
        assert_eq!(data.test.len(), 1);
    }

    #[test]
    fn every_defect_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let images = "train-images-idx3-ubyte";
        let labels = "train-labels-idx1-ubyte";
        for (file, bytes, problem) in [
            (images, idx(&[2, 2, 3], &[7; 11]), "expected 12 bytes"),
            (images, idx(&[2, 2, 3], &[7; 13]), "found more"),
            (images, vec![0, 0], "expected an IDX header of 16 bytes"),
            (
                images,
                idx(&[2], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
                "magic number",
            ),
            (
                images,
                idx(&[u32::MAX, 60_000, 60_000], &[]),
                "expected at most",
            ),
            (images, idx(&[2, 0, 3], &[]), "expected sides of 1 to"),
            (images, idx(&[0, 2, 3], &[]), "labels"),
            (
                labels,
                idx(&[3], &[0, 1, 2]),
                "expected 2 labels as there are images, found 3",
            ),
            (
                "t10k-images-idx3-ubyte",
                idx(&[1, 3, 2], &[9; 6]),
                "as the training images",
            ),
        ] {
            write(folder.path(), file, bytes);
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        write(folder.path(), labels, idx(&[2], &[0, 2]));
        fs::write(folder.path().join("classes.txt"), "only\ntwo\n").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("label 1: expected 0 to 1, found 2"),
            "{error}"
        );
        fs::remove_file(folder.path().join(labels)).unwrap();
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("train-labels-idx1-ubyte")
        );
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn damaged_gzip_is_an_error() {
        let whole = gzipped(&idx(&[2], &[0, 1]));
        let read = |bytes: &[u8]| parse(Path::new("x"), gunzip(bytes), 1).map(|idx| idx.values);
        assert_eq!(read(&whole).unwrap(), [0, 1]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} bytes");
        }
        let mut checksum = whole.clone();
        checksum[whole.len() - 8] ^= 1;
        let trailing = [&whole[..], b"more"].concat();
        for bytes in [checksum, trailing] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains("damaged after 2 bytes"), "{error}");
        }
    }

    /// Counts the bytes that are taken from an endless file.
    struct Endless<'a>(&'a mut usize);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(0);
            *self.0 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn no_more_is_read_than_declared_and_one() {
        let mut taken = 0;
        let header = idx(&[1000], &[]);
        let bomb = Box::new(header.chain(Endless(&mut taken)));
        let error = parse(Path::new("x"), bomb, 1).err().unwrap().to_string();
        assert!(
            error.contains("expected 1000 bytes") && error.contains("found more"),
            "{error}"
        );
        assert_eq!(taken, 1001);
    }

    #[test]
    fn one_class_is_too_few_unless_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "t10k-labels-idx1-ubyte", idx(&[1], &[0]));
        fs::write(
            folder.path().join("train-labels-idx1-ubyte"),
            idx(&[2], &[0, 0]),
        )
        .unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("found the label 0 alone") && error.contains("classes.txt"),
            "{error}"
        );
        fs::write(folder.path().join("classes.txt"), "a\nb\n").unwrap();
        assert_eq!(read(folder.path()).unwrap().classes, ["a", "b"]);
    }

    #[test]
    fn truncated_anywhere_is_an_error() {
        let bytes = idx(&[2, 2, 3], &[7; 12]);
        for end in 0..bytes.len() {
            let parsed = parse(Path::new("x"), Box::new(&bytes[..end]), 3);
            assert!(parsed.is_err(), "{end} bytes");
        }
    }
}
