//! The operations beside Pillow and torchvision, pixel by pixel, on the fixtures that
//! `reference/make_image_fixtures.py` wrote; and the table of it in `CONFORMANCE.md`.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evenkeel_augment::{Image, Parameters, Pipeline};
use serde::Deserialize;

#[derive(Deserialize)]
struct File<T> {
    versions: HashMap<String, String>,
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: String,
}

impl Picture {
    fn image(&self) -> Image {
        let pixels = STANDARD.decode(&self.pixels).unwrap();
        Image::new(self.width, self.height, self.channels, pixels).unwrap()
    }
}

#[derive(Deserialize)]
struct Input {
    name: String,
    #[serde(flatten)]
    picture: Picture,
}

/// What a file is about, then its cases.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Title { label: String, reference: String },
    Case(Box<Case>),
}

#[derive(Deserialize)]
struct Case {
    parameters: Parameters,
    input: String,
    #[serde(flatten)]
    expected: Picture,
}

/// A line of the table.
#[derive(Debug)]
struct Line {
    label: String,
    reference: String,
    values: usize,
    equal: usize,
    worst: u8,
    sum: u64,
}

/// The greatest difference in levels and the least share of equal values that each operation keeps
/// to; exact where nothing else is said.
fn promised(label: &str) -> (u8, f64) {
    match label {
        // Coordinates of 16 fractional bits there.
        "affine nearest large" => (u8::MAX, 0.999),
        // A cosine transform of 13 bits there: some coefficients are rounded the other way.
        "jpeg" => (3, 0.97),
        // A coefficient that is 1 here is a little less there, and the fraction is dropped.
        "policy ShearY" => (1, 0.99),
        "resize bilinear without antialiasing" => (1, 0.9), // weights of fewer bits there
        _ => (0, 1.0),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/images")
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> File<T> {
    serde_json::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn line(path: &Path, inputs: &HashMap<String, Image>) -> Line {
    let mut entries = read::<Entry>(path).cases.into_iter();
    let Some(Entry::Title { label, reference }) = entries.next() else {
        panic!("{}: expected a title first", path.display());
    };
    let (mut values, mut equal, mut worst, mut sum) = (0, 0, 0, 0);
    for entry in entries {
        let Entry::Case(case) = entry else {
            panic!("{}: expected cases after the title", path.display());
        };
        let parameters = std::slice::from_ref(&case.parameters);
        let found = Pipeline::replay(&inputs[&case.input], parameters).unwrap();
        let expected = case.expected.image();
        let size = |image: &Image| (image.width(), image.height(), image.channels());
        assert_eq!(size(&found), size(&expected), "{:?}", case.parameters);
        for (a, &b) in found.pixels().iter().zip(expected.pixels()) {
            let difference = a.abs_diff(b);
            values += 1;
            equal += usize::from(difference == 0);
            worst = worst.max(difference);
            sum += u64::from(difference);
        }
    }
    Line {
        label,
        reference,
        values,
        equal,
        worst,
        sum,
    }
}

fn table(lines: &[Line], versions: &HashMap<String, String>) -> String {
    let mut text = format!(
        "# Conformance\n\n\
         Each operation beside the library whose dialect it follows (Pillow {}, torchvision {}), over all\n\
         values of the images in `reference/fixtures/images`: smooth and steep ones of odd sizes, gray, of\n\
         one pixel and of one row. Differences are in levels of 255. `tests/conformance.rs` makes this\n\
         table and fails where it is not current; with `EVENKEEL_WRITE_CONFORMANCE=1` it writes it.\n\n\
         Pillow finds the nearest pixel of affine maps with 16 fractional bits, so that in larger images\n\
         (`affine nearest large` has 160×121 pixels) a few come from a neighbour.\n\n\
         | operation | beside | values | equal | worst difference | mean difference |\n\
         |---|---|---:|---:|---:|---:|\n",
        versions["pillow"], versions["torchvision"]
    );
    for line in lines {
        let share = 100.0 * line.equal as f64 / line.values as f64;
        // A single difference is not rounded away.
        let share = if line.equal == line.values {
            "all".to_owned()
        } else {
            format!("{:.2} %", f64::min(share, 99.99))
        };
        let mean = line.sum as f64 / line.values as f64;
        writeln!(
            text,
            "| {} | {} | {} | {share} | {} | {mean:.4} |",
            line.label, line.reference, line.values, line.worst
        )
        .unwrap();
    }
    text
}

#[test]
fn operations_conform_and_the_table_is_current() {
    let inputs = read::<Input>(&folder().join("inputs.json"));
    let images = inputs.cases.iter();
    let images = images.map(|input| (input.name.clone(), input.picture.image()));
    let images: HashMap<_, _> = images.collect();
    let files = fs::read_dir(folder()).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.retain(|path| path.file_name().is_some_and(|name| name != "inputs.json"));
    files.sort();
    assert!(!files.is_empty());

    let lines: Vec<Line> = files.iter().map(|path| line(path, &images)).collect();
    let table = table(&lines, &inputs.versions);
    for line in &lines {
        let (worst, equal) = promised(&line.label);
        let share = line.equal as f64 / line.values as f64;
        assert!(line.worst <= worst && share >= equal, "{line:?}\n{table}");
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFORMANCE.md");
    if std::env::var_os("EVENKEEL_WRITE_CONFORMANCE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        current == table,
        "CONFORMANCE.md is not current: run this test with EVENKEEL_WRITE_CONFORMANCE=1\n{table}"
    );
}
