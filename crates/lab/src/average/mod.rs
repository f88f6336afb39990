//! The average at test: over views of each image, over the noise that the net was trained with, or both.

mod draws;
mod views;

use std::collections::HashMap;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_augment::{Batch, Loader, Operation, Size};
use evenkeel_nn::Pass;
use evenkeel_record::{
    AverageOf, Averaging, CurvePoint, Disagreement, Estimate, Quality, RunFolder,
};
use evenkeel_statistics::Discordant;

pub use draws::Noise;
pub use views::TestViews;

use crate::Error;
use crate::compare::right;
use crate::data::{Kind, Source, Split};
use crate::evaluate::{
    Measured, OpenRun, loader_options, measure, most_probable, numbers, softmax,
};
use crate::examples::{self, Use, Viewed};
use crate::model::Model;
use crate::quality::{mean, quality};
use draws::Draws;
use views::Group;

/// What to average over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AverageOptions {
    /// The views of each image.
    pub views: TestViews,
    /// Draws of the net's noise for each view; 0 for none, in test mode.
    pub draws: u64,
    /// Which noise.
    pub noise: Noise,
    /// What is averaged.
    pub average: AverageOf,
    /// What the noise is a function of.
    pub seed: u64,
}

impl AverageOptions {
    /// Whether there is one forward of one view, in test mode.
    pub fn is_single(&self) -> bool {
        self.views == TestViews::None && self.draws == 0
    }

    /// Such as `flip`, `5 draws of masks`, `ten-crop, 5 draws of all noise`.
    fn name(&self) -> String {
        let draws = format!("{} draws of {}", self.draws, self.noise);
        match (&self.views, self.draws) {
            (TestViews::None, _) => draws,
            (views, 0) => views.to_string(),
            (views, _) => format!("{views}, {draws}"),
        }
    }
}

/// A run's model, measured.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// What it predicts: on average, where it was asked for an average.
    pub measured: Measured,
    /// How good these predictions are.
    pub quality: Quality,
    /// The average beside the single view, if there is one.
    pub averaging: Option<Averaging>,
}

/// Measures a finished run's model on its own test data, or on the test data of another source with the same
/// kind of examples, by the average that is asked for.
///
/// # Errors
/// As [`evaluate_run`](crate::evaluate::evaluate_run); and if the average makes no sense for the data or the
/// net, with the reason.
pub fn average_run(
    folder: &RunFolder,
    source: Option<&Source>,
    options: &AverageOptions,
    workers: usize,
    device: &Device,
) -> Result<Evaluated, Error> {
    let run = OpenRun::open(folder, source, device)?;
    let averager = match options.is_single() {
        true => None,
        // Before anything is computed: it may be refused.
        false => Some(Averager::new(&run, options, workers)?),
    };
    let begun = Instant::now();
    let single = run.evaluator(workers)?.measure(&run.model)?;
    let single_ms = milliseconds(begun, &single);
    let single_quality = quality(&single);
    let Some(averager) = averager else {
        return Ok(Evaluated {
            measured: single,
            quality: single_quality,
            averaging: None,
        });
    };
    let begun = Instant::now();
    let draws = Draws::of(
        &run.model,
        &run.recipe.model,
        folder,
        options,
        workers,
        device,
    )?;
    let average = averager.average(&draws)?;
    let averaged_ms = milliseconds(begun, &average.measured);
    let averaged = quality(&average.measured);
    let changes = Discordant::of(right(&single).zip(right(&average.measured)));
    let difference = Estimate::new(changes.difference(), Some(changes.interval(CONFIDENCE)));
    Ok(Evaluated {
        averaging: Some(Averaging {
            name: options.name(),
            average: options.average,
            views: averager.told(average.different),
            seed: (options.draws > 0).then_some(options.seed),
            forwards: average.curve.last().map_or(0, |last| last.forwards),
            single: single_quality,
            averaged: averaged.clone(),
            changes,
            difference,
            p_value: changes.p_value(),
            single_ms,
            averaged_ms,
            curve: average.curve,
            disagreement: Some(average.disagreement),
        }),
        measured: average.measured,
        quality: averaged,
    })
}

const CONFIDENCE: f64 = 0.95;

fn milliseconds(begun: Instant, measured: &Measured) -> f64 {
    1e3 * begun.elapsed().as_secs_f64() / measured.labels.len().max(1) as f64
}

/// Runs all forwards of an average.
struct Averager<'a> {
    options: &'a AverageOptions,
    groups: Vec<ViewBatches>,
    classes: usize,
    device: Device,
}

/// Views of one size, as batches.
struct ViewBatches {
    loader: Loader,
    /// Views of an example.
    count: usize,
    /// Numbers a view.
    numbers: usize,
    /// Channels, height, width; none of tables.
    shape: Option<[usize; 3]>,
    /// Whether a row ends in its views' weights.
    weighted: bool,
}

/// What came out.
struct Average {
    measured: Measured,
    curve: Vec<CurvePoint>,
    disagreement: Disagreement,
    /// The most views of an example that differ.
    different: usize,
}

/// Numbers of the views of one batch, at most: 256 MiB.
const MOST_NUMBERS: usize = 1 << 26;
const MOST_BATCH: usize = 256;

impl<'a> Averager<'a> {
    fn new(run: &OpenRun, options: &'a AverageOptions, workers: usize) -> Result<Self, Error> {
        Draws::check(&run.recipe.model, options)?;
        let groups = match options.views {
            TestViews::None => vec![ViewBatches::single(run, workers)?],
            ref views => {
                let test: &[Operation] = match &run.test {
                    Split::Files(files) => files.test(),
                    _ => &[],
                };
                let groups = views.groups(&run.kind, test)?;
                ViewBatches::of(run, groups, workers)?
            }
        };
        Ok(Self {
            options,
            groups,
            classes: run.run.data.classes.len(),
            device: run.device.clone(),
        })
    }

    /// Of an example.
    fn forwards(&self) -> u64 {
        let views: usize = self.groups.iter().map(|group| group.count).sum();
        views as u64 * self.options.draws.max(1)
    }

    /// What the views are.
    fn told(&self, different: usize) -> Vec<String> {
        let all: usize = self.groups.iter().map(|group| group.count).sum();
        if all == 1 {
            return Vec::new();
        }
        let of_group = |group: &ViewBatches| {
            let [_, height, width] = group.shape?;
            let s = if group.count == 1 { "" } else { "s" };
            Some(format!("{} view{s} of {width}×{height}", group.count))
        };
        let mut told: Vec<String> = self.groups.iter().filter_map(of_group).collect();
        if different < all {
            told.push(format!(
                "only {different} of the {all} differ: the others show the same pixels, and are left out"
            ));
        }
        told
    }

    fn average(&self, draws: &Draws<'_>) -> Result<Average, Error> {
        let points = points(self.forwards());
        let mut correct: HashMap<u64, u64> = points.iter().map(|&point| (point, 0)).collect();
        let (mut probabilities, mut labels) = (Vec::new(), Vec::new());
        let mut disagreements = Vec::new();
        let mut different = 0;
        let mut epochs: Vec<_> = self
            .groups
            .iter()
            .map(|group| group.loader.epoch(0, 0))
            .collect();
        loop {
            // All groups have the same examples in the same batches.
            let batches: Option<Vec<_>> = epochs.iter_mut().map(Iterator::next).collect();
            let Some(batches) = batches else { break };
            let batches = batches.into_iter().collect::<Result<Vec<Batch>, _>>()?;
            let of_batch = batches[0].labels.clone();
            let mut sums = Sums::new(of_batch.len(), self.classes);
            different = different.max(self.different(&batches));
            let mut done = 0;
            for (model, pass) in draws.passes() {
                // Masks are a function of the place in a batch: each batch has its own.
                let pass = pass.scope(&format!("batch{}", batches[0].index));
                for (index, (group, batch)) in self.groups.iter().zip(&batches).enumerate() {
                    for view in 0..group.count {
                        let pass = pass.scope(&format!("view{index}.{view}"));
                        let (x, weights) = group.view(batch, view);
                        // Of a batch of images of one size, those that coincide with others.
                        if weights.iter().all(|weight| *weight == 0.0) {
                            continue;
                        }
                        let logits = numbers(group.forward(model, x, &self.device, &pass));
                        sums.add(&logits, &weights);
                        done += 1;
                        if let Some(correct) = correct.get_mut(&done) {
                            *correct += sums.correct(&of_batch, self.options.average);
                        }
                    }
                }
            }
            // Where other batches have more views, theirs are at their average by now.
            let last = sums.correct(&of_batch, self.options.average);
            for (&point, correct) in &mut correct {
                *correct += if point > done { last } else { 0 };
            }
            disagreements.extend(sums.disagreements());
            probabilities.extend(sums.averages(self.options.average));
            labels.extend(of_batch);
        }
        let measured = measure(probabilities, labels, self.classes);
        let examples = measured.labels.len().max(1) as f64;
        let forwards = different as u64 * draws.forwards();
        let before = points.into_iter().filter(|point| *point < forwards);
        let before = before.map(|forwards| CurvePoint {
            forwards,
            accuracy: correct[&forwards] as f64 / examples,
        });
        let all = CurvePoint {
            forwards,
            accuracy: measured.accuracy,
        };
        let of = |wanted: bool| {
            let some = right(&measured)
                .zip(&disagreements)
                .filter(|(is_right, _)| *is_right == wanted);
            mean(some.map(|(_, value)| *value).collect())
        };
        Ok(Average {
            disagreement: Disagreement {
                right: of(true),
                wrong: of(false),
            },
            curve: before.chain([all]).collect(),
            measured,
            different,
        })
    }

    /// The most views of an example that differ.
    fn different(&self, batches: &[Batch]) -> usize {
        let groups = || self.groups.iter().zip(batches);
        let examples = batches[0].labels.len();
        let of_example = |example: usize| -> usize {
            let of_group = |(group, batch): (&ViewBatches, &Batch)| {
                let views = 0..group.count;
                views
                    .filter(|&view| group.weight(batch, example, view) > 0.0)
                    .count()
            };
            groups().map(of_group).sum()
        };
        (0..examples).map(of_example).max().unwrap_or(0)
    }
}

impl ViewBatches {
    /// The one that the net is evaluated on.
    fn single(run: &OpenRun, workers: usize) -> Result<Self, Error> {
        let examples = examples::prepare(
            &run.test,
            &run.kind,
            &run.run.preparation,
            Vec::new(),
            0,
            Use::Test,
        )?;
        let shape = match run.kind {
            Kind::Images {
                height,
                width,
                channels,
            } => Some([channels, height, width]),
            Kind::Table { .. } => None,
        };
        Ok(Self {
            numbers: examples.features(),
            loader: Loader::new(examples, loader_options(MOST_BATCH, workers))?,
            count: 1,
            shape,
            weighted: false,
        })
    }

    /// Groups of views, in batches of the same examples.
    fn of(run: &OpenRun, groups: Vec<Group>, workers: usize) -> Result<Vec<Self>, Error> {
        let viewed = groups
            .into_iter()
            .map(|group| check(run, group))
            .collect::<Result<Vec<Viewed>, Error>>()?;
        let numbers: usize = viewed.iter().map(|group| group.examples.features()).sum();
        if numbers > MOST_NUMBERS {
            return Err(Error::Unfit(format!(
                "views: expected at most {MOST_NUMBERS} numbers of one example, found {numbers}; use fewer or \
                 smaller views"
            )));
        }
        let batch = (MOST_NUMBERS / numbers.max(1)).clamp(1, MOST_BATCH);
        let channels = run.run.preparation.mean.len();
        let of_group = |viewed: Viewed| {
            let Size { width, height } = viewed.size;
            Ok(Self {
                loader: Loader::new(viewed.examples, loader_options(batch, workers))?,
                count: viewed.most,
                numbers: channels * width * height,
                shape: Some([channels, height, width]),
                weighted: true,
            })
        };
        viewed.into_iter().map(of_group).collect()
    }

    fn row(&self) -> usize {
        self.count * (self.numbers + usize::from(self.weighted))
    }

    /// What a view of an example counts.
    fn weight(&self, batch: &Batch, example: usize, view: usize) -> f64 {
        match self.weighted {
            true => {
                let weights = &batch.features[example * self.row() + self.count * self.numbers..];
                f64::from(weights[view])
            }
            false => 1.0,
        }
    }

    /// A view of each example of a batch, and what it counts.
    fn view(&self, batch: &Batch, view: usize) -> (Vec<f32>, Vec<f64>) {
        let examples = batch.labels.len();
        let mut x = Vec::with_capacity(examples * self.numbers);
        for row in batch.features.chunks_exact(self.row()) {
            x.extend_from_slice(&row[view * self.numbers..][..self.numbers]);
        }
        let weights = (0..examples).map(|example| self.weight(batch, example, view));
        (x, weights.collect())
    }

    fn forward(&self, model: &Model, x: Vec<f32>, device: &Device, pass: &Pass) -> Tensor<2> {
        let examples = x.len() / self.numbers;
        match self.shape {
            Some([channels, height, width]) => {
                let x = TensorData::new(x, [examples, channels, height, width]);
                model.forward_images(Tensor::from_data(x, device), pass)
            }
            None => {
                let x = TensorData::new(x, [examples, self.numbers]);
                model.forward(Tensor::from_data(x, device), pass)
            }
        }
    }
}

/// A group of views that the net can see.
fn check(run: &OpenRun, Group { before, views }: Group) -> Result<Viewed, Error> {
    let viewed = examples::views(&run.test, &run.kind, &run.run.preparation, before, views)?;
    let &Kind::Images {
        height,
        width,
        channels,
    } = &run.kind
    else {
        unreachable!("views of a table are refused");
    };
    let size = viewed.size;
    if (size.width, size.height) == (width, height) {
        return Ok(viewed);
    }
    let refuse = |problem: String| {
        Error::Unfit(format!(
            "views of {size}, where the net was trained on {width}×{height}: {problem}"
        ))
    };
    if !run.model.is_fully_convolutional() {
        return Err(refuse(
            "a dense net takes no other size; use views of that size, such as --tta flip".into(),
        ));
    }
    let other = Kind::Images {
        height: size.height,
        width: size.width,
        channels,
    };
    let recipe = &run.recipe.model;
    recipe
        .build(&other, 2, &run.device)
        .map(drop)
        .and_then(|()| recipe.check_statistics(&other, 2))
        .map_err(refuse)?;
    Ok(viewed)
}

/// Weighted sums over the forwards of a batch.
struct Sums {
    classes: usize,
    weights: Vec<f64>,
    logits: Vec<f64>,
    probabilities: Vec<f64>,
    entropies: Vec<f64>,
}

impl Sums {
    fn new(examples: usize, classes: usize) -> Self {
        Self {
            classes,
            weights: vec![0.0; examples],
            logits: vec![0.0; examples * classes],
            probabilities: vec![0.0; examples * classes],
            entropies: vec![0.0; examples],
        }
    }

    fn add(&mut self, logits: &[f64], weights: &[f64]) {
        for (example, (row, &weight)) in logits.chunks_exact(self.classes).zip(weights).enumerate()
        {
            // A view that is not there may be anything.
            if weight == 0.0 {
                continue;
            }
            let at = example * self.classes;
            let mut entropy = 0.0;
            for (class, (logit, p)) in row.iter().zip(softmax(row)).enumerate() {
                self.logits[at + class] += weight * logit;
                self.probabilities[at + class] += weight * p;
                entropy += surprise(p);
            }
            self.entropies[example] += weight * entropy;
            self.weights[example] += weight;
        }
    }

    fn correct(&self, labels: &[u32], average: AverageOf) -> u64 {
        let sums = match average {
            AverageOf::Probabilities => &self.probabilities,
            AverageOf::Logits => &self.logits,
        };
        let rows = sums.chunks_exact(self.classes).zip(labels);
        rows.filter(|(row, label)| most_probable(row) == **label as usize)
            .count() as u64
    }

    fn averages(&self, average: AverageOf) -> Vec<f64> {
        let mut averages = Vec::with_capacity(self.probabilities.len());
        let rows = self
            .probabilities
            .chunks_exact(self.classes)
            .zip(self.logits.chunks_exact(self.classes));
        for ((probabilities, logits), weight) in rows.zip(&self.weights) {
            match average {
                AverageOf::Probabilities => {
                    averages.extend(probabilities.iter().map(|p| p / weight));
                }
                AverageOf::Logits => {
                    let means: Vec<f64> = logits.iter().map(|logit| logit / weight).collect();
                    averages.extend(softmax(&means));
                }
            }
        }
        averages
    }

    /// H\[mean p\] − mean H\[p\] of each example; not negative but for rounding.
    fn disagreements(&self) -> Vec<f64> {
        let rows = self.probabilities.chunks_exact(self.classes);
        let rows = rows.zip(&self.entropies).zip(&self.weights);
        rows.map(|((row, entropy), weight)| {
            let total: f64 = row.iter().map(|p| surprise(p / weight)).sum();
            (total - entropy / weight).max(0.0)
        })
        .collect()
    }
}

/// −p·ln p; 0 at 0.
fn surprise(p: f64) -> f64 {
    if p == 0.0 { 0.0 } else { -p * p.ln() }
}

/// The numbers of forwards at which the accuracy is told: all up to 20, then each a fifth more than the one
/// before.
fn points(forwards: u64) -> Vec<u64> {
    let mut points = vec![1];
    while let Some(&last) = points.last()
        && last < forwards
    {
        let next = if last < 20 { last + 1 } else { last + last / 5 };
        points.push(next.min(forwards));
    }
    points
}

#[cfg(test)]
mod tests;
