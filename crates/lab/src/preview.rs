//! What a pipeline makes of a source's images, as a contact sheet.

use std::fs;
use std::path::Path;

use evenkeel_augment::{
    BUILT_IN_PIPELINES, Pipeline, Sample, SheetRow, SheetView, Stream, sheet, to_png,
};

use crate::data::{Originals, Source};
use crate::{Error, RecipeError};

/// How much a sheet shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviewOptions {
    /// Images, a row each.
    pub samples: usize,
    /// Augmented views of each: those of the first epochs of a training.
    pub views: usize,
    /// The root of all randomness: which images, and what is drawn.
    pub seed: u64,
}

/// A contact sheet as PNG: training images, chosen by the seed, beside their views, with what was drawn.
///
/// # Errors
/// If the source cannot be read or is a table, or the pipeline does not fit an image: names it.
pub fn preview(
    source: &Source,
    pipeline: &Pipeline,
    options: PreviewOptions,
) -> Result<Vec<u8>, Error> {
    let PreviewOptions {
        samples,
        views,
        seed,
    } = options;
    let mut rows = Vec::new();
    let originals = Originals::open(source)?;
    let pipeline = with_classes(pipeline, &originals)?;
    for original in originals.choose(samples, seed)? {
        let index = original.index;
        let view = |epoch| {
            let stream = Stream::new(seed, Sample { epoch, index });
            SheetView::new(&pipeline, &original.image, original.label, stream)
        };
        let views = (0..views as u64).map(view).collect::<Result<_, _>>();
        let views =
            views.map_err(|error| Error::Unfit(format!("image {}: {error}", original.name)))?;
        rows.push(SheetRow {
            title: vec![original.class, original.name],
            original: original.image,
            views,
        });
    }
    Ok(to_png(&sheet(&rows)?)?)
}

/// A pipeline whose classes are those of a source.
pub(crate) fn with_classes(pipeline: &Pipeline, originals: &Originals) -> Result<Pipeline, Error> {
    let named = pipeline.with_classes(originals.classes());
    named.map_err(|error| Error::Unfit(error.to_string()))
}

const MOST_BYTES: u64 = 1 << 20;

/// A built-in pipeline by its name, or a file's: TOML, or JSON where its name ends so.
///
/// # Errors
/// If there is no such pipeline, or the file is none: names the line and the field.
pub fn read_pipeline(name: &str) -> Result<Pipeline, RecipeError> {
    if let Some(built_in) = BUILT_IN_PIPELINES
        .iter()
        .find(|pipeline| pipeline.name == name)
    {
        return parse(built_in.text, name);
    }
    let wrong = |problem: String| {
        let names = BUILT_IN_PIPELINES.map(|pipeline| pipeline.name).join(", ");
        let place = format!("pipeline {name}");
        RecipeError::new(
            place,
            format!("{problem}. Expected a TOML or JSON file, or one of {names}"),
        )
    };
    let size = fs::metadata(name)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MOST_BYTES {
        return Err(wrong(format!("{size} bytes are too many for a pipeline")));
    }
    let text = fs::read_to_string(name).map_err(|error| wrong(error.to_string()))?;
    parse(&text, name)
}

fn parse(text: &str, name: &str) -> Result<Pipeline, RecipeError> {
    let is_json = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "json");
    let pipeline = match is_json {
        true => serde_json::from_str(text).map_err(|error| error.to_string()),
        false => toml::from_str(text).map_err(|error| error.to_string()),
    };
    pipeline.map_err(|problem| RecipeError::new(format!("pipeline {name}"), problem.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sheet() {
        let pipeline = read_pipeline("standard-28").unwrap();
        let sheet = |seed| {
            let options = PreviewOptions {
                samples: 2,
                views: 3,
                seed,
            };
            preview(&Source::FashionMnist10k, &pipeline, options).unwrap()
        };
        assert!(sheet(1).starts_with(b"\x89PNG"));
        assert_eq!(sheet(1), sheet(1));
        assert_ne!(sheet(1), sheet(2));
        let pipeline = read_pipeline("standard-224").unwrap();
        let options = PreviewOptions {
            samples: 0,
            views: 3,
            seed: 0,
        };
        let error = preview(&Source::FashionMnist10k, &pipeline, options).unwrap_err();
        assert!(error.to_string().contains("found none"), "{error}");
    }

    #[test]
    fn pipelines_are_read_by_name_and_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = read_pipeline("randaugment").unwrap();
        for (name, text) in [
            ("a.toml", toml::to_string(&pipeline).unwrap()),
            ("a.json", serde_json::to_string(&pipeline).unwrap()),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            assert_eq!(read_pipeline(path.to_str().unwrap()).unwrap(), pipeline);
            fs::write(&path, "operations = 3").unwrap();
            let error = read_pipeline(path.to_str().unwrap())
                .unwrap_err()
                .to_string();
            assert!(error.contains(name) && error.contains("line 1"), "{error}");
        }
        let error = read_pipeline("standard-29").unwrap_err().to_string();
        assert!(error.contains("standard-28"), "{error}");
    }
}
