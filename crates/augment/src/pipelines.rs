//! The pipelines that come with the crate.

/// A pipeline that users start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltInPipeline {
    /// Its name.
    pub name: &'static str,
    /// Its text: TOML that says in its first comment what it is for.
    pub text: &'static str,
}

macro_rules! built_in {
    ($name:literal) => {
        BuiltInPipeline {
            name: $name,
            text: include_str!(concat!("../../../pipelines/", $name, ".toml")),
        }
    };
}

/// All of them.
pub const BUILT_IN_PIPELINES: [BuiltInPipeline; 9] = [
    built_in!("standard-28"),
    built_in!("standard-224"),
    built_in!("autoaugment-cifar10"),
    built_in!("autoaugment-imagenet"),
    built_in!("autoaugment-svhn"),
    built_in!("randaugment"),
    built_in!("trivialaugment"),
    built_in!("augmix"),
    built_in!("three-augment"),
];

impl BuiltInPipeline {
    /// The first sentence of its first comment.
    pub fn description(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix("# "));
        let comment = comment.collect::<Vec<_>>().join(" ");
        let end = comment.find(". ").map_or(comment.len(), |end| end + 1);
        comment[..end].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pipeline, three_augment};

    #[test]
    fn all_are_valid_described_and_end_in_the_size_that_they_are_named_for() {
        for built_in in BUILT_IN_PIPELINES {
            let pipeline: Pipeline = toml::from_str(built_in.text).unwrap();
            let (side, of) = match built_in.name {
                "standard-28" => (28, (28, 28)),
                "autoaugment-cifar10" | "autoaugment-svhn" => (32, (32, 32)),
                _ => (224, (500, 375)),
            };
            assert_eq!(
                pipeline.output_size(of.0, of.1).unwrap(),
                (side, side),
                "{}",
                built_in.name
            );
            let channels = if side == 28 { 1 } else { 3 };
            assert!(pipeline.normalize.tables(channels).is_ok());
            let description = built_in.description();
            assert!(
                description.len() > 20 && description.ends_with('.'),
                "{description}"
            );
        }
    }

    #[test]
    fn three_augment_is_that_of_the_library() {
        let text = BUILT_IN_PIPELINES[8].text;
        let pipeline: Pipeline = toml::from_str(text).unwrap();
        assert_eq!(pipeline.operations[2..], three_augment());
    }
}
