use evenkeel_augment::Image;
use evenkeel_nn::{NormKind, initialize};
use evenkeel_record::{DataSummary, Machine, Preparation, Run, Status, Versions};

use super::*;
use crate::Recipe;
use crate::data::{Images, unnormalized};
use crate::evaluate::Evaluator;
use crate::model::ModelRecipe;

const SIZE: [usize; 2] = [8, 10];
const EXAMPLES: usize = 7;

fn kind([height, width]: [usize; 2]) -> Kind {
    Kind::Images {
        height,
        width,
        channels: 1,
    }
}

fn preparation() -> Preparation {
    Preparation {
        mean: vec![0.4],
        deviation: vec![0.3],
    }
}

fn image(example: usize) -> Image {
    let [height, width] = SIZE;
    let pixels = (0..height * width).map(|i| ((i * 73 + example * 31) % 251) as u8);
    Image::new(width, height, 1, pixels.collect()).unwrap()
}

/// Images of one size as a split.
fn split(images: &[Image]) -> Split {
    Split::Images(Images {
        bytes: images[0].pixels().len(),
        pixels: images
            .iter()
            .flat_map(|image| image.pixels().to_vec())
            .collect(),
        labels: (0..images.len() as u32).map(|i| i % 3).collect(),
    })
}

fn convnet(dropout: f64) -> ModelRecipe {
    ModelRecipe::Convnet {
        widths: vec![5, 6],
        pool_after: vec![0],
        norm: NormKind::Batch,
        dropout,
        activation: Default::default(),
        dense: 0,
        drop_connect: 0.0,
    }
}

/// A run that was never trained: its model is at its random start.
fn run(model: ModelRecipe) -> OpenRun {
    let device = Device::flex();
    let images: Vec<Image> = (0..EXAMPLES).map(image).collect();
    let mut recipe = Recipe::parse(crate::recipes::BUILT_IN[0].text, "default", &[]).unwrap();
    recipe.model = model;
    let built = recipe.model.build(&kind(SIZE), 3, &device).unwrap();
    OpenRun {
        run: Run {
            format: 1,
            status: Status::Finished,
            failure: None,
            versions: Versions {
                evenkeel: String::new(),
                burn: String::new(),
            },
            recipe: String::new(),
            data: DataSummary {
                source: String::new(),
                classes: ["a", "b", "c"].map(String::from).to_vec(),
                train_examples: 0,
                test_examples: EXAMPLES,
                held_out: false,
                shape: kind(SIZE).shape(),
                columns: Vec::new(),
                train_checksum: None,
                test_checksum: None,
                unreadable: Vec::new(),
            },
            preparation: preparation(),
            machine: Machine::default(),
            seed: 0,
            started: String::new(),
            parameters: 0,
            decay: Vec::new(),
            results: None,
        },
        recipe,
        model: initialize(built, 1),
        test: split(&images),
        kind: kind(SIZE),
        device,
    }
}

fn average(run: &OpenRun, options: &AverageOptions) -> Average {
    let recipe = &run.recipe.model;
    // Masks need no training data.
    let nowhere = RunFolder::new("no such run");
    let draws = Draws::of(&run.model, recipe, &nowhere, options, 0, &run.device).unwrap();
    Averager::new(run, options, 0)
        .and_then(|averager| averager.average(&draws))
        .unwrap()
}

fn options(views: &str, draws: u64) -> AverageOptions {
    AverageOptions {
        views: views.parse().unwrap(),
        draws,
        noise: Noise::Masks,
        ..AverageOptions::default()
    }
}

fn refused(run: &OpenRun, options: &AverageOptions) -> String {
    Averager::new(run, options, 0).err().unwrap().to_string()
}

/// A file of views.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// The probabilities of these pictures, of any one size, by the run's model.
fn probabilities(run: &OpenRun, pictures: &[Image]) -> Vec<f64> {
    let size = [pictures[0].height(), pictures[0].width()];
    let (preparation, device) = (preparation(), Device::flex());
    let model = run.recipe.model.build(&kind(size), 3, &device).unwrap();
    let model = initialize(model, 1);
    Evaluator::new(&split(pictures), &kind(size), 3, &preparation, 0, &device)
        .and_then(|evaluator| evaluator.probabilities(&model))
        .unwrap()
        .0
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
    }
}

/// Each view made of each image by itself, measured by itself, then averaged.
fn by_hand(run: &OpenRun, views: &evenkeel_augment::Views) -> Vec<f64> {
    let [height, width] = SIZE;
    let views = views.of(Size::new(width, height)).unwrap();
    let mut mean = vec![0.0; 3 * EXAMPLES];
    for view in &views {
        let pictures: Vec<Image> = (0..EXAMPLES).map(|i| view.of(&image(i)).unwrap()).collect();
        for (mean, p) in mean.iter_mut().zip(probabilities(run, &pictures)) {
            *mean += view.weight * p;
        }
    }
    mean
}

#[test]
fn views_are_averaged() {
    use evenkeel_augment::Views;
    let run = run(convnet(0.0));
    let flips = average(&run, &options("flip", 0));
    assert_near(&flips.measured.probabilities, &by_hand(&run, &Views::Flips));
    let whole: Vec<Image> = (0..EXAMPLES).map(image).collect();
    let plain = probabilities(&run, &whole);
    let change = flips.measured.probabilities.iter().zip(&plain);
    assert!(change.into_iter().any(|(a, b)| (a - b).abs() > 1e-4));
    assert_eq!(flips.curve.len(), 2);

    let (_folder, path) = file("views = { ten_crop = { height = 6, width = 7 } }");
    let crops = Views::TenCrop {
        height: 6,
        width: 7,
    };
    let found = average(&run, &options(&path, 0));
    assert_near(&found.measured.probabilities, &by_hand(&run, &crops));
    assert_eq!((found.different, found.curve.len()), (10, 10));

    // As large as the image: five crops coincide, twice.
    let (_folder, path) = file("views = { ten_crop = { height = 8, width = 10 } }");
    let options = options(&path, 0);
    let found = average(&run, &options);
    assert_near(&found.measured.probabilities, &flips.measured.probabilities);
    assert_eq!(found.curve, flips.curve);
    let told = Averager::new(&run, &options, 0)
        .unwrap()
        .told(found.different);
    assert!(told[1].contains("only 2 of the 10 differ"), "{told:?}");
}

#[test]
fn larger_images_are_evaluated_at_once() {
    let resnet = ModelRecipe::Resnet18 {
        width: 4,
        stem: crate::model::Stem::Small,
        norm: NormKind::Batch,
        dropout: 0.0,
    };
    for model in [convnet(0.0), resnet] {
        evaluated_at_once(&run(model));
    }
}

fn evaluated_at_once(run: &OpenRun) {
    let found = average(run, &options("dense", 0));
    let groups = TestViews::Dense.groups(&kind(SIZE), &[]).unwrap();
    let mut mean = vec![0.0; 3 * EXAMPLES];
    for group in groups {
        let pipeline = evenkeel_augment::Pipeline {
            operations: group.before,
            normalize: unnormalized(),
            exact: false,
        };
        let stream =
            evenkeel_augment::Stream::new(0, evenkeel_augment::Sample { epoch: 0, index: 0 });
        let pictures: Vec<Image> = (0..EXAMPLES)
            .map(|i| pipeline.augment(&image(i), stream).unwrap())
            .collect();
        for (mean, p) in mean.iter_mut().zip(probabilities(run, &pictures)) {
            *mean += p / 3.0;
        }
    }
    assert_near(&found.measured.probabilities, &mean);
}

#[test]
fn logits_average_to_geometric_means() {
    let run = run(convnet(0.0));
    let [first, second] = [
        (0..EXAMPLES).map(image).collect::<Vec<_>>(),
        (0..EXAMPLES)
            .map(|i| {
                let size = Size::new(SIZE[1], SIZE[0]);
                let views = evenkeel_augment::Views::Flips.of(size).unwrap();
                views[1].of(&image(i)).unwrap()
            })
            .collect(),
    ]
    .map(|pictures| probabilities(&run, &pictures));
    let mut expected = Vec::new();
    for (a, b) in first.chunks(3).zip(second.chunks(3)) {
        let roots: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a * b).sqrt()).collect();
        let sum: f64 = roots.iter().sum();
        expected.extend(roots.iter().map(|root| root / sum));
    }
    let found = average(
        &run,
        &AverageOptions {
            average: AverageOf::Logits,
            ..options("flip", 0)
        },
    );
    assert_near(&found.measured.probabilities, &expected);
}

#[test]
fn draws_are_those_of_monte_carlo_and_disagree() {
    use evenkeel_nn::monte_carlo_predictive;
    let run = run(convnet(0.4));
    let draws = 6;
    let found = average(
        &run,
        &AverageOptions {
            seed: 3,
            ..options("none", draws)
        },
    );
    let whole: Vec<Image> = (0..EXAMPLES).map(image).collect();
    let evaluator = Evaluator::new(
        &split(&whole),
        &kind(SIZE),
        3,
        &preparation(),
        0,
        &run.device,
    )
    .unwrap();
    let mut expected = Vec::new();
    let mut information = Vec::new();
    evaluator
        .batches(|x| {
            let predictive = monte_carlo_predictive(draws, 3, |pass| {
                let pass = pass.scope("batch0").scope("view0.0");
                run.model.forward(x.clone(), &pass)
            });
            expected.extend(numbers(predictive.probabilities));
            information.extend(predictive.mutual_information.into_data().iter::<f64>());
        })
        .unwrap();
    assert_near(&found.measured.probabilities, &expected);
    let mean_of = |wanted: bool| {
        let some = right(&found.measured).zip(&information);
        let some: Vec<f64> = some
            .filter(|(right, _)| *right == wanted)
            .map(|(_, value)| *value)
            .collect();
        some.iter().sum::<f64>() / some.len() as f64
    };
    assert!((found.disagreement.right.value - mean_of(true)).abs() < 1e-5);
    assert!((found.disagreement.wrong.value - mean_of(false)).abs() < 1e-5);
    assert!(found.disagreement.wrong.value > 1e-4);
    // Another seed draws other masks.
    let other = average(&run, &options("none", draws));
    assert_ne!(other.measured.probabilities, found.measured.probabilities);
    // Views have masks of their own.
    let both = average(&run, &options("flip", draws));
    assert_eq!(both.curve.last().unwrap().forwards, 2 * draws);
}

/// The test images by the net in training mode on one batch with them, but for what the batch's own examples do: its
/// statistics are those of the batch, not the running ones.
#[test]
fn a_draw_of_batches_has_the_statistics_of_one_training_batch() {
    let run = run(convnet(0.0));
    let batch = |number: usize| {
        let images = (0..8).map(|i| image(20 + 8 * number + i));
        let pixels = images.flat_map(|image| image.pixels().to_vec());
        // The second is darker.
        let levels = pixels.map(|level| f32::from(level) / (1 + number) as f32);
        let x: Vec<f32> = levels.map(|level| (level / 255.0 - 0.4) / 0.3).collect();
        Tensor::<2>::from_data(TensorData::new(x, [8, SIZE[0] * SIZE[1]]), &run.device)
    };
    let options = AverageOptions {
        noise: Noise::Batches,
        ..options("none", 2)
    };
    let batches = [0, 1].map(|number| Ok(batch(number)));
    let drawn = Draws::new(&run.model, 0, 2, false);
    let drawn = drawn.with_batches(&run.model, batches.into_iter()).unwrap();
    let averager = Averager::new(&run, &options, 0).unwrap();
    let found = averager.average(&drawn).unwrap();
    let whole: Vec<Image> = (0..EXAMPLES).map(image).collect();
    let evaluator = Evaluator::new(
        &split(&whole),
        &kind(SIZE),
        3,
        &preparation(),
        0,
        &run.device,
    )
    .unwrap();
    let mut mean = vec![0.0; 3 * EXAMPLES];
    for number in 0..2 {
        // An average with momentum 1 would be the last batch alone: what pooling one batch gives.
        let net = run.model.clone();
        net.forward(batch(number), &Pass::recalibrate());
        // In training mode a net computes from the batch what it now has in store, but for n / (n − 1) of the
        // variance.
        let [trained, stored] = [Pass::train(0, 0), Pass::test()]
            .map(|pass| numbers(run.model.clone().forward(batch(number), &pass)));
        let again = numbers(net.forward(batch(number), &Pass::test()));
        let far = |a: &[f64], b: &[f64]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max)
        };
        assert!(far(&again, &trained) < 0.05 * far(&stored, &trained));
        for (mean, p) in mean
            .iter_mut()
            .zip(evaluator.probabilities(&net).unwrap().0)
        {
            *mean += p / 2.0;
        }
    }
    assert_near(&found.measured.probabilities, &mean);
    assert!(found.disagreement.wrong.value > 1e-5);
}

#[test]
fn the_curve_ends_at_the_average() {
    let run = run(convnet(0.4));
    for (views, draws) in [("none", 40), ("multi-scale", 0), ("flip", 3)] {
        let found = average(&run, &options(views, draws));
        let last = found.curve.last().unwrap();
        assert_eq!(last.accuracy, found.measured.accuracy, "{views} {draws}");
    }
    assert_eq!(points(1), [1]);
    assert_eq!(points(3), [1, 2, 3]);
    assert_eq!(points(30)[18..], [19, 20, 24, 28, 30]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dense = ModelRecipe::Mlp {
        hidden: vec![4],
        norm: NormKind::None,
        dropout: 0.0,
        activation: Default::default(),
        drop_connect: 0.0,
    };
    let dense = run(dense);
    average(&dense, &options("flip", 0));
    let told = refused(&dense, &options("dense", 0));
    assert!(told.contains("a dense net takes no other size"), "{told}");
    for (noise, expected) in [
        (
            Noise::All,
            "drop_connect are 0, model.norm is no batch norm",
        ),
        (Noise::Masks, "draws no masks"),
        (Noise::Batches, "has no batch norms"),
    ] {
        let options = AverageOptions {
            noise,
            ..options("none", 5)
        };
        let told = refused(&dense, &options);
        assert!(told.contains(expected), "{told}");
    }
    let convolutional = run(convnet(0.1));
    let told = refused(&convolutional, &options("none", 1_000_000));
    assert!(told.contains("at most 10000 draws"), "{told}");
    let (_folder, path) = file("views = { ten_crop = { height = 9, width = 7 } }");
    let told = refused(&convolutional, &options(&path, 0));
    assert!(told.contains("height") && told.contains('9'), "{told}");
    // Two pools leave nothing of one row.
    let (_folder, path) = file("views = { ten_crop = { height = 1, width = 7 } }");
    let told = refused(&convolutional, &options(&path, 0));
    assert!(
        told.contains("views of 7×1") && told.contains("leave nothing"),
        "{told}"
    );
}
