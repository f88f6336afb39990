//! What is in a source of images before any is read: classes, and where the images of each split are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Place, Store};
use crate::Error;
use crate::dataset::stratified;
use crate::error::shown;
use crate::natural::natural;

pub(crate) const MOST_CLASSES: usize = 1 << 16;

/// Classes, and images with the index of theirs.
#[derive(Debug)]
pub(crate) struct Listing {
    pub classes: Vec<String>,
    pub train: Vec<Listed>,
    pub test: Vec<Listed>,
    pub store: Arc<dyn Store>,
}

/// An image that is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub place: Place,
    pub label: u32,
}

/// What the test data are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestChoice<'a> {
    /// The split of this name, or the share of the training data that it is as a number; where there is one
    /// of `test` and `val`, that.
    pub test: Option<&'a str>,
    /// What a share is a function of.
    pub seed: u64,
}

/// Collects images with the labels and splits that they are said to have.
#[derive(Debug, Default)]
pub(crate) struct Splits {
    /// Labels in the order they came.
    labels: Vec<String>,
    known: HashMap<String, u32>,
    /// Splits in the order they came, whose images still have the labels' numbers.
    splits: Vec<(String, Vec<Listed>)>,
}

/// The split that a word names: `train`, `test` or `val` for what is usual, else the word.
pub(crate) fn split_name(word: &str) -> &str {
    let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is(&["train", "training"]) {
        "train"
    } else if is(&["test", "testing", "eval", "evaluation"]) {
        "test"
    } else if is(&["val", "valid", "validation", "dev"]) {
        "val"
    } else {
        word
    }
}

impl Splits {
    /// Adds an image; an error says what is wrong with it.
    pub fn push(&mut self, split: &str, place: Place, label: &str) -> Result<(), String> {
        let label = match self.known.get(label) {
            Some(&label) => label,
            None if label.is_empty() => return Err("expected a label, found none".into()),
            None if self.labels.len() == MOST_CLASSES => {
                return Err(format!(
                    "expected at most {MOST_CLASSES} classes, found more with `{}`. Is the label a number \
                     to predict?",
                    shown(label)
                ));
            }
            None => {
                let number = self.labels.len() as u32;
                self.labels.push(label.to_owned());
                self.known.insert(label.to_owned(), number);
                number
            }
        };
        let position = self.splits.iter().position(|(name, _)| name == split);
        let position = position.unwrap_or_else(|| {
            self.splits.push((split.to_owned(), Vec::new()));
            self.splits.len() - 1
        });
        self.splits[position].1.push(Listed { place, label });
        Ok(())
    }

    /// The training and the test data. `named` are the classes' names, where labels are their indices; else
    /// the classes are the distinct labels: in numeric order if all are whole numbers, else in natural order.
    pub fn divide(
        mut self,
        root: &Path,
        choice: TestChoice<'_>,
        named: Option<Vec<String>>,
        store: Arc<dyn Store>,
    ) -> Result<Listing, Error> {
        let classes = self.classes(root, named)?;
        let train = self.take("train").unwrap_or_default();
        let share = choice.test.and_then(|test| test.parse::<f64>().ok());
        let (train, test) = match (share, choice.test) {
            (Some(share), _) if share > 0.0 && share <= 1.0 => {
                let labels: Vec<u32> = train.iter().map(|image| image.label).collect();
                let (tested, trained) = stratified(&labels, share, choice.seed);
                let of = |indices: Vec<usize>| indices.into_iter().map(|i| train[i]).collect();
                (of(trained), of(tested))
            }
            (Some(share), _) => {
                let problem = format!("test: expected a share above 0, at most 1, found {share}");
                return Err(Error::at(root, problem));
            }
            (None, Some(name)) => {
                let test = self.take(split_name(name));
                (
                    train,
                    test.ok_or_else(|| self.lacks(root, &format!("{name}, as asked for")))?,
                )
            }
            (None, None) => {
                match (self.take("test"), self.take("val")) {
                    (Some(test), None) | (None, Some(test)) => (train, test),
                    (Some(_), Some(_)) => {
                        let problem = "holds both test and validation data; name those to measure on: ?test=val";
                        return Err(Error::at(root, problem));
                    }
                    (None, None) => {
                        let what = "test or val; give the share of the training data to measure on: ?test=0.2";
                        return Err(self.lacks(root, what));
                    }
                }
            }
        };
        if train.is_empty() && share != Some(1.0) {
            return Err(self.lacks(root, "train"));
        }
        if test.is_empty() {
            return Err(Error::at(root, "expected images to test on, found none"));
        }
        Ok(Listing {
            classes,
            train,
            test,
            store,
        })
    }

    fn take(&mut self, split: &str) -> Option<Vec<Listed>> {
        let position = self.splits.iter().position(|(name, _)| name == split)?;
        Some(self.splits.swap_remove(position).1)
    }

    fn lacks(&self, root: &Path, what: &str) -> Error {
        let others: Vec<&str> = self.splits.iter().map(|(name, _)| &**name).collect();
        let found = match &others[..] {
            [] => "no others".to_owned(),
            others => format!("beside others {}", shown(&others.join(", "))),
        };
        Error::at(
            root,
            format!("expected images of a split {what}; found none, {found}"),
        )
    }

    /// Names the classes, and turns the labels' numbers into classes' indices.
    fn classes(&mut self, root: &Path, named: Option<Vec<String>>) -> Result<Vec<String>, Error> {
        let (classes, renamed) = match named {
            Some(classes) => {
                let index = |label: &String| {
                    let index = label.parse::<u32>().ok();
                    index.filter(|index| (*index as usize) < classes.len()).ok_or_else(|| {
                        let problem = format!(
                            "expected labels that are indices of the {} named classes, found `{}`",
                            classes.len(),
                            shown(label)
                        );
                        Error::at(root, problem)
                    })
                };
                let renamed = self
                    .labels
                    .iter()
                    .map(index)
                    .collect::<Result<Vec<_>, _>>()?;
                (classes, renamed)
            }
            None => {
                let mut classes = self.labels.clone();
                if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
                    classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
                } else {
                    classes.sort_by(|a, b| natural(a, b));
                }
                let mut renamed = vec![0; classes.len()];
                for (index, class) in (0..).zip(&classes) {
                    renamed[self.known[class] as usize] = index;
                }
                (classes, renamed)
            }
        };
        if !(2..=MOST_CLASSES).contains(&classes.len()) {
            let problem = format!(
                "expected 2 to {MOST_CLASSES} classes, found {}",
                classes.len()
            );
            return Err(Error::at(root, problem));
        }
        for (_, images) in &mut self.splits {
            for image in images {
                image.label = renamed[image.label as usize];
            }
        }
        Ok(classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Whole;

    fn divide(
        images: &[(&str, &str)],
        test: Option<&str>,
        named: Option<&[&str]>,
    ) -> Result<Listing, String> {
        let mut splits = Splits::default();
        for (index, (split, label)) in images.iter().enumerate() {
            splits.push(split, Place::of_file(index).unwrap(), label)?;
        }
        let store = Arc::new(Whole {
            root: Path::new("root").into(),
            paths: Vec::new(),
        });
        let named = named.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let choice = TestChoice { test, seed: 1 };
        splits
            .divide(Path::new("root"), choice, named, store)
            .map_err(|error| error.to_string())
    }

    fn labels(images: &[Listed]) -> Vec<u32> {
        images.iter().map(|image| image.label).collect()
    }

    #[test]
    fn classes_are_sorted_or_named() {
        let images = [("train", "img10"), ("train", "img9"), ("val", "img10")];
        let listing = divide(&images, None, None).unwrap();
        assert_eq!(listing.classes, ["img9", "img10"]);
        assert_eq!(
            (labels(&listing.train), labels(&listing.test)),
            (vec![1, 0], vec![1])
        );
        let images = [("train", "10"), ("train", "9"), ("test", "10")];
        assert_eq!(divide(&images, None, None).unwrap().classes, ["9", "10"]);

        let images = [("train", "2"), ("train", "0"), ("test", "2")];
        let listing = divide(&images, None, Some(&["a", "b", "c"])).unwrap();
        assert_eq!(listing.classes, ["a", "b", "c"]);
        assert_eq!(
            (labels(&listing.train), labels(&listing.test)),
            (vec![2, 0], vec![2])
        );
        let error = divide(&images, None, Some(&["a", "b"])).unwrap_err();
        assert!(error.contains("2 named classes, found `2`"), "{error}");
    }

    #[test]
    fn a_share_of_each_class_can_be_tested() {
        let images: Vec<_> = (0..40).map(|i| ("train", ["a", "b"][i % 2])).collect();
        let listing = divide(&images, Some("0.25"), None).unwrap();
        assert_eq!((listing.train.len(), listing.test.len()), (30, 10));
        assert_eq!(labels(&listing.test).iter().sum::<u32>(), 5);
        let all = divide(&images, Some("1"), None).unwrap();
        assert_eq!((all.train.len(), all.test.len()), (0, 40));
    }

    #[test]
    fn what_is_missing_is_named() {
        let both = [("train", "a"), ("train", "b"), ("test", "a"), ("val", "b")];
        assert_eq!(
            labels(&divide(&both, Some("validation"), None).unwrap().test),
            [1]
        );
        for (images, test, problem) in [
            (&both[..], None, "both test and validation"),
            (&both[..2], None, "a split test or val"),
            (&both[..2], Some("2"), "above 0, at most 1, found 2"),
            (
                &both[..3],
                Some("extra"),
                "a split extra, as asked for; found none, beside others test",
            ),
            (&both[2..3], None, "2 to 65536 classes, found 1"),
            (&both[2..], Some("test"), "a split train"),
            (&[("train", "")], None, "expected a label"),
        ] {
            let error = divide(images, test, None).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
