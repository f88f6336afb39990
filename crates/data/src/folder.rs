//! Folders of images, `folder:DIR`: `train/` and `test/` or `val/`, in each a folder a class, in each of these
//! the images.
//!
//! Names are in natural order (`img9` before `img10`), which numbers the classes and the images: the same on
//! every file system. Names that begin with a dot are no data. Everything else must fit the scheme: a file
//! among the classes or a folder among the images is an error that names it.
//!
//! Symbolic links are followed where they lead to something inside the folder; one that leads out of it is an
//! error, so that nothing outside is ever read. (The folder itself may be reached by a link.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::files::{Listed, Listing, MOST_CLASSES, Place, Whole, expect_inside};
use super::natural::natural;

/// The names of folders of test data.
const TESTS: [&str; 2] = ["test", "val"];

/// Lists the folder; `test` names its test data where it has both kinds.
pub(super) fn list(root: &Path, test: Option<&str>) -> Result<Listing, Error> {
    let real = root.canonicalize().map_err(|error| {
        let problem = format!("{error}. Expected a folder with train/ and test/ or val/ in it");
        Error::at(root, problem)
    })?;
    let test = match test {
        Some(test) => test.to_owned(),
        None => {
            let there = TESTS.map(|name| root.join(name).exists());
            match there {
                [true, false] => TESTS[0].to_owned(),
                [false, true] => TESTS[1].to_owned(),
                [true, true] => {
                    return Err(Error::at(
                        root,
                        "holds both test/ and val/; name the one to measure on: folder:DIR?test=val",
                    ));
                }
                [false, false] => {
                    return Err(Error::at(
                        root,
                        "expected a folder test/ or val/ beside train/, found neither",
                    ));
                }
            }
        }
    };
    let scheme = Scheme { root, real };
    let train_classes = scheme.classes("train")?;
    if !(2..=MOST_CLASSES).contains(&train_classes.len()) {
        let problem = format!(
            "expected a folder for each of 2 to {MOST_CLASSES} classes, found {}",
            train_classes.len()
        );
        return Err(Error::at(&root.join("train"), problem));
    }
    let label = |name: &String, split: &str| {
        let found = train_classes.iter().position(|class| class == name);
        found.map(|label| label as u32).ok_or_else(|| {
            let problem = "expected a class of the training data: train/ has no such folder";
            Error::at(&root.join(split).join(name), problem)
        })
    };
    let mut paths = Vec::new();
    let mut images = |split: &str, classes: &[String]| {
        let mut images = Vec::new();
        for class in classes {
            let label = label(class, split)?;
            for path in scheme.images(&Path::new(split).join(class))? {
                let place = Place::of_file(paths.len())?;
                paths.push(path.into_boxed_path());
                images.push(Listed { place, label });
            }
        }
        if images.is_empty() {
            return Err(Error::at(&root.join(split), "expected images, found none"));
        }
        Ok(images)
    };
    Ok(Listing {
        train: images("train", &train_classes)?,
        test: images(&test, &scheme.classes(&test)?)?,
        classes: train_classes.clone(),
        store: Arc::new(Whole {
            root: root.into(),
            paths,
        }),
    })
}

struct Scheme<'a> {
    root: &'a Path,
    /// Where it really is.
    real: PathBuf,
}

impl Scheme<'_> {
    fn classes(&self, split: &str) -> Result<Vec<String>, Error> {
        let split = Path::new(split);
        expect_inside(&self.real, &self.root.join(split))?;
        let mut names = Vec::new();
        for (name, is_folder) in self.entries(split)? {
            if !is_folder {
                let problem = "expected a folder for each class here, found a file";
                return Err(Error::at(&self.root.join(split).join(name), problem));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn images(&self, class: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::new();
        for (name, is_folder) in self.entries(class)? {
            if is_folder {
                let problem = "expected images in a class's folder, found a folder";
                return Err(Error::at(&self.root.join(class).join(name), problem));
            }
            paths.push(class.join(name));
        }
        Ok(paths)
    }

    /// The names in a folder in natural order, and whether each is a folder.
    fn entries(&self, folder: &Path) -> Result<Vec<(String, bool)>, Error> {
        let folder = self.root.join(folder);
        let unreadable = |error: std::io::Error| Error::at(&folder, error.to_string());
        let mut entries = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = name.into_string().map_err(|_| {
                Error::at(&path, "expected a name in Unicode, which run.json can hold")
            })?;
            let mut kind = entry.file_type().map_err(unreadable)?;
            if kind.is_symlink() {
                expect_inside(&self.real, &path)?;
                let metadata =
                    fs::metadata(&path).map_err(|error| Error::at(&path, error.to_string()));
                kind = metadata?.file_type();
            }
            if !kind.is_dir() && !kind.is_file() {
                return Err(Error::at(&path, "expected a file or a folder"));
            }
            entries.push((name, kind.is_dir()));
        }
        entries.sort_by(|(a, _), (b, _)| natural(a, b));
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    const GOOD: [&str; 6] = [
        "train/cat/10.png",
        "train/cat/9.png",
        "train/cat/.hidden",
        "train/bird/x.jpg",
        "val/cat/a.png",
        "notes.txt",
    ];

    #[test]
    fn classes_and_images_are_in_natural_order() {
        let folder = tree(&GOOD);
        let listing = list(folder.path(), None).unwrap();
        assert_eq!(listing.classes, ["bird", "cat"]);
        let train: Vec<_> = listing
            .train
            .iter()
            .map(|image| (listing.store.name(image.place), image.label))
            .collect();
        assert_eq!(
            train,
            [
                ("train/bird/x.jpg".into(), 0),
                ("train/cat/9.png".into(), 1),
                ("train/cat/10.png".into(), 1)
            ]
        );
        let [image] = &listing.test[..] else {
            panic!("one image")
        };
        assert_eq!(listing.store.name(image.place), "val/cat/a.png");
        assert_eq!(image.label, 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (more, test, problem) in [
            (
                "train/stray.png",
                None,
                "stray.png: expected a folder for each class",
            ),
            (
                "train/cat/more/a.png",
                None,
                "more: expected images in a class's folder",
            ),
            (
                "val/dog/a.png",
                None,
                "dog: expected a class of the training data",
            ),
            ("test/cat/a.png", None, "both test/ and val/"),
            ("x", Some("test"), "test: No such file"),
        ] {
            let folder = tree(&[&GOOD[..], &[more]].concat());
            let error = list(folder.path(), test).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        for (files, problem) in [
            (&["train/a/x", "train/b/x"][..], "test/ or val/"),
            (&["train/a/x", "test/a/x"], "2 to 65536 classes, found 1"),
            (
                &["train/a/.x", "train/b/.x", "test/a/x"],
                "train: expected images, found none",
            ),
        ] {
            let folder = tree(files);
            let error = list(folder.path(), None).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(
            list(Path::new("nowhere"), None)
                .unwrap_err()
                .to_string()
                .contains("train/")
        );
        let folder = tree(&[&GOOD[..], &["test/bird/a.png"]].concat());
        assert_eq!(list(folder.path(), Some("test")).unwrap().test[0].label, 0);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside() {
        use std::os::unix::fs::symlink;
        let outside = tree(&["secret.png", "class/a.png"]);
        let folder = tree(&GOOD);
        let root = folder.path();
        symlink(
            root.join("train/cat/9.png"),
            root.join("train/bird/same.png"),
        )
        .unwrap();
        symlink(root.join("val"), root.join("test")).unwrap();
        assert_eq!(list(root, Some("test")).unwrap().train.len(), 4);
        for (target, link) in [("secret.png", "train/cat/out.png"), ("class", "train/out")] {
            let link = root.join(link);
            symlink(outside.path().join(target), &link).unwrap();
            let error = list(root, Some("val")).unwrap_err().to_string();
            assert!(
                error.contains("out") && error.contains("leads out of the folder"),
                "{error}"
            );
            fs::remove_file(link).unwrap();
        }
        symlink("nowhere", root.join("train/cat/broken.png")).unwrap();
        assert!(
            list(root, Some("val"))
                .unwrap_err()
                .to_string()
                .contains("broken.png")
        );
        // The folder itself may be a link.
        fs::remove_file(root.join("train/cat/broken.png")).unwrap();
        let link = outside.path().join("data");
        symlink(root, &link).unwrap();
        assert!(list(&link, Some("val")).is_ok());
    }
}
