//! What `evenkeel data check` tells of images in files.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;

use evenkeel_augment::{Colors, DecodeLimits, Size, Sizes};
use serde::{Serialize, Serializer};

use super::{Decoding, Known, Listed, Store, Sums, list, scan};
use crate::check::{ClassCount, Statistics, count_classes, totals, write_counts};
use crate::{Error, ImageFiles};

/// What is in a source of images, and what would spoil a training. Images are named by their paths inside
/// the source, a member of an archive or a row of a table after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilesReport {
    /// The source by name.
    #[serde(rename = "source")]
    pub name: String,
    /// The classes; images that cannot be read are counted too.
    pub classes: Vec<ClassCount>,
    /// The sizes of all that can be read; in JSON as text.
    #[serde(serialize_with = "as_text")]
    pub sizes: Option<Sizes>,
    /// The channels, on the scale 0..1.
    pub values: Vec<Statistics>,
    /// What is wrong with which images.
    pub findings: Vec<Finding>,
}

fn as_text<S: Serializer>(sizes: &Option<Sizes>, serializer: S) -> Result<S::Ok, S::Error> {
    sizes.map(|sizes| sizes.to_string()).serialize(serializer)
}

/// Something wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The image.
    pub image: String,
    /// More of it: why it cannot be read, the image that it is equal to, its size.
    pub detail: String,
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// It cannot be read.
    Unreadable,
    /// Its encoded bytes are equal to another class's.
    Mislabelled,
    /// A test image whose encoded bytes are a training image's too.
    Leaked,
    /// Its encoded bytes are equal to an earlier one of its class.
    Duplicate,
    /// Its size is unlike the others': where nine in ten have one size, any other; else where a side is
    /// less than a quarter of the median of that side or more than four times it.
    OddSize,
}

impl FindingKind {
    const ALL: [Self; 5] = [
        Self::Unreadable,
        Self::Mislabelled,
        Self::Leaked,
        Self::Duplicate,
        Self::OddSize,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Mislabelled => "mislabelled",
            Self::Leaked => "leaked",
            Self::Duplicate => "duplicate",
            Self::OddSize => "odd size",
        }
    }
}

/// Reads all of a source. What cannot be read is found, not an error.
pub(crate) fn report(source: &ImageFiles) -> Result<FilesReport, Error> {
    let listing = list(source)?;
    let decoding = Decoding {
        colors: source.colors,
        limits: DecodeLimits::default(),
    };
    let store = &*listing.store;
    let uncached = AtomicUsize::new(0);
    let of = |listed: &[Listed]| -> Vec<Result<Known, String>> {
        let images = scan(store, decoding, listed, &uncached, false);
        images.into_iter().flatten().collect()
    };
    let (train, test) = (of(&listing.train), of(&listing.test));
    let (trained, tested) = (listing.train.iter(), listing.test.iter());
    let classes = count_classes(
        &listing.classes,
        trained.map(|image| &image.label),
        tested.map(|image| &image.label),
    );
    let names: &[&'static str] = match source.colors {
        Colors::Gray => &["gray"],
        Colors::Rgb => &["red", "green", "blue"],
    };
    let values = names.iter().enumerate().map(|(channel, name)| {
        let sums = train.iter().flatten().map(Known::sums);
        let (mean, deviation) = Sums::statistics(sums, channel);
        Statistics {
            name: (*name).to_owned(),
            mean,
            deviation,
        }
    });
    let values = values.collect();
    let all = listing
        .train
        .iter()
        .zip(&train)
        .chain(listing.test.iter().zip(&test));
    let all: Vec<_> = all.collect();
    let known = all.iter().filter_map(|(_, file)| file.as_ref().ok());
    let sizes: Vec<Size> = known.map(Known::size).collect();
    let mut findings = unlike(store, &all, train.len());
    findings.extend(odd(store, &all, &sizes));
    findings.sort_by_key(|finding| finding.kind);
    Ok(FilesReport {
        name: source.to_string(),
        classes,
        sizes: sizes.into_iter().map(Sizes::from).reduce(Sizes::or),
        values,
        findings,
    })
}

type Read<'a> = (&'a Listed, &'a Result<Known, String>);

fn finding(
    store: &dyn Store,
    kind: FindingKind,
    listed: &Listed,
    detail: impl Into<String>,
) -> Finding {
    Finding {
        kind,
        image: store.name(listed.place),
        detail: detail.into(),
    }
}

/// Images that cannot be read, and those that are equal to an earlier one; the first `train` are training
/// images.
fn unlike(store: &dyn Store, all: &[Read<'_>], train: usize) -> Vec<Finding> {
    let mut first: HashMap<&[u8; 32], usize> = HashMap::new();
    let mut findings = Vec::new();
    for (index, (listed, file)) in all.iter().enumerate() {
        let file = match file {
            Ok(file) => file,
            Err(problem) => {
                findings.push(finding(store, FindingKind::Unreadable, listed, problem));
                continue;
            }
        };
        let earlier = *first.entry(&file.digest).or_insert(index);
        if earlier == index {
            continue;
        }
        let other = all[earlier].0;
        let kind = if other.label != listed.label {
            FindingKind::Mislabelled
        } else if earlier < train && index >= train {
            FindingKind::Leaked
        } else {
            FindingKind::Duplicate
        };
        let detail = format!("equal to {}", store.name(other.place));
        findings.push(finding(store, kind, listed, detail));
    }
    findings
}

fn odd(store: &dyn Store, all: &[Read<'_>], sizes: &[Size]) -> Vec<Finding> {
    let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
    for size in sizes {
        *counts.entry((size.width, size.height)).or_default() += 1;
    }
    // The smaller of equally common ones, for a report that is the same every time.
    let common = counts
        .iter()
        .max_by_key(|(size, count)| (**count, std::cmp::Reverse(**size)));
    let one_size = common
        .filter(|(_, count)| 10 * **count >= 9 * sizes.len())
        .map(|(size, _)| *size);
    let median = |side: fn(&Size) -> usize| {
        let mut sides: Vec<usize> = sizes.iter().map(side).collect();
        sides.sort_unstable();
        sides.get(sides.len() / 2).copied().unwrap_or(1)
    };
    let (width, height) = (median(|size| size.width), median(|size| size.height));
    let far = |side: usize, median: usize| 4 * side < median || side > 4 * median;
    let mut findings = Vec::new();
    for (listed, file) in all {
        let Ok(file) = file else {
            continue;
        };
        let size = file.size();
        let detail = match one_size {
            Some(common) if common == (size.width, size.height) => continue,
            Some((width, height)) => format!("{size}; most are {width}×{height}"),
            None if far(size.width, width) || far(size.height, height) => {
                format!("{size}; the medians are {width}×{height}")
            }
            None => continue,
        };
        findings.push(finding(store, FindingKind::OddSize, listed, detail));
    }
    findings
}

/// Findings of a kind that are shown; all are counted.
const SHOWN: usize = 20;

impl fmt::Display for FilesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = totals(&self.classes);
        write!(f, "{}: {train} training and {test} test images", self.name)?;
        match self.sizes {
            Some(sizes) => writeln!(f, " of {sizes} pixels")?,
            None => writeln!(f)?,
        }
        write_counts(f, &self.classes, "channel", &self.values)?;
        let images = self
            .findings
            .iter()
            .map(|finding| finding.image.chars().count());
        let width = images.max().unwrap_or(0);
        for kind in FindingKind::ALL {
            let of_kind = self.findings.iter().filter(|finding| finding.kind == kind);
            for Finding { image, detail, .. } in of_kind.clone().take(SHOWN) {
                writeln!(f, "{:11}  {image:width$}  {detail}", kind.name())?;
            }
            let more = of_kind.count().saturating_sub(SHOWN);
            if more > 0 {
                writeln!(f, "{:11}  and {more} more", kind.name())?;
            }
        }
        let counts = FindingKind::ALL.map(|kind| {
            let count = self
                .findings
                .iter()
                .filter(|finding| finding.kind == kind)
                .count();
            format!("{count} {}", kind.name())
        });
        write!(f, "{}", counts.join(", "))
    }
}
