//! Images in files, archives and tables: what all such sources have in common.
//!
//! When such data are opened, every image is read and decoded once: for the statistics that images are
//! normalized by, for the checksums that a run is resumed by, and to learn which cannot be read before a
//! training has run for hours. Later an image is read when a batch needs it.

mod check;
mod known;
mod listing;
mod store;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use evenkeel_augment::{DecodeLimits, Operation, Pipeline, Size, Sizes};
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Kind, Split};
use super::source::Layout;
use super::{Error, ImageFiles, Original, folder, list, parquet, tar};
use crate::unnormalized;
pub(super) use check::report;
pub use check::{FilesReport, Finding, FindingKind};
pub use known::Files;
pub(crate) use known::Sums;
use known::{Decoding, Known};
pub(super) use listing::{Listed, Listing, MOST_CLASSES, Splits, TestChoice, split_name};
pub(super) use store::{Place, Store, Whole, expect_inside, read_part};

/// How images that are in files become examples.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageOptions {
    /// What brings each image to the one size that the net sees, drawing nothing: a resize and a crop.
    pub test: Vec<Operation>,
    /// What becomes of images that cannot be read.
    pub unreadable: Unreadable,
    /// What a file may ask for.
    pub limits: DecodeLimits,
    /// Encoded bytes kept in memory, at most.
    pub cache_bytes: usize,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            test: Vec::new(),
            unreadable: Unreadable::Stop,
            limits: DecodeLimits::default(),
            cache_bytes: 1 << 30,
        }
    }
}

/// What becomes of images that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// The first is an error.
    #[default]
    Stop,
    /// They are left out, and each is told of.
    Skip,
    /// The next one of the same class that can be read takes the place of each, and each is told of.
    Substitute,
}

/// What a source lists.
pub(super) fn list(source: &ImageFiles) -> Result<Listing, Error> {
    let (path, test) = (&*source.path, source.test.as_deref());
    match source.layout {
        Layout::Folder => folder::list(path, test),
        Layout::List => list::list(source),
        Layout::Tar => tar::list(source),
        Layout::Parquet => parquet::list(source),
    }
}

pub(super) fn open(source: &ImageFiles, options: &ImageOptions) -> Result<Dataset, Error> {
    for (step, operation) in options.test.iter().enumerate() {
        if !operation.is_fixed() {
            return Err(Error::new(
                format!("augment.test: step {step} ({})", operation.name()),
                "expected operations that draw nothing, such as resize and center_crop",
            ));
        }
    }
    let Listing {
        classes,
        train,
        test,
        store,
    } = list(source)?;
    let decoding = Decoding {
        colors: source.colors,
        limits: options.limits,
    };
    let budget = AtomicUsize::new(options.cache_bytes);
    let mut unreadable = Vec::new();
    let mut split = |listed: Vec<Listed>| -> Result<Files, Error> {
        let stop = options.unreadable == Unreadable::Stop;
        let read = scan(&*store, decoding, &listed, &budget, stop);
        let (images, labels) = settle(&*store, &listed, read, options.unreadable, &mut unreadable)?;
        if images.is_empty() && !listed.is_empty() {
            let problem = format!("no image can be read: {}", unreadable.join("; "));
            return Err(Error::at(store.root(), problem));
        }
        Ok(Files {
            images: images.into(),
            labels: labels.into(),
            test: options.test.clone().into(),
            decoding,
            store: Arc::clone(&store),
        })
    };
    let (train, test) = (split(train)?, split(test)?);
    let size = size(store.root(), &options.test, [&train, &test])?;
    Ok(Dataset {
        name: source.to_string(),
        classes,
        kind: Kind::Images {
            height: size.height,
            width: size.width,
            channels: source.colors.channels(),
        },
        train: Split::Files(train),
        test: Split::Files(test),
        held_out: false,
        unreadable,
    })
}

/// The one size that the net sees.
fn size(root: &Path, test: &[Operation], splits: [&Files; 2]) -> Result<Size, Error> {
    let sizes = splits.iter().filter_map(|files| files.sizes());
    let Some(sizes) = sizes.reduce(Sizes::or) else {
        return Err(Error::at(root, "expected images, found none"));
    };
    let pipeline = Pipeline {
        operations: test.to_vec(),
        normalize: unnormalized(),
        exact: false,
    };
    pipeline.only_size(sizes).map_err(|error| {
        let problem = format!(
            "images of {sizes} pixels. augment.test: {error}. Expected operations there that bring every \
             image to one size, such as {{ op = \"resize\", to = {{ short_side = 36 }} }} and {{ op = \
             \"center_crop\", height = 32, width = 32 }}"
        );
        Error::at(root, problem)
    })
}

/// What reading an image gave; none where it was not read.
type Read = Option<Result<Known, String>>;

/// Images that a thread takes at a time: neighbours are read faster together where they share a page.
const RUN: usize = 64;

/// What reading each image gave, in order; with `stop`, none after an error, which is among them.
fn scan(
    store: &dyn Store,
    decoding: Decoding,
    listed: &[Listed],
    budget: &AtomicUsize,
    stop: bool,
) -> Vec<Read> {
    let mut all: Vec<Read> = listed.iter().map(|_| None).collect();
    // None once an error stopped it: earlier runs are under way then, so the first of all errors is found.
    let runs = Mutex::new(Some(listed.chunks(RUN).zip(all.chunks_mut(RUN))));
    let lock = || runs.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        loop {
            let next = lock().as_mut().and_then(Iterator::next);
            let Some((listed, read)) = next else {
                return;
            };
            let mut images = listed.iter().zip(read);
            let mut places = listed.iter().map(|image| image.place);
            store.read_each(&mut places, decoding.limits.bytes, &mut |bytes| {
                let Some((image, read)) = images.next() else {
                    return false;
                };
                let known = bytes.and_then(|bytes| know(decoding, image.place, bytes, budget));
                let stopped = stop && known.is_err();
                *read = Some(known);
                if stopped {
                    *lock() = None;
                }
                !stopped
            });
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // A panic of a thread, a defect of this crate, goes on here: `decode` gives errors.
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    all
}

fn know(
    decoding: Decoding,
    place: Place,
    bytes: Vec<u8>,
    budget: &AtomicUsize,
) -> Result<Known, String> {
    let image = decoding.decode(&bytes)?;
    let mut known = Known::new(place, &bytes, &image);
    let take = |left: usize| left.checked_sub(bytes.len());
    let fits = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    known.cached = fits.is_ok().then(|| bytes.into());
    Ok(known)
}

/// Does with unreadable images what was asked for, and tells of each.
fn settle(
    store: &dyn Store,
    listed: &[Listed],
    read: Vec<Read>,
    policy: Unreadable,
    told: &mut Vec<String>,
) -> Result<(Vec<Known>, Vec<u32>), Error> {
    let readable = |index: &usize| matches!(read[*index], Some(Ok(_)));
    let (mut images, mut labels) = (Vec::with_capacity(listed.len()), Vec::new());
    for (index, &Listed { place, label }) in listed.iter().enumerate() {
        match &read[index] {
            Some(Ok(image)) => images.push(image.clone()),
            // Not read, as an error stopped it, which comes later in the list only where threads overtook.
            None => continue,
            Some(Err(problem)) => match policy {
                Unreadable::Stop => {
                    let problem = format!(
                        "{problem}. Remove or mend it, or say data.unreadable = \"skip\" or \"substitute\" \
                         in the recipe"
                    );
                    return Err(Error::new(store.whole_name(place), problem));
                }
                Unreadable::Skip => {
                    told.push(format!("{}: {problem}: left out", store.whole_name(place)));
                    continue;
                }
                Unreadable::Substitute => {
                    let same = |i: &usize| listed[*i].label == label;
                    let others = (index + 1..listed.len()).chain(0..index);
                    let Some(other) = others.filter(same).find(readable) else {
                        let problem = format!(
                            "{problem}; and no image of its class can be read to take its place"
                        );
                        return Err(Error::new(store.whole_name(place), problem));
                    };
                    let Some(Ok(image)) = &read[other] else {
                        continue;
                    };
                    told.push(format!(
                        "{}: {problem}: {} takes its place",
                        store.whole_name(place),
                        store.name(image.place)
                    ));
                    images.push(image.clone());
                }
            },
        }
        labels.push(label);
    }
    Ok((images, labels))
}

/// The training images of a source, read when they are asked for; opening it reads none.
#[derive(Debug)]
pub(super) struct Unread {
    listing: Listing,
    decoding: Decoding,
}

impl Unread {
    pub fn open(source: &ImageFiles) -> Result<Self, Error> {
        let decoding = Decoding {
            colors: source.colors,
            limits: DecodeLimits::default(),
        };
        Ok(Self {
            listing: list(source)?,
            decoding,
        })
    }

    pub fn len(&self) -> usize {
        self.listing.train.len()
    }

    pub fn classes(&self) -> &[String] {
        &self.listing.classes
    }

    pub fn read(&self, index: usize) -> Result<Original, Error> {
        let Listing {
            train,
            classes,
            store,
            ..
        } = &self.listing;
        let Listed { place, label } = train[index];
        let bytes = store.read(place, self.decoding.limits.bytes);
        let image = bytes.and_then(|bytes| self.decoding.decode(&bytes));
        Ok(Original {
            image: image.map_err(|problem| Error::new(store.whole_name(place), problem))?,
            class: classes[label as usize].clone(),
            label,
            name: store.name(place),
            index,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use evenkeel_augment::Size;

    use super::*;
    use crate::preparation;
    use crate::{Checked, FindingKind, Originals, Source, check};

    /// A file of the fixtures that are compared with Pillow.
    fn fixture(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/encoded");
        fs::read(folder.join(name)).unwrap()
    }

    const PHOTOS: [&str; 8] = [
        "rgb.png",
        "q75-s2.jpg",
        "lossless.webp",
        "palette.gif",
        "rgb.bmp",
        "rgb-lzw.tif",
        "cmyk.jpg",
        "turned-6.jpg",
    ];

    /// Two classes of all formats and several sizes, in the folder's natural order.
    fn photos() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (split, class, photos) in [
            ("train", "a", &PHOTOS[..5]),
            ("train", "b", &PHOTOS[5..]),
            ("test", "b", &PHOTOS[1..3]),
        ] {
            for (index, name) in photos.iter().enumerate() {
                write(
                    folder.path(),
                    &format!("{split}/{class}/{index}-{name}"),
                    &fixture(name),
                );
            }
        }
        folder
    }

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn source(root: &Path) -> Source {
        Source::Files(ImageFiles::new(Layout::Folder, root))
    }

    fn operations(text: &str) -> Vec<Operation> {
        serde_json::from_str(text).unwrap()
    }

    fn options() -> ImageOptions {
        ImageOptions {
            test: operations(
                r#"[{"op": "resize", "to": {"short_side": 12}}, {"op": "center_crop", "height": 10, "width": 12}]"#,
            ),
            ..ImageOptions::default()
        }
    }

    fn open(root: &Path, options: &ImageOptions) -> Result<Dataset, String> {
        Dataset::open_with(&source(root), options).map_err(|error| error.to_string())
    }

    fn files(split: &Split) -> &Files {
        match split {
            Split::Files(files) => files,
            _ => panic!("expected files"),
        }
    }

    #[test]
    fn images_of_many_sizes_are_the_same_with_and_without_a_cache() {
        let folder = photos();
        let data = open(folder.path(), &options()).unwrap();
        assert_eq!(data.classes, ["a", "b"]);
        assert_eq!(data.kind.shape(), [3, 10, 12]);
        assert_eq!(data.train.labels(), [0, 0, 0, 0, 0, 1, 1, 1]);
        let uncached = ImageOptions {
            cache_bytes: 0,
            ..options()
        };
        let uncached = open(folder.path(), &uncached).unwrap();
        let (cached, uncached) = (files(&data.train), files(&uncached.train));
        assert!(cached.images.iter().all(|image| image.cached.is_some()));
        assert!(uncached.images.iter().all(|image| image.cached.is_none()));
        for index in 0..cached.len() {
            assert_eq!(cached.read(index), uncached.read(index));
        }
    }

    /// The images of `reference/fixtures/sources`, as each kind of source has them.
    #[test]
    fn the_same_images_are_the_same_data_in_any_source() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures");
        let temp = tempfile::tempdir().unwrap();
        let (train, test) = (
            [
                ("rgb.png", 0),
                ("q75-s2.jpg", 1),
                ("lossless.webp", 2),
                ("gray.png", 1),
                ("palette.gif", 0),
            ],
            [("turned-6.jpg", 2), ("rgb-lzw.tif", 1)],
        );
        let mut list = String::from("path,label,split\n");
        for (split, images) in [("train", &train[..]), ("test", &test[..])] {
            for (name, label) in images {
                write(temp.path(), name, &fixture(name));
                list += &format!("{name},{},{split}\n", ["ant", "bee", "cat"][*label]);
            }
        }
        write(temp.path(), "list.csv", list.as_bytes());
        let sources = fixtures.join("sources");
        let open = |layout, path: &Path, cache_bytes| {
            let options = ImageOptions {
                cache_bytes,
                ..options()
            };
            let source = Source::Files(ImageFiles::new(layout, path));
            Dataset::open_with(&source, &options).unwrap()
        };
        let all = [
            (Layout::List, temp.path().join("list.csv")),
            (Layout::Tar, sources.join("webdataset")),
            (Layout::Parquet, sources.join("hub")),
        ];
        let expected = open(all[0].0, &all[0].1, 0);
        assert_eq!(expected.classes, ["ant", "bee", "cat"]);
        for (layout, path) in all {
            for cache_bytes in [0, 1 << 20] {
                let data = open(layout, &path, cache_bytes);
                assert_eq!(data.classes, expected.classes);
                assert_eq!(preparation(&data), preparation(&expected));
                for (split, expected) in
                    [(&data.train, &expected.train), (&data.test, &expected.test)]
                {
                    assert_eq!(split.labels(), expected.labels());
                    let (split, expected) = (files(split), files(expected));
                    assert!(split.digests().eq(expected.digests()));
                    for index in 0..split.len() {
                        assert_eq!(split.read(index), expected.read(index));
                    }
                }
            }
        }
    }

    #[test]
    fn statistics_are_of_all_training_pixels_and_go_with_a_subset() {
        let folder = photos();
        let data = open(folder.path(), &options()).unwrap();
        let of = |split: &Split| {
            let data = Dataset {
                train: split.clone(),
                ..data.clone()
            };
            preparation(&data).mean[0]
        };
        let mean = |indices: &[usize]| {
            let (mut sum, mut count) = (0.0, 0.0);
            for &index in indices {
                let image = files(&data.train).read(index).unwrap();
                let levels = image.pixels().iter().step_by(3);
                sum += levels.map(|&level| f64::from(level) / 255.0).sum::<f64>();
                count += (image.width() * image.height()) as f64;
            }
            sum / count
        };
        assert!((f64::from(of(&data.train)) - mean(&[0, 1, 2, 3, 4, 5, 6, 7])).abs() < 1e-6);
        let subset = data.train.subset(&[1, 6]);
        assert_eq!(subset.labels(), [0, 1]);
        assert!((f64::from(of(&subset)) - mean(&[1, 6])).abs() < 1e-6);
    }

    #[test]
    fn sizes_that_vary_need_operations_that_draw_nothing() {
        let folder = photos();
        let error = open(folder.path(), &ImageOptions::default()).unwrap_err();
        assert!(
            error.contains("17–24×17–33") && error.contains("augment.test"),
            "{error}"
        );
        let random = ImageOptions {
            test: operations(r#"[{"op": "random_resized_crop", "height": 8, "width": 8}]"#),
            ..ImageOptions::default()
        };
        let error = open(folder.path(), &random).unwrap_err();
        assert!(
            error.contains("step 0 (random_resized_crop)") && error.contains("draw nothing"),
            "{error}"
        );
        let error = Dataset::open_with(&Source::FashionMnist10k, &options())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("augment.test") && error.contains("remove it"),
            "{error}"
        );
    }

    #[test]
    fn unreadable_images_stop_or_are_told_of() {
        let folder = photos();
        let whole = fixture("rgb.png");
        write(
            folder.path(),
            "train/a/1-q75-s2.jpg",
            &whole[..whole.len() / 2],
        );
        write(folder.path(), "train/b/9.txt", b"no image");
        let error = open(folder.path(), &options()).unwrap_err();
        assert!(
            error.contains("train/a/1-q75-s2.jpg: PNG: ") && error.contains("data.unreadable"),
            "{error}"
        );

        let skipped = open(
            folder.path(),
            &ImageOptions {
                unreadable: Unreadable::Skip,
                ..options()
            },
        )
        .unwrap();
        assert_eq!(skipped.train.labels(), [0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(skipped.unreadable.len(), 2);
        assert!(
            skipped.unreadable[1].contains("train/b/9.txt")
                && skipped.unreadable[1].ends_with("left out")
        );

        let substitute = ImageOptions {
            unreadable: Unreadable::Substitute,
            ..options()
        };
        let data = open(folder.path(), &substitute).unwrap();
        assert_eq!(data.train.labels(), [0, 0, 0, 0, 0, 1, 1, 1, 1]);
        let paths: Vec<_> = (0..9).map(|i| files(&data.train).name(i)).collect();
        assert_eq!(paths[1], "train/a/2-lossless.webp");
        assert_eq!(paths[8], "train/b/0-rgb-lzw.tif"); // the first after the last
        assert!(data.unreadable[1].ends_with("train/b/0-rgb-lzw.tif takes its place"));

        for name in ["0-rgb-lzw.tif", "1-cmyk.jpg", "2-turned-6.jpg"] {
            write(folder.path(), &format!("train/b/{name}"), b"no image");
        }
        let error = open(folder.path(), &substitute).unwrap_err();
        assert!(error.contains("no image of its class"), "{error}");
    }

    #[test]
    fn a_file_that_changes_is_an_error_that_names_it() {
        let folder = photos();
        let data = open(
            folder.path(),
            &ImageOptions {
                cache_bytes: 0,
                ..options()
            },
        )
        .unwrap();
        write(folder.path(), "train/a/0-rgb.png", &fixture("gray.png"));
        let error = files(&data.train).read(0).unwrap_err();
        assert!(error.contains("0-rgb.png: changed since"), "{error}");
        fs::remove_file(folder.path().join("train/a/0-rgb.png")).unwrap();
        assert!(
            files(&data.train)
                .read(0)
                .unwrap_err()
                .contains("0-rgb.png")
        );
        assert!(files(&data.train).read(1).is_ok());
    }

    #[test]
    fn the_cache_keeps_to_its_limit() {
        let folder = photos();
        let limit = 2000;
        let data = open(
            folder.path(),
            &ImageOptions {
                cache_bytes: limit,
                ..options()
            },
        )
        .unwrap();
        let cached = |split: &Split| -> usize {
            let cached = files(split)
                .images
                .iter()
                .filter_map(|file| file.cached.as_ref());
            cached.map(|bytes| bytes.len()).sum()
        };
        let kept = cached(&data.train) + cached(&data.test);
        assert!((1..=limit).contains(&kept), "{kept}");
    }

    #[test]
    fn a_check_finds_what_would_spoil_a_training() {
        let folder = photos();
        let root = folder.path();
        write(root, "train/a/9-again.png", &fixture("rgb.png"));
        write(root, "train/b/9-wrong.png", &fixture("rgb.png"));
        write(root, "train/b/cut.gif", &fixture("palette.gif")[..40]);
        write(root, "train/b/tiny.png", &fixture("gray-2-bits.png"));
        let Checked::Files(report) = check(&source(root)).unwrap() else {
            panic!("it is a folder");
        };
        let found = |kind| -> Vec<(&str, &str)> {
            let of_kind = report
                .findings
                .iter()
                .filter(|finding| finding.kind == kind);
            of_kind
                .map(|finding| (&*finding.image, &*finding.detail))
                .collect()
        };
        assert_eq!(
            found(FindingKind::Duplicate),
            [("train/a/9-again.png", "equal to train/a/0-rgb.png")]
        );
        assert_eq!(
            found(FindingKind::Mislabelled)[0],
            ("train/b/9-wrong.png", "equal to train/a/0-rgb.png")
        );
        // The test images of class b are training images of class a.
        assert_eq!(found(FindingKind::Mislabelled).len(), 3);
        assert_eq!(found(FindingKind::Leaked), []);
        assert_eq!(found(FindingKind::Unreadable)[0].0, "train/b/cut.gif");
        assert_eq!(
            found(FindingKind::OddSize),
            [("train/b/tiny.png", "9×2; the medians are 24×17")]
        );
        let counts: Vec<_> = report
            .classes
            .iter()
            .map(|class| (class.train, class.test))
            .collect();
        assert_eq!(counts, [(6, 0), (6, 2)]);
        assert_eq!(report.sizes.unwrap().least, Size::new(9, 2));
        let text = report.to_string();
        assert!(
            text.ends_with("1 unreadable, 3 mislabelled, 0 leaked, 1 duplicate, 1 odd size"),
            "{text}"
        );

        write(root, "test/a/x.png", &fixture("rgb.png"));
        let text = check(&source(root)).unwrap().to_string();
        assert!(
            text.contains("leaked       test/a/x.png") && text.contains("1 leaked"),
            "{text}"
        );
    }

    #[test]
    fn originals_are_chosen_by_the_seed() {
        let folder = photos();
        let names = |seed| -> Vec<String> {
            let originals = Originals::open(&source(folder.path())).unwrap();
            let originals = originals.choose(3, seed).unwrap();
            originals
                .into_iter()
                .map(|original| original.name)
                .collect()
        };
        assert_eq!(names(1), names(1));
        assert!((2..9).any(|seed| names(seed) != names(1)));
        let all = Originals::open(&source(folder.path())).unwrap();
        assert_eq!(all.choose(99, 0).unwrap().len(), 8);
        let built_in = Originals::open(&Source::FashionMnist10k).unwrap();
        let built_in = built_in.choose(2, 0).unwrap();
        assert_eq!((built_in.len(), built_in[0].image.width()), (2, 28));
    }
}
