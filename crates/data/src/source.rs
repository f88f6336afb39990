//! Sources by name, as users write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use evenkeel_augment::Colors;

use super::Error;

/// Where data come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The first 10,000 training images and all test images of Fashion-MNIST, built in.
    FashionMnist10k,
    /// All of Fashion-MNIST, where the Debian package `dataset-fashion-mnist` is installed.
    FashionMnist,
    /// A folder of IDX files named as MNIST's, plain or gzipped.
    Idx(PathBuf),
    /// A folder with CIFAR-10's binary version.
    Cifar10(PathBuf),
    /// A folder with CIFAR-100's binary version, by its fine labels.
    Cifar100(PathBuf),
    /// A folder with SVHN's cropped digits.
    Svhn(PathBuf),
    /// Images in files, archives or tables, of any sizes.
    Files(ImageFiles),
    /// A table of numbers with a header and a column of labels.
    Csv {
        /// The file.
        path: PathBuf,
        /// The column of labels.
        label: String,
        /// The share of the rows that is the test data; 1 to evaluate on all of them.
        test: f64,
        /// What the division into training and test data is a function of.
        seed: u64,
    },
}

/// Where images are, and which of them are the test data.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFiles {
    /// How they lie there.
    pub layout: Layout,
    /// The folder or the file.
    pub path: PathBuf,
    /// The split that is the test data, or the share of the training data that is, as a number; where there
    /// is one of `test` and `val`, that.
    pub test: Option<String>,
    /// What a share is a function of.
    pub seed: u64,
    /// The column or the key of the labels, where it is not `label`.
    pub label: Option<String>,
    /// The column of the images, where it is not the only one of its kind.
    pub image: Option<String>,
    /// The colours that images are converted to.
    pub colors: Colors,
}

/// How images lie in their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A folder of images: `train/` and `test/` or `val/`, in each a folder a class.
    Folder,
    /// A CSV file of paths, labels and perhaps splits.
    List,
    /// Tar archives as WebDataset makes them.
    Tar,
    /// Parquet files with encoded images, as the Hugging Face hub has them.
    Parquet,
}

impl Layout {
    /// The kinds, and the options that each has.
    const ALL: [(Self, &'static str, &'static [&'static str]); 4] = [
        (Self::Folder, "folder", &["test", "colors"]),
        (
            Self::List,
            "list",
            &["test", "seed", "label", "image", "colors"],
        ),
        (Self::Tar, "tar", &["test", "seed", "label", "colors"]),
        (
            Self::Parquet,
            "parquet",
            &["test", "seed", "label", "image", "colors"],
        ),
    ];

    fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(layout, ..)| *layout == self)
            .map_or("", |(_, name, _)| name)
    }
}

impl ImageFiles {
    /// All images of a folder, the test data those that it has, in colour.
    pub fn new(layout: Layout, path: impl Into<PathBuf>) -> Self {
        Self {
            layout,
            path: path.into(),
            test: None,
            seed: 0,
            label: None,
            image: None,
            colors: Colors::Rgb,
        }
    }
}

/// A source as a list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// How it is written.
    pub name: &'static str,
    /// What it is.
    pub description: &'static str,
}

/// All kinds of sources.
pub const KNOWN: [Known; 11] = [
    Known {
        name: "fashion-mnist-10k",
        description: "10,000 training and 10,000 test images of Fashion-MNIST, built in (default)",
    },
    Known {
        name: "fashion-mnist",
        description: "all of Fashion-MNIST, from Debian's package dataset-fashion-mnist",
    },
    Known {
        name: "idx:DIR",
        description: "IDX files named as MNIST's, plain or gzipped",
    },
    Known {
        name: "cifar10:DIR",
        description: "CIFAR-10, the binary version",
    },
    Known {
        name: "cifar100:DIR",
        description: "CIFAR-100, the binary version, by its fine labels",
    },
    Known {
        name: "svhn:DIR",
        description: "Street View House Numbers, the cropped digits in .mat files",
    },
    Known {
        name: "folder:DIR",
        description: "images: train/ and test/ or val/, in each a folder a class; also ?test=NAME and \
                      &colors=gray",
    },
    Known {
        name: "list:FILE.csv",
        description: "images that a CSV file lists: columns path, label and perhaps split; also ?test=NAME or \
                      SHARE, &seed=N, &label=COLUMN, &image=COLUMN, &colors=gray",
    },
    Known {
        name: "tar:DIR",
        description: "WebDataset: tar files named train, test or val, of images beside .cls or .json; also \
                      ?test=NAME or SHARE, &seed=N, &label=KEY, &colors=gray",
    },
    Known {
        name: "parquet:DIR",
        description: "encoded images as the Hugging Face hub has them, in files named train, test or \
                      validation; also ?test=NAME or SHARE, &seed=N, &label=COLUMN, &image=COLUMN, &colors=gray",
    },
    Known {
        name: "csv:FILE?label=COLUMN",
        description: "a table of numbers; also &test=SHARE (0.2) and &seed=N (0)",
    },
];

impl Source {
    /// The same source, its path as one that holds in any working folder. (Where a working folder's
    /// name is not Unicode, which a source's name cannot say, the path stays as it is.)
    #[must_use]
    pub fn absolute(mut self) -> Self {
        if let Self::Idx(path)
        | Self::Cifar10(path)
        | Self::Cifar100(path)
        | Self::Svhn(path)
        | Self::Files(ImageFiles { path, .. })
        | Self::Csv { path, .. } = &mut self
            && let Ok(absolute) = std::path::absolute(&*path)
            && absolute.to_str().is_some()
        {
            *path = absolute;
        }
        self
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let folder = |make: fn(PathBuf) -> Self| match rest {
            "" => Err(Error::new(
                format!("data source `{text}`"),
                "expected a folder after the colon",
            )),
            rest => Ok(make(rest.into())),
        };
        match kind {
            "fashion-mnist-10k" if rest.is_empty() => Ok(Self::FashionMnist10k),
            "fashion-mnist" if rest.is_empty() => Ok(Self::FashionMnist),
            "idx" => folder(Self::Idx),
            "cifar10" => folder(Self::Cifar10),
            "cifar100" => folder(Self::Cifar100),
            "svhn" => folder(Self::Svhn),
            "csv" => csv(text, rest),
            _ => {
                let layouts = Layout::ALL.into_iter();
                if let Some((layout, _, options)) =
                    layouts.clone().find(|(_, name, _)| *name == kind)
                {
                    return images(text, rest, layout, options);
                }
                let names = KNOWN.map(|known| known.name);
                let nearest = names
                    .iter()
                    .max_by(|a, b| {
                        let near = |name: &str| {
                            strsim::jaro_winkler(kind, name.split(':').next().unwrap_or(name))
                        };
                        near(a).total_cmp(&near(b))
                    })
                    .unwrap_or(&names[0]);
                Err(Error::new(
                    format!("data source `{text}`"),
                    format!(
                        "expected one of {}; did you mean {nearest}?",
                        names.join(", ")
                    ),
                ))
            }
        }
    }
}

fn images(text: &str, rest: &str, layout: Layout, options: &[&str]) -> Result<Source, Error> {
    let wrong = |problem: String| Error::new(format!("data source `{text}`"), problem);
    let (path, query) = rest.rsplit_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        let what = if layout == Layout::List {
            "file"
        } else {
            "folder"
        };
        return Err(wrong(format!("expected a {what} after the colon")));
    }
    let mut images = ImageFiles::new(layout, path);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((key, value)) if !options.contains(&key) || value.is_empty() => {
                return Err(wrong(format!(
                    "expected {}=, found `{pair}`",
                    options.join("=, ")
                )));
            }
            // One name, so that it cannot lead out of the folder.
            Some(("test", name)) if !name.contains(['/', '\\']) && !name.starts_with('.') => {
                images.test = Some(name.to_owned());
            }
            Some(("seed", value)) => {
                images.seed = value.parse().map_err(|_| {
                    wrong(format!("seed: expected a whole number, found `{value}`"))
                })?;
            }
            Some(("label", name)) => images.label = Some(name.to_owned()),
            Some(("image", name)) => images.image = Some(name.to_owned()),
            Some(("colors", "gray")) => images.colors = Colors::Gray,
            Some(("colors", "rgb")) => images.colors = Colors::Rgb,
            _ => {
                return Err(wrong(format!(
                    "expected test= and a name, or colors=gray or rgb, found `{pair}`"
                )));
            }
        }
    }
    Ok(Source::Files(images))
}

fn csv(text: &str, rest: &str) -> Result<Source, Error> {
    let wrong = |problem: String| Error::new(format!("data source `{text}`"), problem);
    let (path, query) = rest.rsplit_once('?').unwrap_or((rest, ""));
    let (mut label, mut test, mut seed) = (None, 0.2, 0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("label", value)) if !value.is_empty() => label = Some(value.to_owned()),
            Some(("test", value)) => {
                test = value
                    .parse()
                    .ok()
                    .filter(|test| *test > 0.0 && *test <= 1.0)
                    .ok_or_else(|| {
                        wrong(format!(
                            "test: expected a share above 0, at most 1, found `{value}`"
                        ))
                    })?;
            }
            Some(("seed", value)) => {
                seed = value.parse().map_err(|_| {
                    wrong(format!("seed: expected a whole number, found `{value}`"))
                })?;
            }
            _ => {
                return Err(wrong(format!(
                    "expected label=, test= or seed=, found `{pair}`"
                )));
            }
        }
    }
    match label {
        Some(label) if !path.is_empty() => Ok(Source::Csv {
            path: path.into(),
            label,
            test,
            seed,
        }),
        _ => Err(wrong("expected csv:FILE?label=COLUMN".into())),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FashionMnist10k => write!(f, "fashion-mnist-10k"),
            Self::FashionMnist => write!(f, "fashion-mnist"),
            Self::Idx(folder) => write!(f, "idx:{}", folder.display()),
            Self::Cifar10(folder) => write!(f, "cifar10:{}", folder.display()),
            Self::Cifar100(folder) => write!(f, "cifar100:{}", folder.display()),
            Self::Svhn(folder) => write!(f, "svhn:{}", folder.display()),
            Self::Files(images) => images.fmt(f),
            Self::Csv {
                path,
                label,
                test,
                seed,
            } => {
                write!(
                    f,
                    "csv:{}?label={label}&test={test}&seed={seed}",
                    path.display()
                )
            }
        }
    }
}

impl fmt::Display for ImageFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.layout.name(), self.path.display())?;
        let seed = (self.seed != 0).then(|| self.seed.to_string());
        let colors = (self.colors == Colors::Gray).then(|| "gray".to_owned());
        let options = [
            ("test", &self.test),
            ("seed", &seed),
            ("label", &self.label),
            ("image", &self.image),
            ("colors", &colors),
        ];
        let options = options
            .iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)));
        for (separator, (key, value)) in std::iter::once("?")
            .chain(std::iter::repeat("&"))
            .zip(options)
        {
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive() {
        for name in [
            "fashion-mnist-10k",
            "fashion-mnist",
            "idx:/some/where",
            "cifar10:data",
            "cifar100:data",
            "svhn:data",
            "folder:photos",
            "folder:photos?test=val",
            "folder:/a?b?colors=gray",
            "folder:photos?test=holdout&colors=gray",
            "list:photos.csv?test=0.2&seed=4&label=kind&image=file",
            "tar:shards?label=cls",
            "parquet:shards?label=fine_label&image=img&colors=gray",
            "csv:a.csv?label=kind&test=0.25&seed=3",
        ] {
            assert_eq!(name.parse::<Source>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn absolute_sources_hold_anywhere() {
        let here = std::env::current_dir().unwrap();
        for (name, kind, rest) in [
            ("idx:images", "idx:", ""),
            ("cifar10:images", "cifar10:", ""),
            ("folder:images?test=val", "folder:", "?test=val"),
            ("csv:images?label=k", "csv:", "?label=k&test=0.2&seed=0"),
        ] {
            let absolute = name.parse::<Source>().unwrap().absolute();
            let expected = format!("{kind}{}{rest}", here.join("images").display());
            assert_eq!(absolute.to_string(), expected);
        }
        let built_in = Source::FashionMnist10k;
        assert_eq!(built_in.clone().absolute(), built_in);
    }

    #[test]
    fn wrong_names_are_helped() {
        for (name, help) in [
            ("fashon-mnist", "did you mean fashion-mnist"),
            ("cifar:x", "did you mean cifar10:DIR"),
            ("idx:", "expected a folder"),
            ("folder:", "expected a folder"),
            ("folder:a?test=../b", "found `test=../b`"),
            ("folder:a?test=..", "found `test=..`"),
            ("folder:a?colors=cmyk", "found `colors=cmyk`"),
            (
                "folder:a?label=x",
                "expected test=, colors=, found `label=x`",
            ),
            ("list:", "expected a file"),
            ("tar:a?image=x", "found `image=x`"),
            ("parquet:a?seed=x", "expected a whole number, found `x`"),
            ("csv:a.csv", "expected csv:FILE?label=COLUMN"),
            (
                "csv:a.csv?label=x&test=2",
                "share above 0, at most 1, found `2`",
            ),
            ("csv:a.csv?lable=x", "found `lable=x`"),
        ] {
            let error = name.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(help), "{error}");
        }
    }
}
