//! Images a second on one thread, on the JPEGs of a folder: the pipelines that `scripts/bench-images` times in other
//! libraries too, one JSON object a line.
//!
//! `cargo bench -p evenkeel-augment --bench images -- FOLDER [REPEATS]`

use std::borrow::Cow;
use std::fs;
use std::time::Instant;

use evenkeel_augment::{
    AugmentedImages, Colors, DecodeLimits, Encoded, Error, Examples, Image, ImageFile, ImageSource,
    Normalize, Operation, Pipeline, Sample, Sizes, decode,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
        let image = &self.decoded.as_ref().expect("files are not read")[index];
        memory.extend_from_slice(image.pixels());
        Image::new(image.width(), image.height(), 3, memory)
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

/// Seconds of this thread on a processor where the system tells them (Linux), so that other programs count less; else by
/// the wall clock.
struct Clock(Instant, Option<f64>);

impl Clock {
    fn now() -> Self {
        Self(Instant::now(), Self::on_processor())
    }

    fn on_processor() -> Option<f64> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
    }

    fn seconds(&self) -> f64 {
        match (self.1, Self::on_processor()) {
            (Some(start), Some(end)) => end - start,
            _ => self.0.elapsed().as_secs_f64(),
        }
    }
}

/// The median of the repeats behind the first, which warms up.
fn rate(op: &str, exact: bool, items: usize, repeats: usize, mut work: impl FnMut(u64)) {
    let mut seconds: Vec<f64> = (0..=repeats as u64)
        .map(|epoch| {
            let start = Clock::now();
            work(epoch);
            start.seconds()
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rate = (items as f64 / seconds[repeats / 2]).round();
    let best = (items as f64 / seconds[0]).round();
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

fn main() {
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
    if wanted("lighting") {
        let resize = json!({"op": "resize", "to": {"size": {"width": 224, "height": 224}}});
        let sized = pipeline(&[resize], true);
        let small: Vec<Image> = decoded
            .decoded
            .iter()
            .flatten()
            .map(|image| {
                let stream = evenkeel_augment::Stream::new(0, Sample { epoch: 0, index: 0 });
                sized.augment(image, stream).expect("an image")
            })
            .collect();
        let sources = Pictures {
            files: decoded.files.clone(),
            decoded: Some(small),
        };
        let pipeline = pipeline(&[json!({"op": "lighting"})], true);
        let images: Vec<_> = sources.decoded.iter().flatten().collect();
        rate("lighting", false, images.len(), repeats, |epoch| {
            for (index, image) in images.iter().enumerate() {
                let stream = evenkeel_augment::Stream::new(0, Sample { epoch, index });
                std::hint::black_box(pipeline.augment(image, stream).expect("an image"));
            }
        });
    }
}
