//! The statistics that examples are normalized by.

use evenkeel_augment::Normalize;
use evenkeel_record::Preparation;

use crate::files::Sums;
use crate::{Dataset, Images, Kind, Split, Table};

/// How examples become numbers whatever their augmentation, by statistics of the training data: per
/// channel of images (on the scale 0..1), per column of a table. Where all values are equal, the
/// deviation is taken as 1.
pub fn preparation(data: &Dataset) -> Preparation {
    let statistics: Vec<(f32, f32)> = match (&data.kind, &data.train) {
        (&Kind::Images { channels, .. }, Split::Images(images)) => (0..channels)
            .map(|channel| of_levels(images, channel, channels))
            .collect(),
        (_, Split::Files(files)) => (0..files.channels())
            .map(|channel| {
                let (mean, deviation) = Sums::statistics(files.sums(), channel);
                (mean as f32, or_one(deviation))
            })
            .collect(),
        (_, Split::Table(table)) => (0..table.columns).map(|j| of_column(table, j)).collect(),
        (Kind::Table { .. }, Split::Images(_)) => unreachable!("a source has one kind of examples"),
    };
    let (mean, deviation) = statistics.into_iter().unzip();
    Preparation { mean, deviation }
}

fn of_levels(images: &Images, channel: usize, channels: usize) -> (f32, f32) {
    // From counts of the 256 levels: exact, whatever the order.
    let mut counts = [0_u64; 256];
    for &level in images.pixels[channel..].iter().step_by(channels) {
        counts[usize::from(level)] += 1;
    }
    let levels = counts
        .iter()
        .enumerate()
        .map(|(level, &n)| (n as f64, level as f64 / 255.0));
    mean_and_deviation(levels)
}

fn of_column(table: &Table, column: usize) -> (f32, f32) {
    let values = table.values.iter().skip(column).step_by(table.columns);
    mean_and_deviation(values.map(|&value| (1.0, f64::from(value))))
}

/// Of weighted values, in two passes.
fn mean_and_deviation(values: impl Iterator<Item = (f64, f64)> + Clone) -> (f32, f32) {
    let average = |value: &dyn Fn(f64) -> f64| {
        let sums = |(sum, count), (n, x)| (sum + n * value(x), count + n);
        let (sum, count) = values.clone().fold((0.0, 0.0), sums);
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let mean = average(&|x| x);
    let deviation = average(&|x| (x - mean).powi(2)).sqrt();
    (mean as f32, or_one(deviation))
}

/// What values that are all equal are divided by.
fn or_one(deviation: f64) -> f32 {
    if deviation > 0.0 {
        deviation as f32
    } else {
        1.0
    }
}

/// Where only pictures are made, no numbers of them.
pub fn unnormalized() -> Normalize {
    Normalize {
        mean: Vec::new(),
        std: Vec::new(),
    }
}
