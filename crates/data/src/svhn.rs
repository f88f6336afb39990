//! Street View House Numbers, cropped: `train_32x32.mat` and `test_32x32.mat`, MATLAB files of version 5.
//!
//! Of such a file two arrays are read: `X`, bytes by row, column, channel and image, the row changing fastest, and
//! `y`, a label each, 1 to 9 and 10 for the digit 0. Arrays may be compressed by zlib, as these are; others are
//! passed over. (The format: MathWorks, «MAT-File Format», chapter 1.) There is no reader of it in Rust that is
//! kept up and bounds what a file can ask for.
//!
//! Errors name the file and the array: no MATLAB file, an array that is missing, of another shape or type, or cut
//! off, labels out of range.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::Error;
use super::dataset::{Dataset, Images, Kind, Split};

const SIDE: usize = 32;
const CHANNELS: usize = 3;
const BYTES: usize = SIDE * SIDE * CHANNELS;
/// The largest of the set has 531,131.
const MOST_IMAGES: usize = 1 << 21;
const HEADER_BYTES: usize = 128;
/// Elements of a file: two arrays, and more that are passed over.
const MOST_ELEMENTS: usize = 1000;

/// Types of elements, as the format numbers them.
mod kind {
    pub const UINT8: u32 = 2;
    pub const MATRIX: u32 = 14;
    pub const COMPRESSED: u32 = 15;
}

pub(super) fn folder(folder: &Path, name: String) -> Result<Dataset, Error> {
    Ok(Dataset {
        name,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        kind: Kind::Images {
            height: SIDE,
            width: SIDE,
            channels: CHANNELS,
        },
        train: split(&folder.join("train_32x32.mat"))?,
        test: split(&folder.join("test_32x32.mat"))?,
        held_out: false,
        unreadable: Vec::new(),
    })
}

fn split(path: &Path) -> Result<Split, Error> {
    let file = File::open(path).map_err(|error| {
        Error::at(
            path,
            format!("{error}. Expected a file of SVHN's cropped digits"),
        )
    })?;
    read(BufReader::new(file)).map_err(|problem| Error::at(path, problem))
}

fn read(mut file: impl Read) -> Result<Split, String> {
    let mut header = [0; HEADER_BYTES];
    let read = file.read_exact(&mut header);
    if read.is_err() || &header[126..] != b"IM" {
        return Err("expected a MATLAB file of version 5, little-endian".into());
    }
    let (mut images, mut labels) = (None, None);
    for _ in 0..MOST_ELEMENTS {
        let Some((kind, size)) = tag(&mut file)? else {
            break;
        };
        let mut element = (&mut file).take(size.into());
        let array = match kind {
            kind::COMPRESSED => compressed(&mut element)?,
            kind::MATRIX => Some(array(&mut element)?),
            _ => None,
        };
        std::io::copy(&mut element, &mut std::io::sink()).map_err(|error| error.to_string())?;
        if element.limit() > 0 {
            return Err(format!("cut off: expected an element of {size} bytes"));
        }
        match array {
            Some(array) if array.name == "X" => images = Some(array),
            Some(array) if array.name == "y" => labels = Some(array),
            _ => {}
        }
        if let (Some(images), Some(labels)) = (&images, &labels) {
            return examples(images, labels);
        }
    }
    Err("expected arrays X and y, found none or one of them".into())
}

fn examples(images: &Array, labels: &Array) -> Result<Split, String> {
    let [SIDE, SIDE, CHANNELS, count] = images.sizes[..] else {
        return Err(format!(
            "X: expected {SIDE}×{SIDE}×{CHANNELS}×N, found {:?}",
            images.sizes
        ));
    };
    if labels.bytes.len() != count {
        return Err(format!(
            "y: expected {count} labels, found {}",
            labels.bytes.len()
        ));
    }
    let label = |&label: &u8| match label {
        10 => Ok(0),
        1..=9 => Ok(u32::from(label)),
        _ => Err(format!("y: expected labels of 1 to 10, found {label}")),
    };
    let labels: Vec<u32> = labels.bytes.iter().map(label).collect::<Result<_, _>>()?;
    let mut pixels = vec![0; images.bytes.len()];
    for (from, to) in images
        .bytes
        .chunks_exact(BYTES)
        .zip(pixels.chunks_exact_mut(BYTES))
    {
        for (i, pixel) in to.chunks_exact_mut(CHANNELS).enumerate() {
            let (row, column) = (i / SIDE, i % SIDE);
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = from[(channel * SIDE + column) * SIDE + row];
            }
        }
    }
    Ok(Split::Images(Images {
        bytes: BYTES,
        pixels: pixels.into(),
        labels: labels.into(),
    }))
}

/// An array of bytes.
struct Array {
    name: String,
    sizes: Vec<usize>,
    bytes: Vec<u8>,
}

fn compressed(element: &mut impl Read) -> Result<Option<Array>, String> {
    let mut inner = ZlibDecoder::new(element);
    match tag(&mut inner)? {
        Some((kind::MATRIX, size)) => array(&mut inner.take(size.into())).map(Some),
        _ => Ok(None),
    }
}

/// An array's flags, sizes, name and values; of one that is not of bytes no values.
fn array(element: &mut impl Read) -> Result<Array, String> {
    let (_, _flags) = part(element, 16)?;
    let (_, sizes) = part(element, 64)?;
    let sizes: Vec<usize> = sizes
        .chunks_exact(4)
        .map(|size| little(size) as usize)
        .collect();
    let (_, name) = part(element, 64)?;
    let name = String::from_utf8_lossy(&name).into_owned();
    let mut array = Array {
        name,
        sizes,
        bytes: Vec::new(),
    };
    if !matches!(&*array.name, "X" | "y") {
        return Ok(array);
    }
    let product = array
        .sizes
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size));
    let expected = product
        .filter(|product| *product <= MOST_IMAGES * BYTES)
        .ok_or_else(|| {
            format!(
                "{}: expected at most {MOST_IMAGES} images, found sizes {:?}",
                array.name, array.sizes
            )
        })?;
    let (kind, bytes) = part(element, expected)?;
    if kind != kind::UINT8 || bytes.len() != expected {
        return Err(format!(
            "{}: expected {expected} bytes for sizes {:?}, found {} of type {kind}",
            array.name,
            array.sizes,
            bytes.len()
        ));
    }
    array.bytes = bytes;
    Ok(array)
}

/// The type and the bytes of an element's part, at most `most`; parts end at a multiple of eight bytes.
fn part(element: &mut impl Read, most: usize) -> Result<(u32, Vec<u8>), String> {
    let cut = || "cut off: expected a part of an array".to_owned();
    let mut start = [0; 8];
    element.read_exact(&mut start).map_err(|_| cut())?;
    let first = little(&start[..4]);
    // A part of up to four bytes lies in its tag, whose upper half is then its size.
    let (kind, size) = match first >> 16 {
        0 => (first, little(&start[4..]) as usize),
        size => (first & 0xffff, size as usize),
    };
    if size > most {
        return Err(format!(
            "expected a part of an array of at most {most} bytes, found {size}"
        ));
    }
    if first >> 16 != 0 {
        return start[4..]
            .get(..size)
            .map(|bytes| (kind, bytes.to_vec()))
            .ok_or_else(cut);
    }
    let padded = size.next_multiple_of(8) as u64;
    let mut bytes = Vec::new();
    let read = element.take(padded).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() < size {
        return Err(cut());
    }
    bytes.truncate(size);
    Ok((kind, bytes))
}

/// The type and the size of the next element; none at the end.
fn tag(reader: &mut impl Read) -> Result<Option<(u32, u32)>, String> {
    let mut tag = Vec::new();
    let read = reader.take(8).read_to_end(&mut tag);
    read.map_err(|error| error.to_string())?;
    match tag.len() {
        0 => Ok(None),
        8 => Ok(Some((little(&tag[..4]), little(&tag[4..])))),
        found => Err(format!(
            "cut off: expected an element's type and size, found {found} bytes"
        )),
    }
}

fn little(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Two images written by SciPy, compressed and plain: see `reference/make_source_fixtures.py`.
    fn fixture(name: &str) -> Vec<u8> {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/sources/svhn");
        fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn what_scipy_wrote_is_read() {
        for name in ["train_32x32.mat", "test_32x32.mat"] {
            let Split::Images(images) = read(&fixture(name)[..]).unwrap() else {
                panic!("images")
            };
            assert_eq!(images.labels[..], [0, 9]);
            for index in 0..2 {
                for (row, column, channel) in [(0, 0, 0), (3, 5, 1), (31, 30, 2)] {
                    // As the script makes them.
                    let expected = (7 * row + 11 * column + 61 * channel + 100 * index) % 256;
                    let at = index * BYTES + (row * SIDE + column) * CHANNELS + channel;
                    assert_eq!(usize::from(images.pixels[at]), expected);
                }
            }
        }
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/sources/svhn");
        let data = super::folder(&folder, "svhn:here".into()).unwrap();
        assert_eq!(data.kind.shape(), [3, 32, 32]);
        assert_eq!(
            (data.train.len(), data.test.len(), data.classes.len()),
            (2, 2, 10)
        );
    }

    #[test]
    fn files_that_are_cut_off_or_lie_are_errors() {
        for name in ["train_32x32.mat", "test_32x32.mat"] {
            let whole = fixture(name);
            for length in 0..whole.len() - 8 {
                assert!(read(&whole[..length]).is_err(), "{name}, {length} bytes");
            }
            for at in (0..600).chain(whole.len() - 600..whole.len()) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x80;
                let _ = read(&damaged[..]);
            }
        }
        let error = read(&b"no such file"[..]).err().unwrap();
        assert!(error.contains("MATLAB file of version 5"), "{error}");
    }
}
