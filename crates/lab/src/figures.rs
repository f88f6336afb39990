//! What a run records of itself for its report.

use evenkeel_augment::{Image, Normalize, Operation, Pipeline, Sample, Stream};
use evenkeel_nn::{Role, WeightDecay};
use evenkeel_record::{
    Evaluation, Machine, Mistake, Picture, Preparation, Run, SheetRow, Status, Versions,
};

use crate::data::{Dataset, Images, Kind, Split};
use crate::evaluate::Measured;
use crate::fit::FitOptions;
use crate::model::Model;
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
        picture: image(&data.test, &data.kind, mistake.index).and_then(|image| picture(&image)),
        index: mistake.index,
        truth: mistake.truth as usize,
        predicted: mistake.predicted as usize,
        confidence: mistake.confidence,
    });
    Ok(Evaluation {
        confusion: measured.confusion.clone(),
        mistakes: mistakes.collect(),
        sheet: sheet(data, operations, seed)?,
    })
}

/// The first images of different classes, as the first epochs see them.
fn sheet(data: &Dataset, operations: &[Operation], seed: u64) -> Result<Vec<SheetRow>, Error> {
    // The pictures are shown before the conversion to numbers, which this one stands for.
    let normalize = Normalize {
        mean: Vec::new(),
        std: Vec::new(),
    };
    let pipeline = Pipeline {
        operations: operations.to_vec(),
        normalize,
    };
    let mut rows = Vec::new();
    let labels = data.train.labels();
    for class in 0..data.classes.len() as u32 {
        let Some(index) = labels.iter().position(|&label| label == class) else {
            continue;
        };
        let Some(original) = image(&data.train, &data.kind, index) else {
            break;
        };
        let views = (0..SHEET_VIEWS as u64).map(|epoch| {
            let stream = Stream::new(seed, Sample { epoch, index });
            Ok(picture(&pipeline.augment(&original, stream)?))
        });
        let views = views
            .collect::<Result<Vec<_>, Error>>()?
            .into_iter()
            .flatten()
            .collect();
        let Some(original) = picture(&original) else {
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

fn image(split: &Split, kind: &Kind, index: usize) -> Option<Image> {
    let (
        Split::Images(Images { bytes, pixels, .. }),
        &Kind::Images {
            height,
            width,
            channels,
        },
    ) = (split, kind)
    else {
        return None;
    };
    Image::new(
        width,
        height,
        channels,
        pixels[index * bytes..][..*bytes].to_vec(),
    )
    .ok()
}

fn picture(image: &Image) -> Option<Picture> {
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
