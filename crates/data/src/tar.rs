//! Tar archives as WebDataset makes them: `tar:DIR`, or one archive.
//!
//! Members that follow each other and have one name up to the first dot of its last part are a sample:
//! `a/0001.jpg` beside `a/0001.cls`, or beside `a/0001.json` with a key `label` (or the one that `?label=`
//! names). An image is told by its ending (jpg, jpeg, png, webp, bmp, gif, tif, tiff); members of other endings,
//! names that begin with a dot and folders are left alone. Labels are whole numbers or words; `classes.txt`
//! beside the archives, where there is one, names the classes that numbers are indices of. `shards` tells which
//! archive is of which split.
//!
//! Archives are read where they are: opening such a source goes over the members' headers, then over the images
//! once; later an image is read from its place. A compressed archive cannot be read so, and is refused.
//!
//! Errors name the archive and the member: an archive that was cut off (it must end in two blocks of zeros, and
//! nothing after them), a header with a wrong checksum, a member that claims more than the archive has, links
//! and sparse files, a sample with no label or more than one image or label.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType, Header};

use super::error::shown;
use super::files::{Listing, MOST_CLASSES, Place, Splits, Store, TestChoice, read_part};
use super::shards::{self, Shard};
use super::{Error, ImageFiles, classes};

const BLOCK: u64 = 512;
/// Of a label's member: more than any label with what else its JSON may tell.
const MOST_LABEL_BYTES: u64 = 1 << 20;
/// Of a member that tells a long name.
const MOST_NAME_BYTES: u64 = 1 << 16;
const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

pub(super) fn list(source: &ImageFiles) -> Result<Listing, Error> {
    let (root, shards) = shards::find(&source.path, "tar")?;
    let named = classes::read(&root.join("classes.txt"), MOST_CLASSES)?;
    let key = source.label.as_deref().unwrap_or("label");
    let mut splits = Splits::default();
    for (index, Shard { path, split }) in shards.iter().enumerate() {
        let place = Place::of_file(index)?;
        let path = root.join(path);
        let file = File::open(&path).map_err(|error| Error::at(&path, error.to_string()))?;
        samples(file, key, |at, length, label| {
            splits.push(
                split,
                Place {
                    at,
                    length,
                    ..place
                },
                label,
            )
        })
        .map_err(|problem| Error::at(&path, problem))?;
    }
    let paths = shards.into_iter().map(|shard| shard.path).collect();
    let store = Arc::new(Shards { root, paths });
    let choice = TestChoice {
        test: source.test.as_deref(),
        seed: source.seed,
    };
    splits.divide(&source.path, choice, named, store)
}

/// Images as parts of archives.
#[derive(Debug)]
struct Shards {
    root: Box<Path>,
    /// Inside the root.
    paths: Vec<Box<Path>>,
}

impl Store for Shards {
    fn root(&self) -> &Path {
        &self.root
    }

    /// The archive and the member, whose name is read anew; where a header cannot hold it, its beginning.
    fn name(&self, place: Place) -> String {
        let shard = &self.paths[place.file as usize];
        let mut header = Header::new_old();
        let before = place.at.saturating_sub(BLOCK);
        let bytes = read_part(&self.root.join(shard), before, BLOCK, BLOCK as usize);
        let member = match bytes {
            Ok(bytes) if bytes.len() == header.as_bytes().len() => {
                header.as_mut_bytes().copy_from_slice(&bytes);
                String::from_utf8_lossy(&header.path_bytes()).into_owned()
            }
            _ => format!("byte {}", place.at),
        };
        format!("{}: {member}", shard.display())
    }

    fn read(&self, place: Place, limit: usize) -> Result<Vec<u8>, String> {
        let path = self.root.join(&self.paths[place.file as usize]);
        read_part(&path, place.at, place.length, limit)
    }
}

/// What is known of a sample whose members are being read.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<(u64, u64)>,
    label: Option<String>,
}

impl Sample {
    fn finish(
        self,
        take: &mut impl FnMut(u64, u64, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let Self { key, image, label } = self;
        let place = |problem| format!("sample `{}`: {problem}", shown(&key));
        match (image, label) {
            (Some((at, length)), Some(label)) => take(at, length, &label).map_err(place),
            (Some(_), None) => Err(place(
                "expected a label beside its image, .cls or .json, found none".into(),
            )),
            // A sample of other things.
            (None, _) => Ok(()),
        }
    }
}

/// Goes over an archive; `take` is given where each image is, how long, and its label.
pub(super) fn samples<R: Read + Seek>(
    mut archive: R,
    key: &str,
    mut take: impl FnMut(u64, u64, &str) -> Result<(), String>,
) -> Result<(), String> {
    expect_whole(&mut archive)?;
    let mut sample = Sample::default();
    let mut archive = Archive::new(archive);
    for member in archive
        .entries_with_seek()
        .map_err(|error| error.to_string())?
    {
        let mut member = member.map_err(|error| error.to_string())?;
        let name = member.path_bytes();
        let at = member.raw_file_position();
        let name = std::str::from_utf8(&name);
        let name = name
            .map_err(|_| format!("byte {at}: expected a name in UTF-8"))?
            .to_owned();
        let Some((base, ending)) = parts(&name) else {
            continue;
        };
        let place = |problem: String| format!("member `{}`: {problem}", shown(&name));
        if member.header().entry_type().is_dir() {
            continue;
        }
        if member.header().entry_size().ok() != Some(member.size()) {
            return Err(place("expected one size, found two that differ".into()));
        }
        if sample.key != base {
            let next = Sample {
                key: base.to_owned(),
                ..Sample::default()
            };
            std::mem::replace(&mut sample, next).finish(&mut take)?;
        }
        let ending = ending.to_ascii_lowercase();
        if IMAGES.contains(&&*ending) {
            if sample.image.replace((at, member.size())).is_some() {
                return Err(place("expected one image a sample, found another".into()));
            }
        } else if matches!(&*ending, "cls" | "json") {
            let label = label(&mut member, &ending, key).map_err(place)?;
            if let Some(label) = label
                && let Some(other) = sample.label.replace(label)
                && Some(&other) != sample.label.as_ref()
            {
                let problem = format!(
                    "expected one label a sample, found another than `{}`",
                    shown(&other)
                );
                return Err(place(problem));
            }
        }
    }
    sample.finish(&mut take)
}

/// The name of a member's sample, and its ending; none of what is no sample's.
fn parts(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.')?;
    (dot > start).then(|| (&name[..dot], &name[dot + 1..]))
}

/// The label that a member tells; none where its JSON has no such key.
fn label(member: &mut impl Read, ending: &str, key: &str) -> Result<Option<String>, String> {
    let mut text = String::new();
    let read = member.take(MOST_LABEL_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| format!("expected text: {error}"))?;
    if text.len() as u64 > MOST_LABEL_BYTES {
        return Err(format!(
            "expected a label of at most {MOST_LABEL_BYTES} bytes"
        ));
    }
    if ending == "cls" {
        return Ok(Some(text.trim().to_owned()));
    }
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match json.get(key) {
        None => Ok(None),
        Some(serde_json::Value::String(label)) => Ok(Some(label.clone())),
        Some(serde_json::Value::Number(label)) if !label.is_f64() => Ok(Some(label.to_string())),
        Some(other) => Err(format!(
            "key `{key}`: expected a whole number or a word, found {}",
            shown(&other.to_string())
        )),
    }
}

/// Checks every member's header against the archive's length, and its end, before anything is believed.
fn expect_whole<R: Read + Seek>(reader: &mut R) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let length = reader.seek(SeekFrom::End(0)).map_err(said)?;
    reader.rewind().map_err(said)?;
    let mut magic = [0; 2];
    if length > 2 {
        reader.read_exact(&mut magic).map_err(said)?;
        reader.rewind().map_err(said)?;
    }
    if magic == [0x1f, 0x8b] {
        return Err(
            "expected an archive that is not compressed, found gzip; unpack it by gunzip".into(),
        );
    }
    let mut end = 0;
    let mut archive = Archive::new(&mut *reader);
    for member in archive.entries_with_seek().map_err(said)?.raw(true) {
        let member = member.map_err(|error| format!("byte {end}: {error}"))?;
        end = member_end(&member, length)?;
    }
    // What the archive's end looks like: zeros, at least two blocks of them.
    reader.seek(SeekFrom::Start(end)).map_err(said)?;
    let mut zeros = 0;
    let mut block = [0; BLOCK as usize];
    loop {
        let count = reader.read(&mut block).map_err(said)?;
        if count == 0 {
            break;
        }
        if block[..count].iter().any(|byte| *byte != 0) {
            return Err(format!(
                "byte {}: expected nothing after the archive's end, found more: are these several archives?",
                end + zeros
            ));
        }
        zeros += count as u64;
    }
    if zeros < 2 * BLOCK {
        return Err(format!(
            "cut off: expected two blocks of zeros at the archive's end, byte {end}, found {zeros} bytes"
        ));
    }
    reader.rewind().map_err(said)
}

fn member_end<R: Read>(member: &Entry<'_, R>, length: u64) -> Result<u64, String> {
    let (at, size) = (member.raw_file_position(), member.size());
    let kind = member.header().entry_type();
    let place = |problem: String| {
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        format!("member `{}`, byte {at}: {problem}", shown(&name))
    };
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
        EntryType::GNULongName
        | EntryType::GNULongLink
        | EntryType::XHeader
        | EntryType::XGlobalHeader => {
            if size > MOST_NAME_BYTES {
                return Err(place(format!(
                    "expected at most {MOST_NAME_BYTES} bytes of names, found {size}"
                )));
            }
        }
        kind => return Err(place(format!("expected files, found {kind:?}"))),
    }
    let end = at
        .checked_add(size)
        .and_then(|end| end.checked_next_multiple_of(BLOCK));
    end.filter(|_| at + size <= length).ok_or_else(|| {
        let left = length.saturating_sub(at);
        place(format!("cut off: expected {size} bytes, found {left}"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::*;
    use crate::Layout;
    use crate::files::Listed;

    /// An archive of these members.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, String)>, String> {
        let mut found = Vec::new();
        samples(Cursor::new(bytes), "label", |at, length, label| {
            let at = at as usize;
            found.push((bytes[at..at + length as usize].to_vec(), label.to_owned()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn members_of_one_name_are_a_sample() {
        let long = "long/".repeat(40) + "name.jpg";
        let long_label = "long/".repeat(40) + "name.cls";
        let bytes = archive(&[
            ("./a/0.1.cls", b"x"),
            ("a.b/00.jpg", b"one"),
            ("a.b/00.cls", b" 7\n"),
            ("a.b/00.seg.png", b"left alone"),
            ("a.b/01.json", br#"{"label": "seven", "more": 1}"#),
            ("a.b/01.JPEG", b"two"),
            ("a.b/.hidden.jpg", b"left alone"),
            ("a.b/02.txt", b"no image"),
            (&long, b"three"),
            (&long_label, b"0"),
        ]);
        let expected = [("one", "7"), ("two", "seven"), ("three", "0")];
        let expected = expected.map(|(image, label)| (image.as_bytes().to_vec(), label.to_owned()));
        assert_eq!(read(&bytes).unwrap(), expected);
        assert_eq!(read(&archive(&[])).unwrap(), []);
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_told() {
        let whole = archive(&[
            ("0.jpg", &[9; 700]),
            ("0.cls", b"1"),
            ("1.jpg", b"x"),
            ("1.cls", b"0"),
        ]);
        assert_eq!(read(&whole).unwrap().len(), 2);
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(!error.is_empty(), "{length} bytes");
        }
        let cut = read(&whole[..1000]).unwrap_err();
        assert!(
            cut.contains("member `0.jpg`, byte 512: cut off: expected 700 bytes, found 488"),
            "{cut}"
        );
        let ends = read(&whole[..whole.len() - 512]).unwrap_err();
        assert!(ends.contains("two blocks of zeros"), "{ends}");
    }

    #[test]
    fn lies_are_told() {
        let good = archive(&[("0.jpg", b"x"), ("0.cls", b"1")]);
        let edited = |edit: &dyn Fn(&mut Header)| {
            let mut bytes = good.clone();
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            edit(&mut header);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
            read(&bytes).unwrap_err()
        };
        for (edit, problem) in [
            (
                &(|h: &mut Header| h.set_size(1 << 40)) as &dyn Fn(&mut Header),
                "expected 1099511627776 bytes",
            ),
            (
                &|h| h.set_entry_type(EntryType::Symlink),
                "expected files, found Symlink",
            ),
            (
                &|h| h.set_entry_type(EntryType::Link),
                "expected files, found Link",
            ),
            (
                &|h| h.set_entry_type(EntryType::GNUSparse),
                "expected files, found GNUSparse",
            ),
        ] {
            let error = edited(edit);
            assert!(
                error.contains("member `0.jpg`, byte 512") && error.contains(problem),
                "{error}"
            );
        }
        let mut damaged = good.clone();
        damaged[3] ^= 1;
        assert!(read(&damaged).unwrap_err().contains("checksum"));
        let twice = [&good[..], &good[..]].concat();
        assert!(read(&twice).unwrap_err().contains("several archives"));
        assert!(
            read(b"\x1f\x8b\x08\x00\x00")
                .unwrap_err()
                .contains("gunzip")
        );
        let long = vec![b'a'; MOST_NAME_BYTES as usize + 1];
        let long = archive(&[(std::str::from_utf8(&long).unwrap(), b"x")]);
        assert!(read(&long).unwrap_err().contains("bytes of names"));
    }

    #[test]
    fn samples_that_do_not_fit_are_named() {
        for (members, problem) in [
            (
                &[("0.jpg", &b"x"[..]), ("1.jpg", b"y")][..],
                "sample `0`: expected a label",
            ),
            (
                &[("0.jpg", b"x"), ("0.png", b"y"), ("0.cls", b"1")],
                "member `0.png`: expected one image",
            ),
            (
                &[
                    ("0.jpg", b"x"),
                    ("0.cls", b"1"),
                    ("0.json", br#"{"label": 2}"#),
                ],
                "another than `1`",
            ),
            (
                &[("0.jpg", b"x"), ("0.json", br#"{"label": 2.5}"#)],
                "whole number or a word, found 2.5",
            ),
            (&[("0.jpg", b"x"), ("0.json", b"{")], "member `0.json`: EOF"),
            (
                &[("0.jpg", b"x"), ("0.cls", b"\xff")],
                "member `0.cls`: expected text",
            ),
            (
                &[("0.jpg", b"x"), ("0.cls", &[b'1'; 2 << 20])],
                "at most 1048576 bytes",
            ),
        ] {
            let error = read(&archive(members)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn what_webdataset_wrote_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../reference/fixtures/sources/webdataset");
        let listing = list(&ImageFiles::new(Layout::Tar, &folder)).unwrap();
        assert_eq!(listing.classes, ["ant", "bee", "cat"]);
        let labels = |images: &[Listed]| images.iter().map(|image| image.label).collect::<Vec<_>>();
        assert_eq!(labels(&listing.train), [0, 1, 2, 1, 0]);
        assert_eq!(labels(&listing.test), [2, 1]);
        let place = listing.train[1].place;
        assert_eq!(
            listing.store.name(place),
            "train-000000.tar: train/0001.jpg"
        );
        let expected = fs::read(folder.join("../../encoded/q75-s2.jpg")).unwrap();
        assert_eq!(listing.store.read(place, 9999).unwrap(), expected);
        assert_eq!(listing.store.read(place, 99).unwrap(), expected[..100]);
    }

    #[test]
    fn defects_name_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.tar"), archive(&[("0.jpg", b"x")])).unwrap();
        let error = list(&ImageFiles::new(Layout::Tar, folder.path()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("train.tar: sample `0`: expected a label"),
            "{error}"
        );
    }
}
