//! Threads that share a layer: no update of the running statistics is lost.

mod support;

use std::thread;

use burn::tensor::Tensor;
use evenkeel_nn::{BatchNorm, BatchNormConfig, Pass, RunningAverage};
use support::{assert_near, plain, random_of, running, tracked};

const THREADS: u64 = 4;
const FORWARDS: u64 = 100;

/// Batch `index`: `[5, 2]`, with a mean and a deviation of its own.
fn batch(index: u64) -> Tensor<2> {
    let x = random_of::<2>(index, [5, 2], &plain());
    x * (1.0 + index as f64 / 200.0) + index as f64 / 100.0
}

/// Each thread takes every fourth batch; `pass` is asked for the pass of each.
fn in_threads(norm: &BatchNorm, pass: impl Fn(u64) -> Pass + Sync) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let pass = &pass;
            scope.spawn(move || {
                for index in 0..FORWARDS {
                    let index = index * THREADS + thread;
                    norm.forward(batch(index), &pass(index));
                }
            });
        }
    });
}

#[test]
fn averages_lose_no_update() {
    let config = BatchNormConfig::new(2).with_average(RunningAverage::Cumulative);
    let (norm, alone) = (config.init(&plain()), config.init(&plain()));
    in_threads(&norm, |step| Pass::train(0, step));
    for step in 0..THREADS * FORWARDS {
        alone.forward(batch(step), &Pass::train(0, step));
    }
    assert_eq!(tracked(&norm), (THREADS * FORWARDS) as i64);
    let ((mean, var), expected) = (running(&norm), running(&alone));
    assert_near("mean", &mean, &expected.0, 1e-4);
    assert_near("var", &var, &expected.1, 1e-4);
}

/// Of one batch over and over: 1 − (1 − m)ᵏ of its mean, however the threads take turns.
#[test]
fn momentum_is_applied_once_a_batch() {
    let config = BatchNormConfig::new(2).with_average(RunningAverage::Momentum(0.002));
    let (norm, alone) = (config.init(&plain()), config.init(&plain()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for step in 0..FORWARDS {
                    norm.forward(batch(300), &Pass::train(0, step));
                }
            });
        }
    });
    for step in 0..THREADS * FORWARDS {
        alone.forward(batch(300), &Pass::train(0, step));
    }
    assert_eq!(running(&norm), running(&alone));
}

#[test]
fn recalibration_pools_every_batch() {
    let (norm, whole) = (support::norm(&plain()), support::norm(&plain()));
    let pass = Pass::recalibrate();
    in_threads(&norm, |_| pass.clone());
    let all = (0..THREADS * FORWARDS).map(batch).collect();
    whole.forward(Tensor::cat(all, 0), &Pass::recalibrate());
    assert_eq!(tracked(&norm), (THREADS * FORWARDS) as i64);
    let ((mean, var), expected) = (running(&norm), running(&whole));
    assert_near("mean", &mean, &expected.0, 1e-6);
    assert_near("var", &var, &expected.1, 1e-6);
}
