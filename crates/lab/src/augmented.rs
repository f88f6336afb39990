//! Augmented copies of a source's training images as files, with a manifest that makes them again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use evenkeel_augment::{Parameters, Pipeline, Sample, Stream, to_png};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::{self, Original, Originals, Source};
use crate::preview::with_classes;
use crate::{Error, RecipeError};

/// The manifest's name in the folder.
pub const MANIFEST: &str = "manifest.jsonl";
const DRAFT: &str = ".draft-manifest.jsonl";
/// Of a line: parameters of operations that are nested as deep as they may be.
const MOST_LINE_BYTES: u64 = 1 << 24;
/// Copies that are made at a time, by all threads together.
const RUN: usize = 256;

/// A line of the manifest: where a copy is, what it is of, and what its operations drew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentedCopy {
    /// Its file inside the folder, PNG: `train/`, a folder a class.
    pub file: String,
    /// The training image's index in the source.
    pub index: usize,
    /// The training image's name in the source.
    pub name: String,
    /// Its class: that of the image, unless the pipeline exchanged it.
    pub class: String,
    /// The copy's number, from 0: what epoch of a training with this seed shows it.
    pub copy: u64,
    /// What the operations drew: [`Pipeline::replay`] makes the copy of the image by it.
    pub parameters: Vec<Parameters>,
}

/// What copies are made by.
#[derive(Clone, Debug)]
pub enum Augmenting<'a> {
    /// Copies of every training image, by fresh draws.
    Pipeline {
        /// The pipeline.
        pipeline: &'a Pipeline,
        /// Copies of each image.
        copies: u64,
        /// The root of all randomness.
        seed: u64,
    },
    /// The copies of a manifest, made again.
    Manifest(&'a Path),
}

/// Writes copies into a folder, which must be empty or not there, and tells after each run of them how many of
/// how many are done. The manifest is there when all are. Returns how many.
///
/// The copies' classes are folders in `train/`, so beside a folder `test/` they are a source `folder:DIR`.
/// Copy k of an image is what epoch k of a training with the same pipeline and seed shows of it, if that is
/// `exact`; otherwise training may fold neighbouring steps into one, which changes a few values.
///
/// # Errors
/// If the folder holds anything, the source cannot be read or is a table, the pipeline or a line of the manifest
/// does not fit an image: names it.
pub fn augment(
    source: &Source,
    by: &Augmenting<'_>,
    folder: &Path,
    done: &mut dyn FnMut(usize, usize),
) -> Result<usize, Error> {
    expect_empty(folder)?;
    let originals = Originals::open(source)?;
    fs::create_dir_all(folder).map_err(|error| data::Error::at(folder, error.to_string()))?;
    let draft = folder.join(DRAFT);
    let failed = |error: std::io::Error| data::Error::at(&draft, error.to_string());
    let mut lines = BufWriter::new(File::create(&draft).map_err(failed)?);
    let mut count = 0;
    let mut write = |jobs: Vec<Job>, total: usize| -> Result<(), Error> {
        let made: Result<Vec<_>, Error> = jobs
            .into_par_iter()
            .map(|job| job.make(&originals, folder))
            .collect();
        for copy in made? {
            let text = serde_json::to_string(&copy).map_err(|error| failed(error.into()))?;
            writeln!(lines, "{text}").map_err(failed)?;
            count += 1;
        }
        done(count, total);
        Ok(())
    };
    match by {
        Augmenting::Pipeline {
            pipeline,
            copies,
            seed,
        } => {
            let pipeline = &with_classes(pipeline, &originals)?;
            let total = originals
                .len()
                .saturating_mul(usize::try_from(*copies).unwrap_or(usize::MAX));
            let fresh = (0..originals.len()).flat_map(|index| {
                (0..*copies).map(move |epoch| Job::Fresh(pipeline, *seed, Sample { epoch, index }))
            });
            for_runs(fresh.map(Ok), |jobs| write(jobs, total))?;
        }
        Augmenting::Manifest(path) => {
            let total = read_manifest(path)?.try_fold(0, |count, line| line.map(|_| count + 1))?;
            for_runs(
                read_manifest(path)?.map(|line| line.map(Job::Again)),
                |jobs| write(jobs, total),
            )?;
        }
    }
    let file = lines
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    fs::rename(&draft, folder.join(MANIFEST)).map_err(failed)?;
    Ok(count)
}

/// The lines of a manifest.
///
/// # Errors
/// If it cannot be opened; each line that is none is an error that names it.
pub fn read_manifest(
    path: &Path,
) -> Result<impl Iterator<Item = Result<AugmentedCopy, Error>> + use<>, Error> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|error| data::Error::at(path, error.to_string()))?;
    let (mut reader, mut number) = (BufReader::new(file), 0_u64);
    let mut next = move || -> Result<Option<AugmentedCopy>, String> {
        number += 1;
        let mut line = String::new();
        let read = (&mut reader).take(MOST_LINE_BYTES).read_line(&mut line);
        let wrong = |problem: String| format!("line {number}: {problem}");
        match read.map_err(|error| wrong(error.to_string()))? {
            0 => Ok(None),
            _ if line.len() as u64 == MOST_LINE_BYTES => Err(wrong(format!(
                "expected fewer than {MOST_LINE_BYTES} bytes"
            ))),
            _ => serde_json::from_str(&line)
                .map(Some)
                .map_err(|error| wrong(error.to_string())),
        }
    };
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let line = next().map_err(|problem| RecipeError::new(&place, problem).into());
        ended = !matches!(line, Ok(Some(_)));
        line.transpose()
    }))
}

fn for_runs<T>(
    mut items: impl Iterator<Item = Result<T, Error>>,
    mut work: impl FnMut(Vec<T>) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let run: Vec<T> = items.by_ref().take(RUN).collect::<Result<_, _>>()?;
        if run.is_empty() {
            return Ok(());
        }
        work(run)?;
    }
}

/// A copy that is to be made.
enum Job<'a> {
    Fresh(&'a Pipeline, u64, Sample),
    Again(AugmentedCopy),
}

impl Job<'_> {
    fn make(self, originals: &Originals, folder: &Path) -> Result<AugmentedCopy, Error> {
        let index = match &self {
            Self::Fresh(_, _, sample) => sample.index,
            Self::Again(copy) => copy.index,
        };
        if index >= originals.len() {
            let problem = format!(
                "image {index}: expected one of {} training images",
                originals.len()
            );
            return Err(Error::Unfit(problem));
        }
        let original = originals.read(index)?;
        let unfit = |error: evenkeel_augment::Error| {
            Error::Unfit(format!("image {}: {error}", original.name))
        };
        let wrong = |problem| Error::Unfit(format!("image {}: {problem}", original.name));
        let copy = match self {
            Self::Fresh(pipeline, seed, sample) => {
                let (width, height) = (original.image.width(), original.image.height());
                let stream = Stream::new(seed, sample);
                let parameters = pipeline.draw_for(original.label, width, height, stream);
                let parameters = parameters.map_err(unfit)?;
                AugmentedCopy::new(&original, originals.classes(), sample.epoch, parameters)
                    .map_err(&wrong)?
            }
            Self::Again(copy) => {
                let parameters = copy.parameters.clone();
                let classes = originals.classes();
                let expected = AugmentedCopy::new(&original, classes, copy.copy, parameters);
                let expected = expected.map_err(&wrong)?;
                if copy != expected {
                    return Err(Error::Unfit(format!(
                        "image {index}: the manifest tells of {} of class {}, the source has {} of class {}",
                        copy.name, copy.class, expected.name, expected.class
                    )));
                }
                copy
            }
        };
        let picture = Pipeline::replay(&original.image, &copy.parameters).map_err(unfit)?;
        let path = folder.join(&copy.file);
        let failed = |error: std::io::Error| data::Error::at(&path, error.to_string());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, to_png(&picture)?).map_err(failed)?;
        Ok(copy)
    }
}

impl AugmentedCopy {
    fn new(
        original: &Original,
        classes: &[String],
        copy: u64,
        parameters: Vec<Parameters>,
    ) -> Result<Self, String> {
        let Original { name, index, .. } = original;
        let label = Pipeline::label(&parameters, original.label);
        let class = classes.get(label as usize).ok_or_else(|| {
            let count = classes.len();
            format!("parameters: expected a label below {count}, found {label}")
        })?;
        // A class's name may be anything, a folder's may not.
        let plain = |c: char| c.is_alphanumeric() || " ._-+()".contains(c);
        let is_plain = !class.is_empty()
            && !class.starts_with('.')
            && class.len() < 200
            && class.chars().all(plain);
        let folder = if is_plain {
            class.clone()
        } else {
            format!("class {label}")
        };
        Ok(Self {
            file: format!("train/{folder}/{index}-{copy}.png"),
            index: *index,
            name: name.clone(),
            class: class.clone(),
            copy,
            parameters,
        })
    }
}

fn expect_empty(folder: &Path) -> Result<(), Error> {
    let mut entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| data::Error::at(folder, error.to_string()))?,
    };
    match entries.next() {
        None => Ok(()),
        Some(entry) => {
            let found =
                entry.map_or_else(|_| PathBuf::new(), |entry| PathBuf::from(entry.file_name()));
            let problem = format!(
                "expected an empty folder or none, found {} in it",
                found.display()
            );
            Err(data::Error::at(folder, problem).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ImageFiles, Layout};
    use crate::read_pipeline;
    use evenkeel_augment::{Colors, DecodeLimits, decode};

    fn fixtures() -> Source {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../reference/fixtures/sources/webdataset");
        Source::Files(ImageFiles::new(Layout::Tar, folder))
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let lines = read_manifest(&folder.join(MANIFEST)).unwrap();
        lines
            .map(|line| {
                let file = line.unwrap().file;
                let bytes = fs::read(folder.join(&file)).unwrap();
                (file, bytes)
            })
            .collect()
    }

    #[test]
    fn a_manifest_makes_the_same_pixels_again() {
        let temp = tempfile::tempdir().unwrap();
        let (first, again) = (temp.path().join("first"), temp.path().join("again"));
        let pipeline = read_pipeline("randaugment").unwrap();
        let by = Augmenting::Pipeline {
            pipeline: &pipeline,
            copies: 3,
            seed: 5,
        };
        let mut told = Vec::new();
        let count = augment(&fixtures(), &by, &first, &mut |done, total| {
            told.push((done, total))
        });
        assert_eq!((count.unwrap(), told), (15, vec![(15, 15)]));
        let found = files(&first);
        assert_eq!(found[1].0, "train/ant/0-1.png");
        // The files hold what a replay of their lines makes, and what the exact pipeline makes of the image.
        let exact = Pipeline {
            exact: true,
            ..pipeline.clone()
        };
        let originals = Originals::open(&fixtures()).unwrap();
        for line in read_manifest(&first.join(MANIFEST)).unwrap() {
            let line = line.unwrap();
            let image = originals.read(line.index).unwrap().image;
            let bytes = fs::read(first.join(&line.file)).unwrap();
            let written = decode(&bytes, Colors::Rgb, &DecodeLimits::default()).unwrap();
            assert_eq!(Pipeline::replay(&image, &line.parameters).unwrap(), written);
            let sample = Sample {
                epoch: line.copy,
                index: line.index,
            };
            assert_eq!(
                exact.augment(&image, Stream::new(5, sample)).unwrap(),
                written
            );
        }

        let by = Augmenting::Manifest(&first.join(MANIFEST));
        assert_eq!(
            augment(&fixtures(), &by, &again, &mut |_, _| ()).unwrap(),
            15
        );
        assert_eq!(files(&again), found);
        let refused = augment(&fixtures(), &by, &again, &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("expected an empty folder"), "{refused}");
        // Of another source the manifest tells nothing.
        let other = augment(
            &Source::FashionMnist10k,
            &by,
            &temp.path().join("other"),
            &mut |_, _| (),
        );
        let other = other.unwrap_err().to_string();
        assert!(
            other.contains("the manifest tells of train-000000.tar: train/0000.png"),
            "{other}"
        );
        assert!(!temp.path().join("other").join(MANIFEST).exists());
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let good = r#"{"file":"train/a/0-0.png","index":0,"name":"x","class":"a","copy":0,"parameters":[]}"#;
        for (second, problem) in [
            ("{".to_owned(), "line 2: EOF"),
            (good.replace("copy", "kopy"), "line 2: unknown field `kopy`"),
            (
                good.replace("[]", "[{\"op\":\"x\"}]"),
                "line 2: unknown variant `x`",
            ),
            (
                "x".repeat(MOST_LINE_BYTES as usize),
                "line 2: expected fewer than",
            ),
        ] {
            fs::write(&path, format!("{good}\n{second}\n")).unwrap();
            let mut lines = read_manifest(&path).unwrap();
            assert_eq!(lines.next().unwrap().unwrap().class, "a");
            let error = lines.next().unwrap().unwrap_err().to_string();
            assert!(
                error.contains("manifest.jsonl") && error.contains(problem),
                "{error}"
            );
            assert!(lines.next().is_none());
        }
    }

    /// Classes by name: one whose images stay as they are, one whose mirrored images are of another class.
    #[test]
    fn copies_mind_their_class() {
        let temp = tempfile::tempdir().unwrap();
        let originals = Originals::open(&fixtures()).unwrap();
        let [kept, from, to] = originals.classes() else {
            panic!("expected three classes, found {:?}", originals.classes());
        };
        let text = format!(
            "normalize = {{ mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }}\n[[operations]]\nop = \"label_aware\"\nexcept = [{kept:?}]\nleft_right = [[{from:?}, {to:?}]]\n\
             operations = [{{ op = \"horizontal_flip\", probability = 1.0 }}]\n"
        );
        let path = temp.path().join("mirror.toml");
        fs::write(&path, text).unwrap();
        let pipeline = read_pipeline(path.to_str().unwrap()).unwrap();
        let by = Augmenting::Pipeline {
            pipeline: &pipeline,
            copies: 1,
            seed: 0,
        };
        let first = temp.path().join("first");
        augment(&fixtures(), &by, &first, &mut |_, _| ()).unwrap();
        for line in read_manifest(&first.join(MANIFEST)).unwrap() {
            let line = line.unwrap();
            let original = originals.read(line.index).unwrap();
            let expected = match &original.class {
                class if class == from => to,
                class if class == to => from,
                class => class,
            };
            assert_eq!(&line.class, expected);
            let bytes = fs::read(first.join(&line.file)).unwrap();
            let copy = decode(&bytes, Colors::Rgb, &DecodeLimits::default()).unwrap();
            assert_eq!(copy == original.image, original.class == *kept);
        }
        let by = Augmenting::Manifest(&first.join(MANIFEST));
        let again = temp.path().join("again");
        augment(&fixtures(), &by, &again, &mut |_, _| ()).unwrap();
        assert_eq!(files(&first), files(&again));

        let text = fs::read_to_string(&path)
            .unwrap()
            .replace(&format!("{kept:?}"), "\"dog\"");
        fs::write(&path, text).unwrap();
        let by = Augmenting::Pipeline {
            pipeline: &read_pipeline(path.to_str().unwrap()).unwrap(),
            copies: 1,
            seed: 0,
        };
        let error = augment(&fixtures(), &by, &temp.path().join("wrong"), &mut |_, _| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("\"dog\"") && error.contains(kept), "{error}");
    }

    #[test]
    fn classes_of_any_name_stay_inside_the_folder() {
        let image = evenkeel_augment::Image::new(1, 1, 1, vec![0]).unwrap();
        for (class, folder) in [
            ("T-shirt (top)", "train/T-shirt (top)/7-0.png"),
            ("..", "train/class 3/7-0.png"),
            ("a/../../b", "train/class 3/7-0.png"),
            ("", "train/class 3/7-0.png"),
        ] {
            let original = Original {
                name: "x".into(),
                index: 7,
                class: class.into(),
                label: 3,
                image: image.clone(),
            };
            let classes = vec![class.to_owned(); 4];
            let copy = AugmentedCopy::new(&original, &classes, 0, Vec::new());
            assert_eq!(copy.unwrap().file, folder);
        }
    }
}
