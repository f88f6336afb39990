//! What a run records of itself for its report.

use evenkeel_augment::{Image, Operation, Pipeline, Sample, Stream};
use evenkeel_nn::{Role, WeightDecay};
use evenkeel_record::{
    Evaluation, Machine, Mistake, Picture, Preparation, Run, SheetRow, Status, Versions,
};

use crate::data::{Dataset, Images, Kind, Split, unnormalized};
use crate::evaluate::Measured;
use crate::fit::FitOptions;
use crate::model::Model;
use crate::quality::quality;
use crate::recipe::Recipe;
use crate::{Error, provenance};

/// The Burn version that the workspace pins.
const BURN: &str = "0.22.1";
const SHEET_ROWS: usize = 6;
const SHEET_VIEWS: usize = 7;

/// A run before its first step.
pub(crate) fn run(
    recipe: &Recipe,
    data: &Dataset,
    preparation: &Preparation,
    model: &Model,
    decay: &WeightDecay,
    options: &FitOptions<'_>,
) -> Run {
    let account = decay.account(model);
    let trained = account.iter().filter(|entry| entry.role != Role::Buffer);
    Run {
        format: 1,
        status: Status::Running,
        failure: None,
        versions: Versions {
            evenkeel: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
        },
        recipe: recipe.to_toml(),
        data: provenance::summary(data),
        preparation: preparation.clone(),
        machine: Machine::here(options.threads, options.device_name),
        seed: recipe.seed,
        started: Run::now(),
        parameters: trained
            .map(|entry| entry.shape.iter().product::<usize>() as u64)
            .sum(),
        decay: decay.describe(model),
        results: None,
    }
}

/// Confusion, mistakes with their pictures, and a sheet of augmented training images.
pub(crate) fn evaluation(
    data: &Dataset,
    measured: &Measured,
    operations: &[Operation],
    seed: u64,
) -> Result<Evaluation, Error> {
    let mistakes = measured.mistakes.iter().map(|mistake| Mistake {
        picture: shown(&data.test, &data.kind, mistake.index).and_then(|image| picture(&image)),
        index: mistake.index,
        truth: mistake.truth as usize,
        predicted: mistake.predicted as usize,
        confidence: mistake.confidence,
    });
    Ok(Evaluation {
        confusion: measured.confusion.clone(),
        quality: Some(quality(measured)),
        mistakes: mistakes.collect(),
        sheet: sheet(data, operations, seed)?,
    })
}

/// The first images of different classes, as the first epochs see them.
fn sheet(data: &Dataset, operations: &[Operation], seed: u64) -> Result<Vec<SheetRow>, Error> {
    let pipeline = Pipeline {
        operations: operations.to_vec(),
        normalize: unnormalized(),
        exact: false,
    };
    let mut rows = Vec::new();
    let labels = data.train.labels();
    for class in 0..data.classes.len() as u32 {
        let Some(index) = labels.iter().position(|&label| label == class) else {
            continue;
        };
        let (Some(original), Some(whole)) = (
            original(&data.train, &data.kind, index),
            shown(&data.train, &data.kind, index),
        ) else {
            break;
        };
        let views = (0..SHEET_VIEWS as u64).map(|epoch| {
            let stream = Stream::new(seed, Sample { epoch, index });
            // A training without operations sees what the test sees.
            let from = if operations.is_empty() {
                &whole
            } else {
                &original
            };
            let drawn = pipeline.draw_for(class, from.width(), from.height(), stream)?;
            Ok(picture(&Pipeline::replay_as(from, &drawn, pipeline.exact)?))
        });
        let views = views
            .collect::<Result<Vec<_>, Error>>()?
            .into_iter()
            .flatten()
            .collect();
        let Some(original) = picture(&whole) else {
            break;
        };
        rows.push(SheetRow {
            label: class as usize,
            original,
            views,
        });
        if rows.len() == SHEET_ROWS {
            break;
        }
    }
    Ok(rows)
}

/// An image as its source has it; none of a table, nor of a file that can no longer be read.
fn original(split: &Split, kind: &Kind, index: usize) -> Option<Image> {
    match (split, kind) {
        (
            Split::Images(Images { bytes, pixels, .. }),
            &Kind::Images {
                height,
                width,
                channels,
            },
        ) => {
            let pixels = pixels[index * bytes..][..*bytes].to_vec();
            Image::new(width, height, channels, pixels).ok()
        }
        (Split::Files(files), _) => files.read(index).ok(),
        _ => None,
    }
}

/// An image as the net sees it at test.
pub(crate) fn shown(split: &Split, kind: &Kind, index: usize) -> Option<Image> {
    match split {
        Split::Files(files) => files.read_for_test(index).ok(),
        _ => original(split, kind, index),
    }
}

pub(crate) fn picture(image: &Image) -> Option<Picture> {
    let size = |value: usize| u32::try_from(value).ok();
    let (width, height) = (size(image.width())?, size(image.height())?);
    Picture::new(
        width,
        height,
        size(image.channels())?,
        image.pixels().to_vec(),
    )
    .ok()
}
