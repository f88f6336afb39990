//! Pipelines and recorded parameters, as files give them.

use evenkeel_augment::{Image, Parameters, Pipeline, Sample, Stream};

const WIDTH: usize = 23;
const HEIGHT: usize = 17;
/// Pictures of more pixels are not made here: that a recipe asks for large ones is its right.
const MOST_PIXELS: usize = 1 << 14;

pub fn toml(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(pipeline) = toml::from_str::<Pipeline>(text)
    {
        used(&pipeline);
    }
}

pub fn json(bytes: &[u8]) {
    if let Ok(pipeline) = serde_json::from_slice::<Pipeline>(bytes) {
        let text = serde_json::to_string(&pipeline).expect("a pipeline is data");
        let again = serde_json::from_str::<Pipeline>(&text);
        assert_eq!(again.ok().as_ref(), Some(&pipeline), "{text}");
        used(&pipeline);
    }
}

/// What fits is drawn and applied, and what was drawn fits.
fn used(pipeline: &Pipeline) {
    if pipeline.operations.len() > 8 {
        return;
    }
    // Every step's pictures are small, not the last one's alone.
    for steps in 0..=pipeline.operations.len() {
        let part = Pipeline {
            operations: pipeline.operations[..steps].to_vec(),
            normalize: pipeline.normalize.clone(),
            exact: pipeline.exact,
        };
        match part.output_sizes(WIDTH, HEIGHT) {
            Ok(sizes) if sizes.most.width * sizes.most.height <= MOST_PIXELS => {}
            _ => return,
        }
    }
    let stream = Stream::new(1, Sample { epoch: 0, index: 3 });
    let Ok(parameters) = pipeline.draw(WIDTH, HEIGHT, stream) else {
        return;
    };
    // A picture has one kind of channels, which not every operation works on.
    let _ = Pipeline::replay(&image(), &parameters);
}

/// Parameters that a manifest claims: they fit the image or are refused.
pub fn parameters(bytes: &[u8]) {
    if let Ok(parameters) = serde_json::from_slice::<Vec<Parameters>>(bytes)
        && parameters.len() <= 8
        && bytes.len() < 1 << 14
    {
        let _ = Pipeline::replay(&image(), &parameters);
    }
}

fn image() -> Image {
    let pixels = (0..WIDTH * HEIGHT * 3)
        .map(|i| (i * 31 % 256) as u8)
        .collect();
    Image::new(WIDTH, HEIGHT, 3, pixels).expect("the size is right")
}
