//! Small data: some hundred images of clothes of 14×14, as IDX files, with what is wrong with them.

use std::fs;
use std::path::Path;

use evenkeel_lab::data::{Dataset, Source, Split};
use evenkeel_random::Key;

/// The side of the images.
pub const SIDE: usize = 14;

/// Grey images and their labels.
#[derive(Clone)]
pub struct Images {
    pub pixels: Vec<[u8; SIDE * SIDE]>,
    pub labels: Vec<u8>,
}

/// What is trained on and what is tested on.
#[derive(Clone)]
pub struct Data {
    pub train: Images,
    pub test: Images,
}

/// Which pixels a smaller image is made of.
#[derive(Clone, Copy)]
pub enum Filter {
    /// The mean of four.
    Box,
    /// The first of four.
    Nearest,
}

/// The embedded images, whole.
pub struct Clothes {
    train: Vec<u8>,
    train_labels: Vec<u32>,
    test: Vec<u8>,
    test_labels: Vec<u32>,
}

impl Clothes {
    pub fn load() -> Self {
        let data = Dataset::open(&Source::FashionMnist10k).expect("the embedded data");
        let (Split::Images(train), Split::Images(test)) = (&data.train, &data.test) else {
            panic!("expected images")
        };
        Self {
            train: train.pixels.to_vec(),
            train_labels: train.labels.to_vec(),
            test: test.pixels.to_vec(),
            test_labels: test.labels.to_vec(),
        }
    }

    /// So many training and test images, chosen by the seed.
    pub fn sample(&self, train: usize, test: usize, seed: u64, test_filter: Filter) -> Data {
        let some = |pixels: &[u8], labels: &[u32], count: usize, name: &str, filter| {
            let mut order: Vec<usize> = (0..labels.len()).collect();
            Key::from_seed(seed).child(name).draws().shuffle(&mut order);
            order.truncate(count);
            Images {
                pixels: order
                    .iter()
                    .map(|&i| small(&pixels[i * 784..][..784], filter))
                    .collect(),
                labels: order.iter().map(|&i| labels[i] as u8).collect(),
            }
        };
        Data {
            train: some(&self.train, &self.train_labels, train, "train", Filter::Box),
            test: some(&self.test, &self.test_labels, test, "test", test_filter),
        }
    }
}

fn small(pixels: &[u8], filter: Filter) -> [u8; SIDE * SIDE] {
    std::array::from_fn(|i| {
        let (y, x) = (2 * (i / SIDE), 2 * (i % SIDE));
        let at = |dy: usize, dx: usize| u32::from(pixels[(y + dy) * 28 + x + dx]);
        match filter {
            Filter::Box => ((at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1) + 2) / 4) as u8,
            Filter::Nearest => at(0, 0) as u8,
        }
    })
}

pub fn mirrored(image: &[u8; SIDE * SIDE]) -> [u8; SIDE * SIDE] {
    std::array::from_fn(|i| image[i / SIDE * SIDE + SIDE - 1 - i % SIDE])
}

impl Images {
    /// Shoes that face left as one class and their mirror images as another, beside shirts.
    pub fn of_two_sides(&self, seed: u64) -> Self {
        let mut draws = Key::from_seed(seed).child("sides").draws();
        let mut sided = Self {
            pixels: Vec::new(),
            labels: Vec::new(),
        };
        for (image, label) in self.pixels.iter().zip(&self.labels) {
            let (image, label) = match label {
                7 | 9 if draws.chance(0.5) => (*image, 0),
                7 | 9 => (mirrored(image), 1),
                0 | 1 | 8 => (*image, 2),
                _ => continue,
            };
            sided.pixels.push(image);
            sided.labels.push(label);
        }
        sided
    }
}

impl Data {
    /// Writes the folder that `idx:` reads.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder for the data");
        for (name, images) in [("train", &self.train), ("t10k", &self.test)] {
            let count = (images.labels.len() as u32).to_be_bytes();
            let side = (SIDE as u32).to_be_bytes();
            let mut bytes = [&[0, 0, 8, 3], &count[..], &side, &side].concat();
            bytes.extend(images.pixels.iter().flatten());
            fs::write(folder.join(format!("{name}-images-idx3-ubyte")), bytes).expect("images");
            let bytes = [&[0, 0, 8, 1], &count[..], &images.labels].concat();
            fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), bytes).expect("labels");
        }
    }
}
