//! Searches of a tiny recipe on embedded data, in process.

use super::*;
use crate::data::Source;
use evenkeel_augment::Transform;

use crate::recipes::BUILT_IN;

pub(super) fn settings() -> Settings {
    let recipe = Recipe::parse(BUILT_IN[0].text, "default", &[]).unwrap();
    Settings::of(&recipe)
}

/// One that differs by its number.
pub(super) fn trial(number: u64) -> Trial {
    Trial {
        recipe: settings().recipe,
        held_out: HeldOut {
            fold: Some([0, 5, number]),
            validation: None,
        },
        task: Task::Match {
            candidates: vec![vec![evenkeel_augment::PolicyStep {
                transform: Transform::Rotate,
                probability: 0.1 + 0.2,
                level: 3,
            }]],
            images: 10,
            draws: 2,
            seed: number,
        },
    }
}

#[test]
fn what_is_held_out_is_of_the_training_data() {
    let recipe = settings().recipe().unwrap();
    let whole = Dataset::open(&Source::FashionMnist10k).unwrap();
    let images = |split: &crate::data::Split| -> Vec<Vec<u8>> {
        let crate::data::Split::Images(images) = split else {
            unreachable!()
        };
        let all = images.pixels.chunks_exact(images.bytes);
        all.map(<[u8]>::to_vec).collect()
    };
    let data = trial(3).held_out.data(&recipe).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (8000, 2000));
    let training: std::collections::HashSet<Vec<u8>> = images(&whole.train).into_iter().collect();
    assert!(
        images(&data.test)
            .iter()
            .all(|image| training.contains(image))
    );
    // With neither fold nor validation source, the test data would be what is left.
    let nothing = HeldOut {
        fold: None,
        validation: None,
    };
    let error = nothing.data(&recipe).err().unwrap().to_string();
    assert!(error.contains("this one has neither"), "{error}");
}
