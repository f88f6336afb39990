//! What holds for every operation: it survives serde and refuses unknown fields, its draws replay to
//! the same picture on images of any shape, its settings are checked, and nothing that a file can
//! hold makes it panic.

use std::sync::Arc;

use evenkeel_augment::{
    AugmentedImages, Batch, Error, Examples, Image, ImageSource, Loader, LoaderOptions, Normalize,
    Operation, Parameters, Pipeline, Sample, Size, Sizes, Stream,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// At least one of every operation.
const EXAMPLES: &str = include_str!("operations.json");

fn examples() -> Vec<Operation> {
    serde_json::from_str(EXAMPLES).unwrap()
}

fn pipeline(operation: Operation) -> Pipeline {
    Pipeline {
        operations: vec![operation],
        normalize: Normalize {
            mean: vec![],
            std: vec![],
        },
        exact: false,
    }
}

fn stream(index: usize) -> Stream {
    Stream::new(3, Sample { epoch: 1, index })
}

/// A picture with some structure; `seed` makes different ones.
fn image(width: usize, height: usize, channels: usize, seed: usize) -> Image {
    let level = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        ((x * 7 + y * 11 + c * 60 + (x * y * (seed % 7)) + seed) % 256) as u8
    };
    let pixels = (0..width * height * channels).map(level).collect();
    Image::new(width, height, channels, pixels).unwrap()
}

fn images() -> impl Strategy<Value = Image> {
    let sides = prop_oneof![
        Just((1, 1)),
        (1..40_usize).prop_map(|side| (side, 1)),
        (1..40_usize).prop_map(|side| (1, side)),
        (1..40_usize, 1..40_usize),
    ];
    (sides, 1..5_usize, any::<u16>()).prop_map(|((width, height), channels, seed)| {
        image(width, height, channels, usize::from(seed))
    })
}

#[test]
fn every_operation_is_among_the_examples_under_its_name() {
    let values: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    for (operation, value) in examples().iter().zip(&values) {
        assert_eq!(value["op"], operation.name());
    }
    for name in Operation::NAMES {
        let found = values.iter().any(|value| value["op"] == *name);
        assert!(found, "no example of {name}");
    }
}

#[test]
fn operations_survive_serde_and_refuse_unknown_fields() {
    for operation in examples() {
        let text = serde_json::to_string(&operation).unwrap();
        assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), operation);
        let extra = text.replacen('{', "{\"extra\":1,", 1);
        let error = serde_json::from_str::<Operation>(&extra).unwrap_err();
        assert!(error.to_string().contains("extra"), "{extra}: {error}");

        // The form of recipes.
        let pipeline = pipeline(operation);
        let text = toml::to_string(&pipeline).unwrap();
        assert_eq!(toml::from_str::<Pipeline>(&text).unwrap(), pipeline);
    }
}

#[test]
fn drawn_parameters_refuse_unknown_fields() {
    for operation in examples() {
        let name = operation.name();
        for parameters in pipeline(operation).draw(20, 20, stream(0)).unwrap() {
            assert_eq!(parameters.name(), name);
            let text = serde_json::to_string(&parameters).unwrap();
            let extra = text.replacen('{', "{\"extra\":1,", 1);
            let error = serde_json::from_str::<Parameters>(&extra).unwrap_err();
            assert!(error.to_string().contains("extra"), "{extra}: {error}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refusals: Vec<(Value, String)> =
        serde_json::from_str(include_str!("refusals.json")).unwrap();
    let mut refused: Vec<String> = Vec::new();
    for (operation, problem) in refusals {
        let name = operation["op"].as_str().unwrap().to_owned();
        let operation: Operation = serde_json::from_value(operation.clone())
            .unwrap_or_else(|error| panic!("{operation}: {error}"));
        let error = pipeline(operation.clone()).output_sizes(20, 20);
        let error = error.expect_err(&format!("{operation:?}")).to_string();
        let expected = format!("step 0 ({name}): {problem}");
        assert!(error.starts_with(&expected), "{error}\nexpected {expected}");
        let stream = stream(0);
        assert!(pipeline(operation.clone()).draw(20, 20, stream).is_err());
        let image = image(20, 20, 3, 0);
        assert!(pipeline(operation).augment(&image, stream).is_err());
        refused.push(name);
    }
    // Whatever has settings has limits.
    for operation in examples() {
        let settings = serde_json::to_value(&operation).unwrap();
        let bare = settings.as_object().unwrap().len() == 1;
        let found = refused.iter().any(|name| name == operation.name());
        assert!(bare || found, "nothing of {} is refused", operation.name());
    }
}

#[test]
fn parameters_of_nothing_leave_every_image_as_it_is() {
    let identities: Vec<Parameters> =
        serde_json::from_str(include_str!("identities.json")).unwrap();
    for parameters in identities {
        for (width, height) in [(1, 1), (1, 9), (12, 1), (7, 10), (16, 16)] {
            for channels in 1..=4 {
                let image = image(width, height, channels, 5);
                let found = Pipeline::replay(&image, std::slice::from_ref(&parameters));
                assert_eq!(found.unwrap(), image, "{parameters:?}");
            }
        }
    }
}

#[test]
fn what_keeps_size_and_place_leaves_every_image_as_it_is() {
    for (width, height) in [(1, 1), (1, 9), (12, 1), (7, 10), (16, 16)] {
        let window = json!({"left": 0, "top": 0, "width": width, "height": height});
        let size = json!({"width": width, "height": height});
        let with = |fields: &Value, more: Value| {
            serde_json::from_value::<Parameters>(more.merged(fields)).unwrap()
        };
        let (right, bottom) = (width - 1, height - 1);
        let mut identities = vec![
            with(&window, json!({"op": "random_crop", "mode": "edge"})),
            with(&window, json!({"op": "center_crop", "mode": "edge"})),
            with(&window, json!({"op": "pad", "mode": "edge"})),
            with(
                &json!({"corners": [[0, 0], [right, 0], [right, bottom], [0, bottom]]}),
                json!({"op": "perspective", "interpolation": "bilinear", "fill": 9}),
            ),
        ];
        for filter in ["nearest", "bilinear", "bicubic", "lanczos"] {
            for antialias in [false, true] {
                let how = json!({"filter": filter, "antialias": antialias});
                let resize = with(&size, json!({"op": "resize"}).merged(&how));
                let to =
                    json!({"op": "random_resized_crop", "to_width": width, "to_height": height});
                let crop = with(&window, to.merged(&how));
                identities.extend([resize, crop]);
            }
        }
        for parameters in identities {
            for channels in 1..=4 {
                let image = image(width, height, channels, 5);
                let found = Pipeline::replay(&image, std::slice::from_ref(&parameters));
                assert_eq!(found.unwrap(), image, "{parameters:?}");
            }
        }
    }
}

trait Merged {
    fn merged(self, more: &Value) -> Value;
}

impl Merged for Value {
    fn merged(mut self, more: &Value) -> Value {
        let fields = more.as_object().unwrap().clone();
        self.as_object_mut().unwrap().extend(fields);
        self
    }
}

/// Some pictures of 20×14.
struct Pictures;

impl ImageSource for Pictures {
    fn len(&self) -> usize {
        30
    }

    fn sizes(&self) -> Sizes {
        Size::new(20, 14).into()
    }

    fn channels(&self) -> usize {
        3
    }

    fn read(&self, index: usize, _: Vec<u8>) -> Result<Image, Error> {
        Ok(image(20, 14, 3, index))
    }

    fn label(&self, index: usize) -> u32 {
        index as u32
    }
}

#[test]
fn batches_hold_the_pictures_of_every_operation_for_any_number_of_workers() {
    for (operation, exact) in examples()
        .into_iter()
        .flat_map(|o| [(o.clone(), false), (o, true)])
    {
        let normalize = Normalize {
            mean: vec![0.0; 3],
            std: vec![1.0 / 255.0; 3],
        };
        let crop = json!({"op": "random_crop", "height": 2, "width": 2, "padding": 1});
        let pipeline = Pipeline {
            operations: vec![operation, serde_json::from_value(crop).unwrap()],
            normalize,
            exact,
        };
        let batches = |workers| -> Vec<Batch> {
            let examples = AugmentedImages::new(Pictures, &pipeline, 8).unwrap();
            let options = LoaderOptions {
                batch_size: 4,
                workers,
                prefetch: 3,
                shuffle: Some(1),
                drop_last: false,
            };
            let loader = Loader::new(Arc::new(examples), options).unwrap();
            loader.epoch(2, 0).map(Result::unwrap).collect()
        };
        let found = batches(0);
        assert_eq!(found, batches(3));
        for batch in found {
            for (&index, features) in batch.samples.iter().zip(batch.features.chunks(12)) {
                let sample = Sample { epoch: 2, index };
                let original = image(20, 14, 3, index);
                let stream = Stream::new(8, sample);
                let drawn = pipeline.draw_for(index as u32, 20, 14, stream).unwrap();
                let picture = Pipeline::replay_as(&original, &drawn, exact).unwrap();
                for (i, number) in features.iter().enumerate() {
                    let level = picture.pixel(i % 2, i / 2 % 2)[i / 4];
                    assert!((number - f32::from(level)).abs() < 1e-3);
                }
            }
        }
    }
}

#[test]
fn what_is_fixed_draws_the_same_always() {
    let (mut fixed, mut random) = (0, 0);
    for operation in examples() {
        let pipeline = pipeline(operation);
        let draw = |index| pipeline.draw(20, 20, stream(index)).unwrap();
        let same = (1..200).all(|index| draw(index) == draw(0));
        if pipeline.operations[0].is_fixed() {
            assert!(same, "{:?}", pipeline.operations);
            fixed += 1;
        } else {
            random += usize::from(!same);
        }
    }
    assert!(fixed >= 7 && random > 20, "{fixed}, {random}");
}

#[test]
fn the_longest_images_are_changed_or_refused() {
    let mut changed = 0;
    for operation in examples() {
        let pipeline = pipeline(operation);
        for (width, height) in [(65_535, 1), (1, 65_535)] {
            if pipeline.output_sizes(width, height).is_ok() {
                let image = image(width, height, 1, 2);
                pipeline.augment(&image, stream(0)).unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed > examples().len());
}

/// Numbers to six digits, which no library of mathematics disputes.
fn rounded(value: &mut Value) {
    for number in numbers(value) {
        if let Some(float) = number.as_f64().filter(|_| number.is_f64()) {
            let text = format!("{float:.6e}");
            *number = Value::from(text.parse::<f64>().unwrap());
        }
    }
}

/// Pins the randomness: a change here changes every augmented batch.
#[test]
fn draws_are_pinned() {
    let lines = examples().into_iter().map(|operation| {
        let drawn = pipeline(operation).draw(20, 20, stream(4)).unwrap();
        let mut value = serde_json::to_value(&drawn[0]).unwrap();
        rounded(&mut value);
        value.to_string() + "\n"
    });
    let found: String = lines.collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pinned-draws.jsonl");
    if std::env::var_os("EVENKEEL_WRITE_PINNED_DRAWS").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), found);
}

/// Every number in a value.
fn numbers(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Number(_) => vec![value],
        Value::Array(values) => values.iter_mut().flat_map(numbers).collect(),
        Value::Object(fields) => fields.values_mut().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

/// Numbers that nobody expects.
fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            0.0, -0.0, -1.0, 0.5, 1e-300, 1e300, -1e300, 1e9, -1e9, 254.9
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![0, 1, -1, 2, 3, 7, 256, 70_000, i64::MAX, i64::MIN])
            .prop_map(Value::from),
        (-50..50_i64).prop_map(Value::from),
        (-2.0..2.0_f64).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn draws_replay_to_the_same_picture_of_a_promised_size(
        which in any::<prop::sample::Index>(),
        image in images(),
        index in 0..1000_usize,
    ) {
        let examples = examples();
        let pipeline = pipeline(which.get(&examples).clone());
        let (width, height) = (image.width(), image.height());
        let Ok(sizes) = pipeline.output_sizes(width, height) else {
            return Ok(()); // does not fit
        };
        let parameters = pipeline.draw(width, height, stream(index)).unwrap();
        let text = serde_json::to_string(&parameters).unwrap();
        let recorded: Vec<Parameters> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&recorded, &parameters);
        let picture = Pipeline::replay(&image, &recorded).unwrap();
        let folded = Pipeline::replay_as(&image, &recorded, false).unwrap();
        prop_assert_eq!(&folded, &pipeline.augment(&image, stream(index)).unwrap());
        let exact = Pipeline { exact: true, ..pipeline };
        prop_assert_eq!(&picture, &exact.augment(&image, stream(index)).unwrap());
        prop_assert_eq!(picture.channels(), image.channels());
        prop_assert!((sizes.least.width..=sizes.most.width).contains(&picture.width()));
        prop_assert!((sizes.least.height..=sizes.most.height).contains(&picture.height()));
    }

    /// Whatever is folded: what a loader makes of an exact pipeline is what its steps make one by one.
    #[test]
    fn exact_pipelines_are_their_steps(
        which in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        index in 0..30_usize,
        epoch in 0..100_u64,
    ) {
        let examples = examples();
        let mut operations = Vec::new();
        let last = json!({"op": "resize", "to": {"size": {"width": 9, "height": 7}}});
        let last: Operation = serde_json::from_value(last).unwrap();
        let of = |operations: &[Operation]| Pipeline {
            operations: operations.to_vec(),
            normalize: Normalize {
                mean: vec![0.0; 3],
                std: vec![1.0 / 255.0; 3],
            },
            exact: true,
        };
        for which in which {
            operations.push(which.get(&examples).clone());
            if of(&operations).output_sizes(20, 14).is_err() {
                operations.pop(); // does not fit
            }
        }
        operations.push(last);
        let pipeline = of(&operations);
        let examples = AugmentedImages::new(Pictures, &pipeline, 8).unwrap();
        let sample = Sample { epoch, index };
        let mut numbers = vec![0.0; examples.features()];
        examples.writer().write(sample, &mut numbers).unwrap();
        let original = image(20, 14, 3, index);
        let drawn = pipeline.draw_for(index as u32, 20, 14, Stream::new(8, sample)).unwrap();
        let picture = Pipeline::replay(&original, &drawn).unwrap();
        for (i, number) in numbers.iter().enumerate() {
            let level = picture.pixel(i % 9, i / 9 % 7)[i / 63];
            prop_assert!((number - f32::from(level)).abs() < 1e-3, "{:?}", operations);
        }
    }

    #[test]
    fn no_parameters_of_a_file_make_a_panic(
        which in any::<prop::sample::Index>(),
        image in images(),
        index in 0..1000_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), strange()), 1..4),
    ) {
        let examples = examples();
        let drawn = pipeline(which.get(&examples).clone()).draw(20, 20, stream(index)).unwrap();
        let mut value = serde_json::to_value(drawn).unwrap();
        for (place, strange) in changes {
            let mut numbers = numbers(&mut value);
            if !numbers.is_empty() {
                let place = place.index(numbers.len());
                *numbers[place] = strange;
            }
        }
        if let Ok(parameters) = serde_json::from_value::<Vec<Parameters>>(value) {
            // A picture or an error, both are answers.
            let _ = Pipeline::replay(&image, &parameters);
        }
    }

    #[test]
    fn no_settings_of_a_file_make_a_panic(
        which in any::<prop::sample::Index>(),
        image in images(),
        index in 0..1000_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), strange()), 1..4),
    ) {
        let examples = examples();
        let mut value = serde_json::to_value(which.get(&examples)).unwrap();
        for (place, strange) in changes {
            let mut numbers = numbers(&mut value);
            if !numbers.is_empty() {
                let place = place.index(numbers.len());
                *numbers[place] = strange;
            }
        }
        let Ok(operation) = serde_json::from_value::<Operation>(value) else {
            return Ok(());
        };
        let pipeline = pipeline(operation);
        if pipeline.output_sizes(image.width(), image.height()).is_ok() {
            // What is accepted works.
            pipeline.augment(&image, stream(index)).unwrap();
        }
    }
}
