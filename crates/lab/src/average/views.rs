//! Views at test by name, for the images and the net of a run.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use evenkeel_augment::{CenterCrop, Filter, Operation, Resize, ResizeTo, Views};
use serde::Deserialize;

use crate::data::Kind;
use crate::{Error, RecipeError};

/// Which views of each image a prediction is averaged over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TestViews {
    /// The one that the net is evaluated on.
    #[default]
    None,
    /// That one and its mirror image.
    Flip,
    /// Crops of the size that the net sees in the four corners and the middle, and their mirror images: of the
    /// image before the recipe's last crop, or, where there is none, of the image enlarged by 8/7, as 256 is to
    /// 224.
    TenCrop,
    /// Five crops and their mirror images of the image at 1, 8/7 and 9/7 of the size that the recipe resizes it
    /// to; each size counts alike.
    MultiScale,
    /// The whole image at once at 1, 8/7 and 9/7 of the size: for nets that end in global average pooling.
    Dense,
    /// Those of a file.
    File(PathBuf),
}

impl FromStr for TestViews {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::None,
            "flip" => Self::Flip,
            "ten-crop" => Self::TenCrop,
            "multi-scale" => Self::MultiScale,
            "dense" => Self::Dense,
            file => Self::File(file.into()),
        })
    }
}

impl fmt::Display for TestViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Flip => "flip",
            Self::TenCrop => "ten-crop",
            Self::MultiScale => "multi-scale",
            Self::Dense => "dense",
            Self::File(path) => {
                let stem = path.file_stem().unwrap_or(path.as_os_str());
                return write!(f, "{}", stem.to_string_lossy());
            }
        })
    }
}

/// Views of one size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// What comes first: operations that draw nothing.
    pub before: Vec<Operation>,
    pub views: Views,
}

/// Of the size that the recipe gives an image.
const SCALES: [(usize, usize); 3] = [(1, 1), (8, 7), (9, 7)];

fn scaled(length: usize, (numerator, denominator): (usize, usize)) -> usize {
    (length.saturating_mul(numerator) + denominator / 2) / denominator
}

impl TestViews {
    /// For images that these operations bring to the size that the net sees.
    ///
    /// # Errors
    /// If the data is a table, or the file is none.
    pub(super) fn groups(&self, kind: &Kind, test: &[Operation]) -> Result<Vec<Group>, Error> {
        let &Kind::Images { height, width, .. } = kind else {
            return Err(Error::Unfit(format!(
                "--tta {self}: averaging over views is for images, and the data is a table; use --tta none, \
                 or --mc where the net has dropout"
            )));
        };
        let one = |before: Vec<Operation>, views| Ok(vec![Group { before, views }]);
        match self {
            Self::None => one(test.to_vec(), Views::Single),
            Self::Flip => one(test.to_vec(), Views::Flips),
            Self::TenCrop => {
                let before = match test.split_last() {
                    Some((Operation::CenterCrop(_), before)) => before.to_vec(),
                    _ => resized(test, [width, height], SCALES[1]),
                };
                one(before, Views::TenCrop { height, width })
            }
            Self::MultiScale => {
                let group = |scale| Group {
                    before: resized(test, [width, height], scale),
                    views: Views::TenCrop { height, width },
                };
                Ok(SCALES.map(group).to_vec())
            }
            Self::Dense => {
                let group = |scale| Group {
                    before: enlarged(test, [width, height], scale),
                    views: Views::Single,
                };
                Ok(SCALES.map(group).to_vec())
            }
            Self::File(path) => {
                let file = read(path)?;
                one(file.before.unwrap_or_else(|| test.to_vec()), file.views)
            }
        }
    }
}

fn resize(width: usize, height: usize, scale: (usize, usize)) -> Operation {
    Operation::Resize(Resize {
        to: ResizeTo::Size {
            width: scaled(width, scale),
            height: scaled(height, scale),
        },
        filter: Filter::default(),
        antialias: true,
    })
}

/// The operations up to the last crop, resizing to a larger size; with a resize behind them where they have none.
fn resized(test: &[Operation], size: [usize; 2], scale: (usize, usize)) -> Vec<Operation> {
    match test {
        [
            before @ ..,
            Operation::Resize(old),
            Operation::CenterCrop(_),
        ] => {
            let to = match old.to {
                ResizeTo::ShortSide(side) => ResizeTo::ShortSide(scaled(side, scale)),
                ResizeTo::Size { width, height } => ResizeTo::Size {
                    width: scaled(width, scale),
                    height: scaled(height, scale),
                },
            };
            [before, &[Operation::Resize(Resize { to, ..*old })]].concat()
        }
        all if scale.0 == scale.1 => all.to_vec(),
        all => [all, &[resize(size[0], size[1], scale)]].concat(),
    }
}

/// Operations that end in a larger image, which shows as much as the one that the net sees.
fn enlarged(test: &[Operation], size: [usize; 2], scale: (usize, usize)) -> Vec<Operation> {
    let mut operations = resized(test, size, scale);
    if let [.., Operation::Resize(_), Operation::CenterCrop(crop)] = test {
        operations.push(Operation::CenterCrop(CenterCrop {
            height: scaled(crop.height, scale),
            width: scaled(crop.width, scale),
        }));
    }
    operations
}

/// A file of views.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewsFile {
    /// What comes first; the recipe's `augment.test` if it is not said.
    before: Option<Vec<Operation>>,
    views: Views,
}

const MOST_BYTES: u64 = 1 << 20;

fn read(path: &Path) -> Result<ViewsFile, Error> {
    let place = format!("--tta {}", path.display());
    let wrong = |problem: String| {
        let expected = "Expected none, flip, ten-crop, multi-scale, dense, or a TOML or JSON file such as \
                        `views = { ten_crop = { height = 24, width = 24 } }`";
        Error::Recipe(RecipeError::new(&place, format!("{problem}. {expected}")))
    };
    let size = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MOST_BYTES {
        return Err(wrong(format!("{size} bytes are too many for views")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let file = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => toml::from_str(&text).map_err(|error| error.to_string()),
    };
    file.map_err(|problem| wrong(problem.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(text: &str) -> Vec<Operation> {
        #[derive(Deserialize)]
        struct List {
            list: Vec<Operation>,
        }
        toml::from_str::<List>(&format!("list = {text}"))
            .unwrap()
            .list
    }

    fn kind() -> Kind {
        Kind::Images {
            height: 64,
            width: 64,
            channels: 3,
        }
    }

    const PHOTOS: &str = r#"[{ op = "grayscale" }, { op = "resize", to = { short_side = 72 } }, { op =
        "center_crop", height = 64, width = 64 }]"#;

    #[test]
    fn crops_are_of_what_the_last_crop_leaves_out() {
        let test = operations(PHOTOS);
        let groups = TestViews::TenCrop.groups(&kind(), &test).unwrap();
        assert_eq!(groups[0].before, test[..2]);
        let groups = TestViews::TenCrop.groups(&kind(), &[]).unwrap();
        let larger =
            operations(r#"[{ op = "resize", to = { size = { width = 73, height = 73 } } }]"#);
        assert_eq!(groups[0].before, larger);
        let groups = TestViews::MultiScale.groups(&kind(), &test).unwrap();
        assert_eq!(groups[0].before, test[..2]);
        let larger =
            operations(r#"[{ op = "grayscale" }, { op = "resize", to = { short_side = 93 } }]"#);
        assert_eq!(groups[2].before, larger);
        let groups = TestViews::MultiScale.groups(&kind(), &[]).unwrap();
        assert!(groups[0].before.is_empty() && groups.len() == 3);
    }

    #[test]
    fn dense_images_are_larger_all_over() {
        let test = operations(PHOTOS);
        let groups = TestViews::Dense.groups(&kind(), &test).unwrap();
        assert_eq!(groups[0].before, test);
        let last = operations(
            r#"[{ op = "grayscale" }, { op = "resize", to = { short_side = 93 } }, { op = "center_crop",
            height = 82, width = 82 }]"#,
        );
        assert_eq!(groups[2].before, last);
    }

    #[test]
    fn files_are_read_and_what_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crops.toml");
        fs::write(&path, "views = { ten_crop = { height = 4, width = 4 } }").unwrap();
        let views: TestViews = path.to_str().unwrap().parse().unwrap();
        assert_eq!(views.to_string(), "crops");
        let test = operations(PHOTOS);
        let groups = views.groups(&kind(), &test).unwrap();
        assert_eq!(groups[0].before, test);
        fs::write(&path, "before = []\nviews = \"flips\"").unwrap();
        assert_eq!(
            views.groups(&kind(), &test).unwrap(),
            [Group {
                before: vec![],
                views: Views::Flips
            }]
        );
        fs::write(&path, "views = \"flip\"").unwrap();
        let error = views.groups(&kind(), &test).unwrap_err().to_string();
        assert!(
            error.contains("crops.toml") && error.contains("flips"),
            "{error}"
        );
        let missing: TestViews = "flips".parse().unwrap();
        let error = missing.groups(&kind(), &[]).unwrap_err().to_string();
        assert!(
            error.contains("--tta flips") && error.contains("Expected none, flip"),
            "{error}"
        );
        let table = Kind::Table {
            columns: vec!["a".into()],
        };
        let error = TestViews::Flip.groups(&table, &[]).unwrap_err().to_string();
        assert!(error.contains("is a table"), "{error}");
    }
}
