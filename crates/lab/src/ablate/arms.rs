//! The arms of an ablation: built-in sets, and any list of settings.

use std::fs;
use std::path::Path;

use evenkeel_augment::{Operation, Pipeline, Size};
use evenkeel_nn::NormKind;
use evenkeel_nn::decay::Decay;
use serde::Deserialize;

use crate::data::{Dataset, Kind, unnormalized};
use crate::{Error, Recipe, RecipeError};

/// One way to change a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// What it changes, as `key=value`.
    #[serde(default, rename = "set")]
    pub settings: Vec<String>,
}

impl Arm {
    fn new(name: impl Into<String>, settings: Vec<String>) -> Self {
        Self {
            name: name.into(),
            settings,
        }
    }
}

/// A set of arms that comes with the program.
#[derive(Clone, Copy)]
pub struct ArmSet {
    /// Its name.
    pub name: &'static str,
    /// What it compares.
    pub description: &'static str,
    make: fn(&Recipe, &Kind) -> Vec<Arm>,
}

/// All of them.
pub const ARM_SETS: [ArmSet; 5] = [
    ArmSet {
        name: "norms",
        description: "the recipe, and the same with each other norm and with none",
        make: norms,
    },
    ArmSet {
        name: "regularizers",
        description: "the recipe without regularizers, and with each alone: its own, or as usual",
        make: regularizers,
    },
    ArmSet {
        name: "augmentations",
        description: "no augmentation, the recipe's, and each of the usual ones and policies alone",
        make: augmentations,
    },
    ArmSet {
        name: "one-out",
        description: "the recipe, and the same without each of its regularizers",
        make: one_out,
    },
    ArmSet {
        name: "one-in",
        description: "the recipe without all of its regularizers, with each of them alone, and with all",
        make: one_in,
    },
];

impl ArmSet {
    /// Its arms for a recipe and the data that it names; the first is the baseline.
    ///
    /// # Errors
    /// If the data cannot be read, or an operation names a class that it lacks.
    pub fn arms(&self, recipe: &Recipe) -> Result<Vec<Arm>, Error> {
        let data = Dataset::open_with(&recipe.data.source.parse()?, &recipe.images())?;
        let mut recipe = recipe.clone();
        recipe.augment.operations = recipe.operations(&data.classes)?;
        Ok((self.make)(&recipe, &data.kind))
    }
}

/// An arm as it is written on the command line: `NAME: KEY=VALUE; KEY=VALUE`.
///
/// # Errors
/// If there is no name or no setting.
pub fn arm(text: &str) -> Result<Arm, RecipeError> {
    let wrong = || {
        RecipeError::new(
            format!("--arm {text}"),
            "expected NAME: KEY=VALUE; KEY=VALUE, such as 'strong decay: decay.penalty.strength=1e-2'",
        )
    };
    let (name, settings) = text.split_once(':').ok_or_else(wrong)?;
    let settings: Vec<String> = settings
        .split(';')
        .map(|setting| setting.trim().to_owned())
        .filter(|setting| !setting.is_empty())
        .collect();
    if name.trim().is_empty() || settings.is_empty() {
        return Err(wrong());
    }
    Ok(Arm::new(name.trim(), settings))
}

/// A file of arms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmsFile {
    arm: Vec<Arm>,
}

const MOST_BYTES: u64 = 1 << 20;

/// The arms of a TOML file: `[[arm]]` with `name` and `set = ["key=value", ...]` each; the first is the
/// baseline.
///
/// # Errors
/// If it cannot be read or is none: names the line.
pub fn arms_of_file(path: &Path) -> Result<Vec<Arm>, RecipeError> {
    let wrong = |problem: String| {
        let names = ARM_SETS.map(|set| set.name).join(", ");
        let expected = format!(
            "Expected {names}, or a TOML file of [[arm]] with name and set = [\"key=value\"]"
        );
        RecipeError::new(
            format!("--arms {}", path.display()),
            format!("{problem}. {expected}"),
        )
    };
    let size = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MOST_BYTES {
        return Err(wrong(format!("{size} bytes are too many for arms")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: ArmsFile =
        toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    Ok(file.arm)
}

/// `key=value` of anything that TOML can say.
fn set(key: &str, value: impl serde::Serialize) -> String {
    let value = toml::Value::try_from(value).expect("settings have only string keys");
    format!("{key}={value}")
}

fn baseline() -> Arm {
    Arm::new("recipe", Vec::new())
}

fn norms(recipe: &Recipe, _: &Kind) -> Vec<Arm> {
    // A recipe's own groups count whatever they are.
    let groups = [8, 4, 2, 1]
        .into_iter()
        .find(|&groups| fits(recipe, NormKind::Group(groups)));
    let kinds = [
        ("batch norm", Some(NormKind::Batch)),
        ("group norm", groups.map(NormKind::Group)),
        ("layer norm", Some(NormKind::Layer)),
        ("instance norm", Some(NormKind::Instance)),
        ("no norm", Some(NormKind::None)),
    ];
    // The recipe's own comes first, as the baseline.
    let own = recipe.model.norm();
    let is_own = |kind: NormKind| std::mem::discriminant(&kind) == std::mem::discriminant(&own);
    let known = kinds
        .into_iter()
        .filter_map(|(name, kind)| Some((name, kind?)));
    let (baseline, others): (Vec<_>, Vec<_>) = known.partition(|(_, kind)| is_own(*kind));
    let baseline = baseline
        .iter()
        .map(|(name, _)| Arm::new(format!("{name} (recipe)"), Vec::new()));
    let others = others
        .iter()
        .map(|(name, kind)| Arm::new(*name, vec![set("model.norm", kind)]));
    baseline.chain(others).collect()
}

fn fits(recipe: &Recipe, norm: NormKind) -> bool {
    recipe.model.clone().with_norm(norm).validate().is_ok()
}

/// A regularizer of a recipe, and the settings that take it out.
struct Ingredient {
    name: &'static str,
    without: Vec<String>,
    /// What puts it in again.
    with: Vec<String>,
}

/// What the recipe has against overfitting. The operations of its augmentation count each, unless they make
/// the size that the net sees.
fn ingredients(recipe: &Recipe, kind: &Kind) -> Vec<Ingredient> {
    let mut found = Vec::new();
    let mut add = |name, without: String, with: String| {
        found.push(Ingredient {
            name,
            without: vec![without],
            with: vec![with],
        });
    };
    let norm = recipe.model.norm();
    if norm != NormKind::None {
        add(
            "norm",
            set("model.norm", NormKind::None),
            set("model.norm", norm),
        );
    }
    let (model, train) = (&recipe.model, &recipe.train);
    for (name, key, value) in [
        ("dropout", "model.dropout", model.dropout()),
        ("DropConnect", "model.drop_connect", model.drop_connect()),
        (
            "label smoothing",
            "train.label_smoothing",
            train.label_smoothing,
        ),
        (
            "weight average",
            "train.weight_average",
            train.weight_average,
        ),
        (
            "stochastic weight average",
            "train.swa_after",
            train.swa_after,
        ),
    ] {
        if value > 0.0 {
            add(name, set(key, 0.0), set(key, value));
        }
    }
    let penalty = &recipe.decay.penalty;
    if *penalty != Decay::None {
        add(
            "weight decay",
            set("decay.penalty", Decay::None),
            set("decay.penalty", penalty),
        );
    }
    let operations = &recipe.augment.operations;
    let nothing: Vec<Operation> = Vec::new();
    if operations.len() == 1 || !operations.is_empty() && !keeps_size(operations, kind) {
        let name = match &operations[..] {
            [one] => one.name(),
            _ => "augmentation",
        };
        add(
            name,
            set("augment.operations", &nothing),
            set("augment.operations", operations),
        );
    }
    found
}

/// Whether each operation keeps the size of the images, so that each can be left out.
fn keeps_size(operations: &[Operation], kind: &Kind) -> bool {
    let &Kind::Images { height, width, .. } = kind else {
        return true;
    };
    operations.iter().all(|operation| {
        let pipeline = Pipeline {
            operations: vec![operation.clone()],
            normalize: unnormalized(),
            exact: false,
        };
        let size = pipeline.only_size(Size::new(width, height).into());
        size.is_ok_and(|size| (size.width, size.height) == (width, height))
    })
}

/// The operations one by one, where each can be left out.
fn operations(recipe: &Recipe, kind: &Kind) -> Vec<(usize, String)> {
    let operations = &recipe.augment.operations;
    if operations.len() < 2 || !keeps_size(operations, kind) {
        return Vec::new();
    }
    let name = |(index, operation): (usize, &Operation)| {
        let alike = |other: &&Operation| other.name() == operation.name();
        let name = match operations.iter().filter(alike).count() {
            1 => operation.name().to_owned(),
            _ => format!("{} {}", operation.name(), index + 1),
        };
        (index, name.replace('_', " "))
    };
    operations.iter().enumerate().map(name).collect()
}

fn one_out(recipe: &Recipe, kind: &Kind) -> Vec<Arm> {
    let mut arms = vec![baseline()];
    for ingredient in ingredients(recipe, kind) {
        let name = format!("without {}", ingredient.name.replace('_', " "));
        arms.push(Arm::new(name, ingredient.without));
    }
    for (index, name) in operations(recipe, kind) {
        let mut rest = recipe.augment.operations.clone();
        rest.remove(index);
        arms.push(Arm::new(
            format!("without {name}"),
            vec![set("augment.operations", rest)],
        ));
    }
    arms
}

fn bare(recipe: &Recipe, kind: &Kind) -> Vec<String> {
    let mut settings: Vec<String> = ingredients(recipe, kind)
        .into_iter()
        .flat_map(|ingredient| ingredient.without)
        .collect();
    if !operations(recipe, kind).is_empty() {
        settings.push("augment.operations=[]".into());
    }
    settings
}

fn one_in(recipe: &Recipe, kind: &Kind) -> Vec<Arm> {
    let bare = bare(recipe, kind);
    let mut arms = vec![Arm::new("bare", bare.clone())];
    let mut add = |name: &str, with: Vec<String>| {
        let name = format!("only {}", name.replace('_', " "));
        arms.push(Arm::new(name, [&bare[..], &with].concat()));
    };
    for ingredient in ingredients(recipe, kind) {
        add(ingredient.name, ingredient.with);
    }
    for (index, name) in operations(recipe, kind) {
        let one = vec![recipe.augment.operations[index].clone()];
        add(&name, vec![set("augment.operations", one)]);
    }
    arms.push(Arm::new("all of the recipe", Vec::new()));
    arms
}

/// Without the norm, which is compared by `norms`.
fn regularizers(recipe: &Recipe, kind: &Kind) -> Vec<Arm> {
    let keeps = |setting: &&String| !setting.starts_with("model.norm=");
    let bare: Vec<String> = bare(recipe, kind).iter().filter(keeps).cloned().collect();
    let or = |value: f64, usual: f64| if value > 0.0 { value } else { usual };
    let penalty = match recipe.decay.penalty {
        Decay::None => Decay::L2 { strength: 5e-4 },
        own => own,
    };
    let train = &recipe.train;
    let mut kinds = vec![
        ("weight decay", set("decay.penalty", penalty)),
        (
            "dropout",
            set("model.dropout", or(recipe.model.dropout(), 0.2)),
        ),
        (
            "label smoothing",
            set("train.label_smoothing", or(train.label_smoothing, 0.1)),
        ),
        (
            "weight average",
            set("train.weight_average", or(train.weight_average, 0.99)),
        ),
    ];
    if let Some(cutout) = cutout(recipe, kind) {
        kinds.push(("cutout", cutout));
    }
    let mut arms = vec![Arm::new("none", bare.clone())];
    let mut together = bare.clone();
    for (name, setting) in kinds {
        together.push(setting.clone());
        arms.push(Arm::new(name, [&bare[..], &[setting]].concat()));
    }
    arms.push(Arm::new("all of these", together));
    arms
}

/// The recipe's own, or a square of a quarter of the image's side on half of the images.
fn cutout(recipe: &Recipe, kind: &Kind) -> Option<String> {
    let &Kind::Images { height, width, .. } = kind else {
        return None;
    };
    let own = recipe
        .augment
        .operations
        .iter()
        .find(|operation| operation.name() == "cutout");
    let usual = || {
        format!(
            "{{ op = \"cutout\", size = {}, probability = 0.5 }}",
            (height.min(width) / 4).max(1)
        )
    };
    let operation = own.map_or_else(usual, |own| {
        toml::Value::try_from(own)
            .expect("an operation has only string keys")
            .to_string()
    });
    Some(with_operation(recipe, &operation))
}

/// What brings images of a folder to size, then this operation.
fn with_operation(recipe: &Recipe, operation: &str) -> String {
    let before = recipe.augment.test.iter().map(|operation| {
        toml::Value::try_from(operation)
            .expect("an operation has only string keys")
            .to_string()
    });
    let all: Vec<String> = before.chain([operation.to_owned()]).collect();
    format!("augment.operations=[{}]", all.join(", "))
}

fn augmentations(recipe: &Recipe, kind: &Kind) -> Vec<Arm> {
    let mut arms = vec![Arm::new("none", vec!["augment.operations=[]".into()])];
    let &Kind::Images { height, width, .. } = kind else {
        return arms;
    };
    if !recipe.augment.operations.is_empty() {
        arms.push(Arm::new("the recipe's", Vec::new()));
    }
    let padding = (height.min(width) / 8).max(1);
    let operations = [
        ("flips", "{ op = \"horizontal_flip\" }".to_owned()),
        (
            "shifts",
            format!(
                "{{ op = \"random_crop\", height = {height}, width = {width}, padding = {padding} }}"
            ),
        ),
        (
            "AutoAugment",
            "{ op = \"auto_augment\", policy = \"cifar10\" }".to_owned(),
        ),
        ("RandAugment", "{ op = \"rand_augment\" }".to_owned()),
        ("TrivialAugment", "{ op = \"trivial_augment\" }".to_owned()),
    ];
    for (name, operation) in operations {
        arms.push(Arm::new(name, vec![with_operation(recipe, &operation)]));
    }
    if let Some(cutout) = cutout(recipe, kind) {
        arms.push(Arm::new("cutout", vec![cutout]));
    }
    arms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::BUILT_IN;

    fn images() -> Kind {
        Kind::Images {
            height: 32,
            width: 32,
            channels: 3,
        }
    }

    /// Every arm of every set is a recipe, and none but the baseline's repeats another.
    #[test]
    fn all_sets_make_recipes() {
        for built_in in BUILT_IN {
            let recipe = Recipe::parse(built_in.text, built_in.name, &[]).unwrap();
            let kind = match built_in.name {
                "table" => Kind::Table {
                    columns: vec!["a".into()],
                },
                _ => images(),
            };
            for set in ARM_SETS {
                let arms = (set.make)(&recipe, &kind);
                let recipes: Vec<Recipe> = arms
                    .iter()
                    .map(|arm| Recipe::parse(built_in.text, &arm.name, &arm.settings).unwrap())
                    .collect();
                for (index, arm) in arms.iter().enumerate() {
                    let names = arms.iter().filter(|other| other.name == arm.name);
                    assert_eq!(names.count(), 1, "{}: {}", set.name, arm.name);
                    if set.name != "augmentations" && set.name != "regularizers" {
                        let same = recipes[..index].iter().position(|r| *r == recipes[index]);
                        let alone = recipes.len() <= 3;
                        assert!(same.is_none() || alone, "{}: {}", set.name, arm.name);
                    }
                }
            }
        }
    }

    #[test]
    fn one_out_and_one_in_are_of_what_the_recipe_has() {
        let recipe = Recipe::parse(BUILT_IN[2].text, "cifar10", &[]).unwrap();
        let names =
            |arms: Vec<Arm>| -> Vec<String> { arms.into_iter().map(|arm| arm.name).collect() };
        assert_eq!(
            names(one_out(&recipe, &images())),
            [
                "recipe",
                "without norm",
                "without dropout",
                "without weight decay",
                "without horizontal flip",
                "without random crop",
                "without cutout"
            ]
        );
        let arms = one_in(&recipe, &images());
        let bare = Recipe::parse(BUILT_IN[2].text, "bare", &arms[0].settings).unwrap();
        assert!(bare.augment.operations.is_empty() && bare.model.dropout() == 0.0);
        assert_eq!(bare.model.norm(), NormKind::None);
        let only = arms
            .iter()
            .find(|arm| arm.name == "only random crop")
            .unwrap();
        let only = Recipe::parse(BUILT_IN[2].text, "only", &only.settings).unwrap();
        assert_eq!(only.augment.operations.len(), 1);
        assert_eq!(only.augment.operations[0].name(), "random_crop");
    }

    #[test]
    fn arms_are_read_from_the_command_line_and_from_files() {
        let found = arm("no noise : model.dropout=0; augment.operations=[]").unwrap();
        assert_eq!(found.name, "no noise");
        assert_eq!(found.settings, ["model.dropout=0", "augment.operations=[]"]);
        for bad in ["", "name", "name:", ": a=1"] {
            assert!(arm(bad).unwrap_err().to_string().contains("expected NAME"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arms.toml");
        fs::write(
            &path,
            "[[arm]]\nname = \"base\"\n[[arm]]\nname = \"b\"\nset = [\"seed=1\"]",
        )
        .unwrap();
        let arms = arms_of_file(&path).unwrap();
        assert_eq!((arms.len(), arms[1].settings.len()), (2, 1));
        fs::write(&path, "[[arm]]\nnames = 1").unwrap();
        let error = arms_of_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("names") && error.contains("arms.toml"),
            "{error}"
        );
        let error = arms_of_file(Path::new("norm")).unwrap_err().to_string();
        assert!(error.contains("norms, regularizers"), "{error}");
    }
}
