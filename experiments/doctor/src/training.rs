//! A training loop of one's own, with the library's parts, in which something can be wrong.
//!
//! Without a fault it does what `evenkeel train` does: the same losses, the same weights (a test holds it to
//! that). Its run folder is the one that `evenkeel train` wrote for the recipe, with log, weights and results
//! replaced by its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use evenkeel_augment::{
    AugmentedImages, Error, ExampleWriter, Examples, Image, ImageSource, Loader, LoaderOptions,
    Normalize, Operation, Pipeline, Sample, Size, Sizes,
};
use evenkeel_lab::data::{Dataset, Source};
use evenkeel_lab::model::Model;
use evenkeel_lab::recipe::OptimizerRecipe;
use evenkeel_lab::{FitOptions, Outcome, Recipe, fit, weights};
use evenkeel_nn::{
    BatchNorm, BatchNormConfig, Norm, Norms, Pass, RunningAverage, Scaling, WeightDecay,
    cross_entropy, initialize, soft_cross_entropy,
};
use evenkeel_random::Key;
use evenkeel_record::{Line, MetricsLog, Preparation, Run, RunFolder};

use crate::images::{Data, Images, SIDE};

/// What is wrong with a loop; nothing by default.
#[derive(Clone)]
pub struct Loop {
    /// Statistics in training.
    pub pass: fn(seed: u64, step: u64) -> Pass,
    /// The epoch whose views and masks are drawn in an epoch.
    pub epoch_drawn: fn(u64) -> u64,
    /// Two workers that draw the same numbers.
    pub twin_workers: bool,
    pub augmented: bool,
    /// The preparation of training examples, where it is not the data's own.
    pub preparation: Option<Preparation>,
    /// Mixes the inputs of a batch and keeps one label.
    pub mixed: bool,
    pub second_forward: bool,
    pub rate: fn(recipe: &Recipe, step: u64, steps: u64) -> f64,
    pub decay: fn(&Recipe) -> WeightDecay,
    /// Changes the net before training and after it.
    pub build: fn(&mut Model),
    pub after: fn(&mut Model),
    /// A layer's parameters that get no update, by the order of the parameters.
    pub untrained: Option<usize>,
    /// Softmax twice.
    pub softmax_twice: bool,
    /// The weights of this share of the steps are saved.
    pub saved_at: f64,
}

impl Default for Loop {
    fn default() -> Self {
        Self {
            pass: Pass::train,
            epoch_drawn: |epoch| epoch,
            twin_workers: false,
            augmented: true,
            preparation: None,
            mixed: false,
            second_forward: false,
            rate: |recipe, step, steps| {
                recipe.optimizer.learning_rate() * recipe.schedule.factor(step, steps)
            },
            decay: |recipe| WeightDecay {
                decay: recipe.decay.penalty,
                roles: recipe.decay.roles.clone(),
            },
            build: |_| {},
            after: |_| {},
            untrained: None,
            softmax_twice: false,
            saved_at: 1.0,
        }
    }
}

/// How a model is measured; soundly by default.
#[derive(Clone)]
pub struct Evaluation {
    pub pass: fn(draw: u64) -> Pass,
    pub augmented: bool,
    pub preparation: Option<Preparation>,
    /// Whether test figures are those of the training images.
    pub on_training_images: bool,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            pass: |_| Pass::test(),
            augmented: false,
            preparation: None,
            on_training_images: false,
        }
    }
}

/// Trains a recipe soundly into `folder`.
pub fn sound(recipe: &Recipe, folder: &RunFolder) -> Run {
    let stop = AtomicBool::new(false);
    let options = FitOptions {
        workers: 0,
        threads: 1,
        device: Device::flex(),
        device_name: "cpu",
        stop: &stop,
    };
    match fit(recipe, folder, &options, &mut |_| {}) {
        Ok(Outcome::Finished(run)) => *run,
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{error}"),
    }
}

/// Replaces a run's log, weights and results by those of a loop and an evaluation.
pub fn retrain(
    recipe: &Recipe,
    data: &Data,
    folder: &RunFolder,
    of: &Loop,
    evaluation: &Evaluation,
) -> Model {
    let mut run = folder.read_run().expect("the run");
    let (model, lines) = train(recipe, data, &run.preparation, of, None);
    write(
        recipe, data, folder, &mut run, &model, &lines, of, evaluation,
    );
    model
}

/// Trains by the loop from the recipe's start, or from `start`.
pub fn train(
    recipe: &Recipe,
    data: &Data,
    preparation: &Preparation,
    of: &Loop,
    start: Option<Model>,
) -> (Model, Vec<Line>) {
    let device = Device::flex().autodiff();
    let source: Source = recipe.data.source.parse().expect("a source");
    let dataset = Dataset::open(&source).expect("the data");
    let mut model = start.unwrap_or_else(|| {
        let built = recipe
            .model
            .build(&dataset.kind, dataset.classes.len(), &device);
        initialize(built.expect("a net"), recipe.seed)
    });
    (of.build)(&mut model);
    let OptimizerRecipe::Sgd {
        momentum, nesterov, ..
    } = recipe.optimizer
    else {
        panic!("the loop knows SGD")
    };
    let mut optimizer = SgdConfig::new()
        .with_momentum(Some(
            MomentumConfig::new()
                .with_momentum(momentum)
                .with_dampening(0.0)
                .with_nesterov(nesterov),
        ))
        .init();
    let decay = (of.decay)(recipe);
    let operations = if of.augmented {
        &recipe.augment.operations[..]
    } else {
        &[]
    };
    let preparation = of.preparation.as_ref().unwrap_or(preparation);
    let examples = feed(&data.train, operations, preparation, recipe.seed, of);
    let options = LoaderOptions {
        batch_size: recipe.train.batch_size,
        workers: 0,
        prefetch: 0,
        shuffle: Some(recipe.seed),
        drop_last: true,
    };
    let loader = Loader::new(examples, options).expect("a loader");
    let epoch_steps = loader.batches() as u64;
    let steps = epoch_steps * recipe.train.epochs;
    let saved_step = (of.saved_at * steps as f64).round() as u64;
    let mut saved = None;
    let mut lines = Vec::new();
    let mut step = 0;
    for epoch in 0..recipe.train.epochs {
        let (mut sum, mut hits, mut seen) = (0.0, 0, 0);
        for batch in loader.epoch(epoch, 0) {
            let batch = batch.expect("a batch");
            let count = batch.labels.len();
            let x = TensorData::new(batch.features, [count, SIDE * SIDE]);
            let mut x = Tensor::<2>::from_data(x, &device);
            if of.mixed {
                x = x.clone().mul_scalar(0.6) + x.flip([0]).mul_scalar(0.4);
            }
            let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
            let targets = Tensor::<1, Int>::from_data(TensorData::new(labels, [count]), &device);
            let drawn = (of.epoch_drawn)(epoch) * epoch_steps + step % epoch_steps;
            let pass = (of.pass)(recipe.seed, drawn);
            if of.second_forward {
                model.forward(x.clone(), &pass);
            }
            let logits = model.forward(x, &pass);
            let smoothing = recipe.train.label_smoothing;
            let objective = if of.softmax_twice {
                let classes = logits.dims()[1];
                let probabilities = burn::tensor::activation::softmax(logits.clone(), 1);
                soft_cross_entropy(probabilities, targets.clone().one_hot(classes).float())
            } else {
                cross_entropy(logits.clone(), targets.clone(), smoothing)
            };
            let detached = logits.without_autodiff();
            let plain = cross_entropy(detached.clone(), targets.without_autodiff(), 0.0);
            let loss = if smoothing == 0.0 && !of.softmax_twice {
                objective.clone().into_scalar::<f64>()
            } else {
                plain.into_scalar::<f64>()
            };
            let mut gradients = GradientsParams::from_grads(objective.backward(), &model);
            if let Some(index) = of.untrained {
                let ids = ids(&model);
                gradients.remove::<1>(ids[index]);
            }
            let gradients = decay.add_to_gradients(&model, gradients);
            let rate = (of.rate)(recipe, step, steps);
            model = decay.shrink(model, rate);
            model = optimizer.step(rate, model, gradients);
            step += 1;
            if step == saved_step {
                saved = Some(model.valid());
            }
            let predicted = detached.argmax(1).into_data();
            let right = predicted.iter::<i64>().zip(&batch.labels);
            hits += right.filter(|(p, label)| *p == i64::from(**label)).count();
            sum += loss * count as f64;
            seen += count;
            lines.push(Line::Step {
                epoch: epoch + 1,
                step,
                loss,
                learning_rate: rate,
                gradient_norm: None,
            });
        }
        lines.push(Line::Epoch {
            epoch: epoch + 1,
            step,
            train_loss: sum / seen as f64,
            train_accuracy: hits as f64 / seen as f64,
            test_loss: f64::NAN,
            test_accuracy: f64::NAN,
            learning_rate: (of.rate)(recipe, step - 1, steps),
            seconds: 1.0,
            images_per_s: seen as f64,
        });
    }
    let mut model = saved.unwrap_or_else(|| model.valid());
    (of.after)(&mut model);
    (model, lines)
}

fn ids(model: &Model) -> Vec<ParamId> {
    struct Ids(Vec<ParamId>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut ids = Ids(Vec::new());
    model.visit(&mut ids);
    ids.0
}

/// Writes log, weights and results.
#[expect(clippy::too_many_arguments, reason = "all that a run consists of")]
pub fn write(
    recipe: &Recipe,
    data: &Data,
    folder: &RunFolder,
    run: &mut Run,
    model: &Model,
    lines: &[Line],
    of: &Loop,
    evaluation: &Evaluation,
) {
    std::fs::remove_file(folder.metrics()).expect("the log");
    let mut log = MetricsLog::resume(&folder.metrics(), 0).expect("a log");
    for line in lines {
        log.append(line).expect("a line");
    }
    // What is not there tells nothing of the sound run.
    std::fs::remove_dir_all(folder.checkpoint()).ok();
    std::fs::remove_file(folder.evaluation()).ok();
    let bytes = weights::to_safetensors(model).expect("weights");
    std::fs::write(folder.model(), bytes).expect("a file");
    if let Some(preparation) = &of.preparation
        && evaluation.preparation.is_some()
    {
        run.preparation = preparation.clone();
    }
    record(recipe, data, folder, run, model, evaluation);
}

/// Measures a model and writes the results that a run records.
pub fn record(
    recipe: &Recipe,
    data: &Data,
    folder: &RunFolder,
    run: &mut Run,
    model: &Model,
    evaluation: &Evaluation,
) {
    let preparation = evaluation
        .preparation
        .as_ref()
        .unwrap_or(&run.preparation)
        .clone();
    let measure = |images: &Images, evaluation: &Evaluation, preparation: &Preparation| {
        let operations = if evaluation.augmented {
            &recipe.augment.operations[..]
        } else {
            &[]
        };
        let of = Loop::default();
        let examples = feed(images, operations, preparation, recipe.seed + 1, &of);
        evaluate(model, examples, evaluation.pass)
    };
    let test_images = if evaluation.on_training_images {
        &data.train
    } else {
        &data.test
    };
    let (test_loss, test_accuracy) = measure(test_images, evaluation, &preparation);
    // Training images are measured soundly but for what is wrong with the net's mode.
    let on_train = Evaluation {
        augmented: false,
        ..evaluation.clone()
    };
    let (train_loss, train_accuracy) = measure(&data.train, &on_train, &run.preparation.clone());
    let results = run.results.as_mut().expect("results");
    (results.test_loss, results.test_accuracy) = (test_loss, test_accuracy);
    (results.train_loss, results.train_accuracy) = (train_loss, train_accuracy);
    folder.write_run(run).expect("a record");
}

fn evaluate(model: &Model, examples: Arc<dyn Examples>, pass: fn(u64) -> Pass) -> (f64, f64) {
    let options = LoaderOptions {
        batch_size: 100,
        workers: 0,
        prefetch: 0,
        shuffle: None,
        drop_last: false,
    };
    let loader = Loader::new(examples, options).expect("a loader");
    let (mut loss, mut hits, mut count) = (0.0, 0, 0);
    for (index, batch) in (0..).zip(loader.epoch(0, 0)) {
        let batch = batch.expect("a batch");
        let x = TensorData::new(batch.features, [batch.labels.len(), SIDE * SIDE]);
        let logits = model.forward(Tensor::from_data(x, &Device::flex()), &pass(index));
        let classes = logits.dims()[1];
        let predicted = logits.clone().argmax(1).into_data();
        let logarithms = log_softmax(logits, 1).into_data();
        let logarithms: Vec<f64> = logarithms.iter::<f64>().collect();
        for ((row, predicted), label) in logarithms
            .chunks_exact(classes)
            .zip(predicted.iter::<i64>())
            .zip(&batch.labels)
        {
            loss -= row[*label as usize];
            hits += usize::from(predicted == i64::from(*label));
            count += 1;
        }
    }
    (loss / count as f64, hits as f64 / count as f64)
}

/// Images as examples, drawn as the loop says.
fn feed(
    images: &Images,
    operations: &[Operation],
    preparation: &Preparation,
    seed: u64,
    of: &Loop,
) -> Arc<dyn Examples> {
    let pipeline = Pipeline {
        operations: operations.to_vec(),
        normalize: Normalize {
            mean: preparation.mean.clone(),
            std: preparation.deviation.clone(),
        },
        exact: false,
    };
    let count = images.labels.len();
    let parts = if of.twin_workers { 2 } else { 1 };
    let parts = (0..parts).map(|part| {
        let range = part * count / parts..(part + 1) * count / parts;
        let images = Images {
            pixels: images.pixels[range.clone()].to_vec(),
            labels: images.labels[range].to_vec(),
        };
        AugmentedImages::new(InMemory(images), &pipeline, seed).expect("a pipeline")
    });
    Arc::new(Feed {
        parts: parts.collect(),
        epoch_drawn: of.epoch_drawn,
    })
}

/// Parts whose examples are numbered anew in each, as workers do that count their own.
struct Feed {
    parts: Vec<AugmentedImages<InMemory>>,
    epoch_drawn: fn(u64) -> u64,
}

struct FeedWriter<'a> {
    feed: &'a Feed,
    writers: Vec<Box<dyn ExampleWriter + 'a>>,
}

impl Examples for Feed {
    fn len(&self) -> usize {
        self.parts.iter().map(Examples::len).sum()
    }

    fn features(&self) -> usize {
        SIDE * SIDE
    }

    fn writer(&self) -> Box<dyn ExampleWriter + '_> {
        Box::new(FeedWriter {
            feed: self,
            writers: self.parts.iter().map(Examples::writer).collect(),
        })
    }
}

impl ExampleWriter for FeedWriter<'_> {
    fn write(&mut self, sample: Sample, features: &mut [f32]) -> Result<u32, Error> {
        let mut index = sample.index;
        let mut part = 0;
        while index >= self.feed.parts[part].len() {
            index -= self.feed.parts[part].len();
            part += 1;
        }
        let epoch = (self.feed.epoch_drawn)(sample.epoch);
        self.writers[part].write(Sample { epoch, index }, features)
    }
}

struct InMemory(Images);

impl ImageSource for InMemory {
    fn len(&self) -> usize {
        self.0.labels.len()
    }

    fn sizes(&self) -> Sizes {
        Size::new(SIDE, SIDE).into()
    }

    fn channels(&self) -> usize {
        1
    }

    fn read(&self, index: usize, _: Vec<u8>) -> Result<Image, Error> {
        Image::new(SIDE, SIDE, 1, self.0.pixels[index].to_vec())
    }

    fn label(&self, index: usize) -> u32 {
        self.0.labels[index].into()
    }
}

/// Gives every batch norm another configuration, with its parameters as they are.
pub fn configure_norms(model: &mut Model, change: fn(BatchNormConfig) -> BatchNormConfig) {
    let device = Device::flex().autodiff();
    model.visit_norms(&mut |_, norm| {
        if let Norm::Batch(old) = norm {
            let config = BatchNormConfig::new(old.num_features()).with_activation(old.activation());
            let mut new: BatchNorm = change(config).init(&device);
            (new.weight, new.bias) = (old.weight.clone(), old.bias.clone());
            *old = new;
        }
    });
}

/// Slower running averages.
pub fn slow(config: BatchNormConfig) -> BatchNormConfig {
    config.with_average(RunningAverage::Momentum(0.004))
}

/// The biased variance in them.
pub fn biased(config: BatchNormConfig) -> BatchNormConfig {
    config.with_unbiased(false)
}

/// Sets the scaling of the head's dropout.
pub fn scale_dropout(model: &mut Model, scaling: Scaling) {
    match model {
        Model::ConvNet(net) => net.dropout.scaling = scaling,
        Model::ResNet(net) => net.dropout.scaling = scaling,
        Model::Mlp(net) => net
            .blocks
            .iter_mut()
            .for_each(|block| block.dropout.scaling = scaling),
    }
}

/// Gives the norms of `model` the running statistics of `other`.
pub fn take_statistics(model: &mut Model, other: &Model) {
    let mut statistics = Vec::new();
    let device = Device::flex();
    other.clone().visit_norms(&mut |_, norm| {
        if let Norm::Batch(norm) = norm {
            let batches = norm.num_batches_tracked.get(&device);
            statistics.push((
                norm.running_mean.get(&device),
                norm.running_var.get(&device),
                batches,
            ));
        }
    });
    let mut statistics = statistics.into_iter();
    model.visit_norms(&mut |_, norm| {
        if let (Norm::Batch(norm), Some((mean, variance, batches))) = (norm, statistics.next()) {
            norm.running_mean.set(mean);
            norm.running_var.set(variance);
            norm.num_batches_tracked.set(batches);
        }
    });
}

/// Some images of the data as the net sees them at test.
pub fn batch(images: &Images, count: usize, preparation: &Preparation) -> Tensor<2> {
    let (mean, deviation) = (preparation.mean[0], preparation.deviation[0]);
    let pixels = images.pixels.iter().take(count).flatten();
    let values: Vec<f32> = pixels
        .map(|&p| (f32::from(p) / 255.0 - mean) / deviation)
        .collect();
    Tensor::from_data(
        TensorData::new(values, [count, SIDE * SIDE]),
        &Device::flex(),
    )
}

/// Shuffles labels.
pub fn shuffle(labels: &mut [u8], seed: u64) {
    Key::from_seed(seed).child("labels").draws().shuffle(labels);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{CONVNET, clothes};
    use crate::images::Clothes;

    /// What is found in a faulty loop is then the fault, not the loop.
    #[test]
    fn without_a_fault_the_loop_is_the_programs() {
        let place = tempfile::tempdir().unwrap();
        let data = clothes(&Clothes::load(), 5);
        data.write(&place.path().join("images"));
        let settings = [
            format!("data.source=idx:{}", place.path().join("images").display()),
            "train.epochs=2".into(),
            "decay.penalty={kind=\"l2\",strength=0.001}".into(),
        ];
        let recipe = Recipe::parse(CONVNET, "test", &settings).unwrap();
        let folder = RunFolder::new(place.path().join("run"));
        let sound = sound(&recipe, &folder);
        let logged = folder.read_metrics().unwrap();
        let weights = std::fs::read(folder.model()).unwrap();
        retrain(
            &recipe,
            &data,
            &folder,
            &Loop::default(),
            &Evaluation::default(),
        );
        let steps = |lines: Vec<Line>| -> Vec<(u64, f64, f64)> {
            let steps = lines.into_iter().filter_map(|line| match line {
                Line::Step {
                    step,
                    loss,
                    learning_rate,
                    ..
                } => Some((step, loss, learning_rate)),
                Line::Epoch { .. } => None,
            });
            steps.collect()
        };
        assert_eq!(steps(folder.read_metrics().unwrap()), steps(logged));
        assert_eq!(std::fs::read(folder.model()).unwrap(), weights);
        let results = folder.read_run().unwrap().results.unwrap();
        let expected = sound.results.unwrap();
        assert_eq!(results.test_accuracy, expected.test_accuracy);
        assert!((results.test_loss - expected.test_loss).abs() < 1e-6);
    }
}
