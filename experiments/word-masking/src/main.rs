//! What masking words does to a net on the mean of their embeddings, by rate.
//!
//! `cargo run --release -p evenkeel-word-masking -- OUT SEEDS` trains the net at each rate with each of so many
//! seeds, and writes a line each to OUT as it goes. Lines that are there already are not made again.
#![forbid(unsafe_code)]

mod net;
mod text;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Instant;

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use evenkeel_augment::{MaskUnit, Sample, Stream, WordMasking};
use evenkeel_nn::{cross_entropy, initialize};
use evenkeel_random::Key;

use net::{Net, Words};
use text::{NOTHING, Text, Verse};

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

/// The share of words that is masked.
const RATES: [f64; 6] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9];
const EPOCHS: u64 = 12;
const BATCH: usize = 50;
const LEARNING_RATE: f64 = 3e-3;

fn main() {
    evenkeel_allocator::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: OUT SEEDS";
    let out = arguments.next().expect(usage);
    let seeds: u64 = arguments.next().expect(usage).parse().expect(usage);
    // The repeatable way, and a fair one where several share the machine.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("a thread pool");
    let done = fs::read_to_string(&out).unwrap_or_default();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&out)
        .expect("the results");
    if done.is_empty() {
        let header = "rate,seed,train_loss,train_accuracy,test_loss,test_accuracy";
        writeln!(file, "{header}").expect("the results");
    }
    let text = text::read();
    println!("{} words, {} genres", text.words, text.genres);
    for seed in 0..seeds {
        for rate in RATES {
            let start = format!("{rate},{seed},");
            if done.lines().any(|line| line.starts_with(&start)) {
                continue;
            }
            let began = Instant::now();
            let net = train(&text, rate, seed);
            let [train, test] = [&text.train, &text.test].map(|verses| measure(&net, verses));
            let line = format!("{start}{},{},{},{}", train.0, train.1, test.0, test.1);
            writeln!(file, "{line}").expect("the results");
            println!("{line}  {:.1} s", began.elapsed().as_secs_f64());
        }
    }
}

/// With `rate` of each verse's words masked anew in each epoch.
fn train(text: &Text, rate: f64, seed: u64) -> Net {
    let device = Device::flex().autodiff();
    let masking = WordMasking {
        share: rate,
        unit: MaskUnit::Token,
        masked: 1.0,
        random: 0.0,
        mask_token: NOTHING,
        special: vec![NOTHING],
        vocabulary: 0..text.words as u32,
        ignore: -100,
    };
    let mut net = initialize(Net::new(text.words, text.genres, &device), seed);
    let mut optimizer = AdamConfig::new().init();
    let mut order: Vec<usize> = (0..text.train.len()).collect();
    let steps = EPOCHS as usize * (order.len() / BATCH);
    let mut step = 0;
    for epoch in 0..EPOCHS {
        let key = Key::from_seed(seed).child("order").at(epoch);
        key.draws().shuffle(&mut order);
        for batch in order.chunks_exact(BATCH) {
            let masked: Vec<Vec<u32>> = batch
                .iter()
                .map(|&index| {
                    let mut draws = Stream::new(seed, Sample { epoch, index }).operation(0);
                    let masked = masking.apply(&text.train[index].words, None, &mut draws);
                    masked.expect("settings that can be applied").tokens
                })
                .collect();
            let genres: Vec<i64> = batch
                .iter()
                .map(|&index| i64::from(text.train[index].genre))
                .collect();
            let genres = Tensor::<1, Int>::from_data(TensorData::new(genres, [BATCH]), &device);
            let loss = cross_entropy(net.forward(&Words::new(&masked, &device)), genres, 0.0);
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            // Falling to 0 in a straight line.
            let rate = LEARNING_RATE * (1.0 - step as f64 / steps as f64);
            net = optimizer.step(rate, net, gradients);
            step += 1;
        }
    }
    net.valid()
}

/// Mean loss and accuracy on whole verses.
fn measure(net: &Net, verses: &[Verse]) -> (f64, f64) {
    let device = Device::flex();
    let (mut loss, mut right) = (0.0, 0);
    for verses in verses.chunks(250) {
        let words: Vec<Vec<u32>> = verses.iter().map(|verse| verse.words.clone()).collect();
        let logits = net.forward(&Words::new(&words, &device));
        let genres = logits.dims()[1];
        let logarithms: Vec<f64> = log_softmax(logits, 1).into_data().iter::<f64>().collect();
        for (row, verse) in logarithms.chunks_exact(genres).zip(verses) {
            let best = (1..genres).fold(0, |best, k| if row[k] > row[best] { k } else { best });
            loss -= row[verse.genre as usize];
            right += usize::from(best == verse.genre as usize);
        }
    }
    let count = verses.len() as f64;
    (loss / count, right as f64 / count)
}
