//! What `evenkeel data check folder:DIR` tells.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use evenkeel_augment::{Colors, DecodeLimits, Size, Sizes};

use super::files::{Folder, KnownFile};
use super::list::{Listed, list};
use super::{Sums, scan};
use crate::data::Error;

/// What is in a folder of images, and what would spoil a training. Images are named by their paths inside
/// the folder.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderReport {
    /// The source by name.
    pub name: String,
    /// A class, its training images, its test images; those that cannot be read among them.
    pub classes: Vec<(String, usize, usize)>,
    /// The sizes of all that can be read.
    pub sizes: Option<Sizes>,
    /// A channel, with the mean and the deviation of all training pixels on the scale 0..1.
    pub values: Vec<(&'static str, f64, f64)>,
    /// What is wrong with which images.
    pub findings: Vec<Finding>,
}

/// Something wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The image.
    pub image: String,
    /// More of it: why it cannot be read, the image that it is equal to, its size.
    pub detail: String,
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// It cannot be read.
    Unreadable,
    /// Its file is equal to another class's.
    Mislabelled,
    /// A test image whose file is a training image's too.
    Leaked,
    /// Its file is equal to an earlier one of its class.
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

/// Reads all of a folder. What cannot be read is found, not an error.
pub(in crate::data) fn report(
    root: &Path,
    test: Option<&str>,
    colors: Colors,
    name: String,
) -> Result<FolderReport, Error> {
    let listing = list(root, test)?;
    let folder = Folder {
        root: root.to_owned(),
        colors,
        limits: DecodeLimits::default(),
    };
    let uncached = AtomicUsize::new(0);
    let of = |listed: &[Listed]| -> Vec<Result<KnownFile, String>> {
        let files = scan(&folder, listed, &uncached, false);
        files.into_iter().flatten().collect()
    };
    let (train, test) = (of(&listing.train), of(&listing.test));
    let mut classes: Vec<_> = listing
        .classes
        .iter()
        .map(|name| (name.clone(), 0, 0))
        .collect();
    for image in &listing.train {
        classes[image.label as usize].1 += 1;
    }
    for image in &listing.test {
        classes[image.label as usize].2 += 1;
    }
    let names: &[&'static str] = match colors {
        Colors::Gray => &["gray"],
        Colors::Rgb => &["red", "green", "blue"],
    };
    let values = names.iter().enumerate().map(|(channel, name)| {
        let sums = train.iter().flatten().map(|file| file.sums);
        let (mean, deviation) = Sums::statistics(sums, channel);
        (*name, mean, deviation)
    });
    let values = values.collect();
    let all = listing
        .train
        .iter()
        .zip(&train)
        .chain(listing.test.iter().zip(&test));
    let all: Vec<_> = all.collect();
    let known = all.iter().filter_map(|(_, file)| file.as_ref().ok());
    let sizes: Vec<Size> = known.map(|file| file.size).collect();
    let mut findings = unlike(&all, train.len());
    findings.extend(odd(&all, &sizes));
    findings.sort_by_key(|finding| finding.kind);
    Ok(FolderReport {
        name,
        classes,
        sizes: sizes.into_iter().map(Sizes::from).reduce(Sizes::or),
        values,
        findings,
    })
}

type Read<'a> = (&'a Listed, &'a Result<KnownFile, String>);

fn finding(kind: FindingKind, listed: &Listed, detail: impl Into<String>) -> Finding {
    Finding {
        kind,
        image: listed.path.display().to_string(),
        detail: detail.into(),
    }
}

/// Images that cannot be read, and those that are equal to an earlier one; the first `train` are training
/// images.
fn unlike(all: &[Read<'_>], train: usize) -> Vec<Finding> {
    let mut first: HashMap<&[u8; 32], usize> = HashMap::new();
    let mut findings = Vec::new();
    for (index, (listed, file)) in all.iter().enumerate() {
        let file = match file {
            Ok(file) => file,
            Err(problem) => {
                findings.push(finding(FindingKind::Unreadable, listed, problem));
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
        findings.push(finding(
            kind,
            listed,
            format!("equal to {}", other.path.display()),
        ));
    }
    findings
}

fn odd(all: &[Read<'_>], sizes: &[Size]) -> Vec<Finding> {
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
        let size = file.size;
        let detail = match one_size {
            Some(common) if common == (size.width, size.height) => continue,
            Some((width, height)) => format!("{size}; most are {width}×{height}"),
            None if far(size.width, width) || far(size.height, height) => {
                format!("{size}; the medians are {width}×{height}")
            }
            None => continue,
        };
        findings.push(finding(FindingKind::OddSize, listed, detail));
    }
    findings
}

/// Findings of a kind that are shown; all are counted.
const SHOWN: usize = 20;

impl fmt::Display for FolderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |sum: (usize, usize), class: &(String, usize, usize)| {
            (sum.0 + class.1, sum.1 + class.2)
        };
        let (train, test) = self.classes.iter().fold((0, 0), sum);
        write!(f, "{}: {train} training and {test} test images", self.name)?;
        match self.sizes {
            Some(sizes) => writeln!(f, " of {sizes} pixels")?,
            None => writeln!(f)?,
        }
        let names = self.classes.iter().map(|class| class.0.chars().count());
        let width = names.max().unwrap_or(0).max("channel".len());
        writeln!(f, "{:width$}  {:>10}  {:>10}", "class", "training", "test")?;
        for (name, train, test) in &self.classes {
            writeln!(f, "{name:width$}  {train:>10}  {test:>10}")?;
        }
        writeln!(
            f,
            "{:width$}  {:>10}  {:>10}",
            "channel", "mean", "deviation"
        )?;
        for (name, mean, deviation) in &self.values {
            writeln!(f, "{name:width$}  {mean:>10.4}  {deviation:>10.4}")?;
        }
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
