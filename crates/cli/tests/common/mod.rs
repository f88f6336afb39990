//! What the tests of the command share: the real binary, and small data that it learns from.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use evenkeel_random::Key;

/// The command, with no terminal.
pub fn evenkeel(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.current_dir(folder);
    command
}

/// Runs it and returns its exit code, standard output and standard error.
pub fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = evenkeel(folder).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Writes an IDX data set of 9×8 images in three classes: noise with a bright row, column or
/// square.
pub fn write_images(folder: &Path, train: u32, test: u32) {
    fs::create_dir_all(folder).unwrap();
    for (part, count, seed) in [("train", train, 1), ("t10k", test, 2)] {
        let mut draws = Key::from_seed(seed).draws();
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let label = draws.below(3);
            let mut image: Vec<u8> = (0..72).map(|_| draws.below(120) as u8).collect();
            let at = draws.below(6) as usize;
            for i in 0..8 {
                match label {
                    0 => image[at * 8 + i] = 200,
                    1 => image[i * 8 + at] = 200,
                    _ => image[(at + i / 3) * 8 + at % 5 + i % 3] = 200,
                }
            }
            pixels.extend(image);
            labels.push(label as u8);
        }
        let header = |sizes: &[u32]| {
            let mut bytes = vec![0, 0, 8, sizes.len() as u8];
            bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
            bytes
        };
        let write = |what: &str, header: Vec<u8>, values: &[u8]| {
            fs::write(
                folder.join(format!("{part}-{what}")),
                [&header[..], values].concat(),
            )
            .unwrap();
        };
        write("images-idx3-ubyte", header(&[count, 9, 8]), &pixels);
        write("labels-idx1-ubyte", header(&[count]), &labels);
    }
}

/// Writes a folder of photos of two classes and several sizes as PNG: dark and light noise.
pub fn write_photos(folder: &Path) {
    for (split, count) in [("train", 12), ("test", 4)] {
        for (class, light) in [("dark", 0), ("light", 100)] {
            let place = folder.join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for i in 0..count {
                let (width, height) = (12 + i, 10 + 2 * i % 7);
                let seed = u64::from(i + light) + 1000 * count as u64;
                let mut draws = Key::from_seed(seed).draws();
                let pixels: Vec<u8> = (0..3 * width * height)
                    .map(|_| (light + draws.below(120)) as u8)
                    .collect();
                let file = fs::File::create(place.join(format!("{i}.png"))).unwrap();
                let mut encoder = png::Encoder::new(file, width, height);
                encoder.set_color(png::ColorType::Rgb);
                encoder.set_depth(png::BitDepth::Eight);
                encoder
                    .write_header()
                    .unwrap()
                    .write_image_data(&pixels)
                    .unwrap();
            }
        }
    }
}

/// A recipe with everything that has state: momentum, averaged weights, noise, augmentation.
pub const RECIPE: &str = r#"
seed = 5

[data]
source = "idx:images"

[model]
kind = "convnet"
widths = [6, 8]
pool_after = [0]
dropout = 0.2

[augment]
operations = [
    { op = "horizontal_flip" },
    { op = "random_crop", height = 9, width = 8, padding = 1, mode = "edge" },
    { op = "cutout", size = 3, probability = 0.5 },
]

[train]
epochs = 6
batch_size = 16
label_smoothing = 0.1
clip_norm = 2.0
weight_average = 0.95
checkpoint_every = 7

[optimizer]
kind = "sgd"
learning_rate = 0.05

[schedule]
kind = "one_cycle"

[decay.penalty]
kind = "l2"
strength = 1e-3
"#;
