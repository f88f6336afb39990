//! Throughput of the loader on small images.
//!
//! `cargo bench -p evenkeel-augment`

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use evenkeel_augment::{
    AugmentedImages, Cutout, Error, HorizontalFlip, Image, ImageSource, Loader, LoaderOptions,
    Normalize, Operation, PadMode, Pipeline, RandomCrop, Size, Sizes,
};

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

fn main() {
    evenkeel_allocator::keep_freed_memory();
    divan::main();
}

const IMAGES: usize = 10_000;

struct Pictures {
    side: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl ImageSource for Pictures {
    fn len(&self) -> usize {
        IMAGES
    }

    fn sizes(&self) -> Sizes {
        Size::new(self.side, self.side).into()
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
        let bytes = self.side * self.side * self.channels;
        memory.extend_from_slice(&self.pixels[index * bytes..][..bytes]);
        Image::new(self.side, self.side, self.channels, memory)
    }

    fn label(&self, index: usize) -> u32 {
        index as u32 % 10
    }
}

/// Flip, crop after padding by 2, cutout of 8, conversion: an epoch of 10,000 images.
#[divan::bench(args = [(28, 1, 0), (28, 1, 1), (28, 1, 2), (32, 3, 0), (32, 3, 1), (32, 3, 2)])]
fn side_channels_workers(bencher: Bencher, (side, channels, workers): (usize, usize, usize)) {
    let pixels = (0..IMAGES * side * side * channels)
        .map(|i| (i % 251) as u8)
        .collect();
    let pipeline = Pipeline {
        operations: vec![
            Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
            Operation::RandomCrop(RandomCrop {
                height: side,
                width: side,
                padding: 2,
                mode: PadMode::Constant(0),
            }),
            Operation::Cutout(Cutout {
                size: 8,
                count: 1,
                fill: 0,
                probability: 1.0,
            }),
        ],
        normalize: Normalize {
            mean: vec![0.3; channels],
            std: vec![0.3; channels],
        },
        exact: false,
    };
    let source = Pictures {
        side,
        channels,
        pixels,
    };
    let examples = Arc::new(AugmentedImages::new(source, &pipeline, 0).expect("it fits"));
    let options = LoaderOptions {
        batch_size: 128,
        workers,
        prefetch: 2 * workers,
        shuffle: Some(0),
        drop_last: true,
    };
    let loader = Loader::new(examples, options).expect("valid");
    bencher
        .counter(ItemsCount::new(IMAGES))
        .bench_local(|| loader.epoch(0, 0).count());
}
