//! Files that sources are made of, opened and read as a training would.

use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_data::{Dataset, ImageOptions, Source, Split, Unreadable};

use crate::LIMITS;

thread_local! {
    /// One folder a thread, whose files are written anew each time; in memory where there is such a place.
    static FOLDER: tempfile::TempDir = {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::tempdir_in(folder).expect("a folder for files")
    };
}

/// Writes the files, opens the source `kind:PATH` and reads what it has.
fn open(files: &[(&str, &[u8])], kind: &str, path: &str, query: &str) {
    FOLDER.with(|folder| {
        let place = |name: &str| -> PathBuf { folder.path().join(kind).join(name) };
        fs::create_dir_all(place("")).expect("a folder for files");
        for (name, bytes) in files {
            fs::write(place(name), bytes).expect("a file");
        }
        let source = format!("{kind}:{}{query}", place(path).display());
        let source: Source = source.parse().expect("a source's name");
        let test = r#"[{"op": "resize", "to": {"short_side": 4}}, {"op": "center_crop", "height": 4, "width": 4}]"#;
        let is_files = matches!(source, Source::Files(_));
        let options = ImageOptions {
            test: if is_files { serde_json::from_str(test).expect("operations") } else { Vec::new() },
            unreadable: Unreadable::Skip,
            limits: LIMITS,
            cache_bytes: 0,
        };
        let Ok(data) = Dataset::open_with(&source, &options) else {
            return;
        };
        for split in [&data.train, &data.test] {
            assert!(split.labels().iter().all(|label| (*label as usize) < data.classes.len()));
            if let Split::Files(files) = split {
                for index in 0..files.len().min(3) {
                    files.read(index).expect("it was read when it was opened");
                }
            }
        }
    });
}

pub fn tar(bytes: &[u8]) {
    open(&[("train.tar", bytes)], "tar", "train.tar", "?test=0.5");
}

pub fn parquet(bytes: &[u8]) {
    open(
        &[("train.parquet", bytes)],
        "parquet",
        "train.parquet",
        "?test=0.5",
    );
}

/// A list beside one image, whose name is `a.png`.
pub fn list(bytes: &[u8]) {
    const IMAGE: &[u8] = include_bytes!("../../../reference/fixtures/encoded/gray-2-bits.png");
    open(
        &[("list.csv", bytes), ("a.png", IMAGE)],
        "list",
        "list.csv",
        "",
    );
}

pub fn table(bytes: &[u8]) {
    open(
        &[("table.csv", bytes)],
        "csv",
        "table.csv",
        "?label=k&test=0.5",
    );
}

/// Images and labels: the first byte is where the one ends and the other begins.
pub fn idx(bytes: &[u8]) {
    let Some((&at, rest)) = bytes.split_first() else {
        return;
    };
    let (labels, images) = rest.split_at(usize::from(at).min(rest.len()));
    let files = [
        ("train-images-idx3-ubyte", images),
        ("train-labels-idx1-ubyte", labels),
        ("t10k-images-idx3-ubyte", images),
        ("t10k-labels-idx1-ubyte", labels),
    ];
    open(&files, "idx", "", "");
}

pub fn svhn(bytes: &[u8]) {
    open(
        &[("train_32x32.mat", bytes), ("test_32x32.mat", bytes)],
        "svhn",
        "",
        "",
    );
}
