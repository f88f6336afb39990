//! Images a second on one thread, on the JPEGs of a folder: the pipelines that `scripts/bench-images` times in other
//! libraries too, one JSON object a line.
//!
//! `cargo bench -p evenkeel-augment --bench images -- FOLDER [REPEATS]`

use std::borrow::Cow;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_augment::{
    AugmentedImages, Colors, DecodeLimits, Encoded, Error, Examples, Image, ImageFile, ImageSource,
    Loader, LoaderOptions, Normalize, Operation, Pipeline, Sample, Size, Sizes, Stream, decode,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

/// Files, or the images decoded beforehand.
struct Pictures {
    files: Vec<Vec<u8>>,
    decoded: Option<Vec<Image>>,
}

impl Pictures {
    fn new(files: Vec<Vec<u8>>, decoded: bool) -> Self {
        let image = |file: &Vec<u8>| {
            decode(file, Colors::Rgb, &DecodeLimits::default()).expect("a photograph")
        };
        let decoded = decoded.then(|| files.iter().map(image).collect());
        Self { files, decoded }
    }
}

impl ImageSource for Pictures {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sizes(&self) -> Sizes {
        let limits = DecodeLimits::default();
        let sizes = self.files.iter().map(|file| {
            let encoded = Encoded::open(file, Colors::Rgb, &limits).expect("a photograph");
            Sizes::from(encoded.size())
        });
        sizes.reduce(Sizes::or).expect("photographs")
    }

    fn channels(&self) -> usize {
        3
    }

    fn read(&self, index: usize, _: Vec<u8>) -> Result<Image, Error> {
        Ok(self.image(index).expect("files are not read").clone())
    }

    fn image(&self, index: usize) -> Option<&Image> {
        self.decoded.as_ref().map(|images| &images[index])
    }

    fn file(&self, index: usize, _: Vec<u8>) -> Option<Result<ImageFile<'_>, Error>> {
        self.decoded.is_none().then(|| {
            Ok(ImageFile {
                bytes: Cow::Borrowed(&self.files[index]),
                colors: Colors::Rgb,
                limits: DecodeLimits::default(),
            })
        })
    }

    fn label(&self, _: usize) -> u32 {
        0
    }
}

fn pipeline(steps: &[Value], exact: bool) -> Pipeline {
    let operations = steps
        .iter()
        .cloned()
        .map(serde_json::from_value::<Operation>);
    Pipeline {
        operations: operations.collect::<Result<_, _>>().expect("operations"),
        normalize: Normalize {
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        },
        exact,
    }
}

/// Seconds of this thread on a processor where the system tells them exactly, so that other programs count less; else by
/// the wall clock.
fn seconds() -> f64 {
    #[cfg(unix)]
    let seconds = {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    #[cfg(not(unix))]
    let seconds = {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        START.elapsed().as_secs_f64()
    };
    seconds
}

/// Of a repeat.
const SECONDS: f64 = 0.1;

/// The median of the repeats behind the first, which warms up; each has as many epochs as take some time.
fn rate(op: &str, exact: bool, items: usize, repeats: usize, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    work(0);
    let epochs = (SECONDS / start.elapsed().as_secs_f64()).ceil() as u64;
    let mut times: Vec<f64> = (0..repeats as u64)
        .map(|repeat| {
            let start = seconds();
            for epoch in 0..epochs {
                work(1 + repeat * epochs + epoch);
            }
            (seconds() - start) / epochs as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let rate = (items as f64 / times[repeats / 2]).round();
    let best = (items as f64 / times[0]).round();
    let peer = if exact { "evenkeel exact" } else { "evenkeel" };
    println!(
        "{}",
        json!({"op": op, "peer": peer, "img_per_s": rate, "best": best, "n": repeats})
    );
}

fn run(op: &str, source: &Pictures, pipeline: &Pipeline, repeats: usize) {
    let examples = AugmentedImages::new(source, pipeline, 0).expect("it fits");
    let mut writer = examples.writer();
    let mut numbers = vec![0.0; examples.features()];
    rate(op, pipeline.exact, source.len(), repeats, |epoch| {
        for index in 0..source.len() {
            let label = writer.write(Sample { epoch, index }, &mut numbers);
            std::hint::black_box((label.expect("an example"), &numbers));
        }
    });
}

/// How far the folded pictures are from the exact ones: in decibels, 20·log₁₀(255/√(mean squared difference)), of all
/// together and of the worst; with the share of values that are equal.
fn difference(op: &str, source: &Pictures, steps: &[Value]) {
    let levels = |exact| Pipeline {
        normalize: Normalize {
            mean: vec![0.0; 3],
            std: vec![1.0 / 255.0; 3],
        },
        ..pipeline(steps, exact)
    };
    let examples = [true, false]
        .map(|exact| AugmentedImages::new(source, &levels(exact), 0).expect("it fits"));
    let mut writers = examples.each_ref().map(|examples| examples.writer());
    let decibels = |square: f64| 10.0 * (255.0_f64.powi(2) / square).log10();
    let (mut all, mut worst, mut equal) = (0.0, 0.0, 0_usize);
    let features = examples[0].features();
    for index in 0..source.len() {
        let pictures = writers.each_mut().map(|writer| {
            let mut numbers = vec![0.0; features];
            let sample = Sample { epoch: 0, index };
            writer.write(sample, &mut numbers).expect("an example");
            numbers
        });
        let pairs = pictures[0].iter().zip(&pictures[1]);
        equal += pairs.clone().filter(|(a, b)| a == b).count();
        let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2));
        let square = squares.sum::<f64>() / features as f64;
        all += square / source.len() as f64;
        worst = f64::max(worst, square);
    }
    let same = (all == 0.0).then_some(Value::Null);
    let or_same = |square: f64| same.clone().unwrap_or_else(|| json!(decibels(square)));
    println!(
        "{}",
        json!({
            "op": op,
            "peer": "folded beside exact",
            "psnr": or_same(all),
            "worst_psnr": or_same(worst),
            "equal": equal as f64 / (source.len() * features) as f64,
        })
    );
}

/// Small gray images in memory.
struct Digits(Vec<u8>);

const DIGITS: usize = 10_000;

impl ImageSource for Digits {
    fn len(&self) -> usize {
        DIGITS
    }

    fn sizes(&self) -> Sizes {
        Size::new(28, 28).into()
    }

    fn channels(&self) -> usize {
        1
    }

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
        memory.extend_from_slice(&self.0[index * 784..][..784]);
        Image::new(28, 28, 1, memory)
    }

    fn label(&self, _: usize) -> u32 {
        0
    }
}

/// Crop after padding by 2, flip, cutout of 8, conversion, of images of 28×28.
fn small(repeats: usize) {
    let source = Digits((0..DIGITS * 784).map(|i| (i % 251) as u8).collect());
    let pipeline = Pipeline {
        normalize: Normalize {
            mean: vec![0.3],
            std: vec![0.3],
        },
        ..pipeline(
            &[
                json!({"op": "random_crop", "height": 28, "width": 28, "padding": 2}),
                json!({"op": "horizontal_flip"}),
                json!({"op": "cutout", "size": 8}),
            ],
            false,
        )
    };
    let examples = AugmentedImages::new(source, &pipeline, 0).expect("it fits");
    let mut writer = examples.writer();
    let mut numbers = vec![0.0; examples.features()];
    rate("gray_28", false, DIGITS, repeats, |epoch| {
        for index in 0..DIGITS {
            let label = writer.write(Sample { epoch, index }, &mut numbers);
            std::hint::black_box((label.expect("an example"), &numbers));
        }
    });
}

/// Images of an epoch, at least: its first and last batches are a small part.
const EPOCH: usize = 1000;

/// By the wall clock: epochs of a loader with one worker and with two, in turn, so that the machine's moods meet both.
fn workers(files: &[Vec<u8>], steps: &[Value], repeats: usize) {
    let files = vec![files; EPOCH.div_ceil(files.len())].concat();
    let source = Pictures::new(files, false);
    let examples = AugmentedImages::new(source, &pipeline(steps, false), 0).expect("it fits");
    let examples = Arc::new(examples);
    let loaders = [1, 2].map(|workers| {
        let options = LoaderOptions {
            batch_size: 16,
            workers,
            prefetch: 2 * workers,
            shuffle: Some(0),
            drop_last: false,
        };
        Loader::new(examples.clone(), options).expect("valid")
    });
    let mut times = [const { Vec::new() }; 2];
    for epoch in 0..=repeats as u64 {
        for (loader, times) in loaders.iter().zip(&mut times) {
            let start = Instant::now();
            loader
                .epoch(epoch, 0)
                .for_each(|batch| drop(std::hint::black_box(batch)));
            if epoch > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    for (workers, mut times) in (1..).zip(times) {
        times.sort_by(f64::total_cmp);
        let rate = (examples.len() as f64 / times[repeats / 2]).round();
        let peer = format!("evenkeel, workers: {workers}");
        println!(
            "{}",
            json!({"op": "decode+crop_flip_jitter", "peer": peer, "img_per_s": rate, "n": repeats})
        );
    }
}

fn main() {
    evenkeel_allocator::keep_freed_memory();
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let Some(folder) = arguments.next() else {
        println!("a folder of JPEGs is needed: cargo bench --bench images -- FOLDER");
        return;
    };
    let repeats = arguments.next().map_or(5, |n| n.parse().expect("repeats"));
    let only = arguments.next();
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("its entries").path())
        .collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    let wanted = |op: &str| only.as_deref().is_none_or(|only| op == only);

    if wanted("decode") {
        rate("decode", false, files.len(), repeats, |_| {
            for file in &files {
                let image = decode(file, Colors::Rgb, &DecodeLimits::default());
                std::hint::black_box(image.expect("a photograph"));
            }
        });
    }
    let crop = json!({"op": "random_resized_crop", "height": 224, "width": 224});
    let flip = json!({"op": "horizontal_flip"});
    let jitter =
        json!({"op": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4});
    let nearest = json!({"op": "rand_augment", "magnitudes": "torchvision"});
    let auto = json!({"op": "auto_augment", "policy": "imagenet"});
    let pipelines = [
        ("crop_flip", vec![crop.clone(), flip.clone()]),
        ("crop_flip_jitter", vec![crop.clone(), flip.clone(), jitter]),
        (
            "crop_flip_randaugment",
            vec![crop.clone(), flip.clone(), nearest],
        ),
        ("crop_flip_autoaugment", vec![crop, flip, auto]),
    ];
    let encoded = Pictures::new(files.clone(), false);
    let decoded = Pictures::new(files, true);
    for exact in [false, true] {
        for (op, steps) in &pipelines {
            let pipeline = pipeline(steps, exact);
            if wanted(op) {
                run(op, &decoded, &pipeline, repeats);
            }
            let op = format!("decode+{op}");
            if wanted(&op) {
                run(&op, &encoded, &pipeline, repeats);
            }
        }
    }
    let rotate = json!({"op": "rotate", "angle": [-15.0, 15.0]});
    let shear = json!({"op": "shear", "x": [-10.0, 10.0]});
    let jitter = json!({"op": "scale_jitter", "side": [256, 480]});
    let [crop, flip] = [&pipelines[0].1[0], &pipelines[0].1[1]];
    let folds = [
        (
            "decode+crop_flip",
            &encoded,
            vec![crop.clone(), flip.clone()],
        ),
        ("flip, crop", &decoded, vec![flip.clone(), crop.clone()]),
        ("scale jitter, crop", &decoded, vec![jitter, crop.clone()]),
        (
            "crop, rotate, shear",
            &decoded,
            vec![crop.clone(), rotate, shear],
        ),
        ("crop_flip_randaugment", &decoded, pipelines[2].1.clone()),
    ];
    if wanted("folds") {
        for (op, source, steps) in &folds {
            for exact in [true, false] {
                run(
                    &format!("fold: {op}"),
                    source,
                    &pipeline(steps, exact),
                    repeats,
                );
            }
            difference(op, source, steps);
        }
    }
    if wanted("gray_28") {
        small(repeats);
    }
    if wanted("workers") {
        workers(&encoded.files, &pipelines[1].1, 3 * repeats);
    }
    if wanted("lighting") {
        let resize = json!({"op": "resize", "to": {"size": {"width": 224, "height": 224}}});
        let sized = pipeline(&[resize], true);
        let stream = Stream::new(0, Sample { epoch: 0, index: 0 });
        let images = decoded.decoded.iter().flatten();
        let images = images.map(|image| sized.augment(image, stream).expect("an image"));
        let images: Vec<Image> = images.collect();
        let pipeline = pipeline(&[json!({"op": "lighting"})], true);
        rate("lighting", false, images.len(), repeats, |epoch| {
            for (index, image) in images.iter().enumerate() {
                let stream = Stream::new(0, Sample { epoch, index });
                std::hint::black_box(pipeline.augment(image, stream).expect("an image"));
            }
        });
    }
}
