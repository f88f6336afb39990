//! Settings on top of a recipe's text (`--set section.key=value`), and what to say of wrong ones.

use crate::recipe::{Recipe, RecipeError};

/// All keys of recipes.
const KEYS: [&str; 43] = [
    "seed",
    "data.source",
    "data.validation",
    "data.train_examples",
    "data.unreadable",
    "model.kind",
    "model.widths",
    "model.pool_after",
    "model.norm",
    "model.norm.group",
    "model.activation",
    "model.dense",
    "model.dropout",
    "model.drop_connect",
    "model.hidden",
    "model.width",
    "model.stem",
    "augment.operations",
    "augment.test",
    "train.epochs",
    "train.start_scale",
    "train.batch_size",
    "train.label_smoothing",
    "train.clip_norm",
    "train.weight_average",
    "train.swa_after",
    "train.checkpoint_every",
    "optimizer.kind",
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.nesterov",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.epsilon",
    "schedule.kind",
    "schedule.start",
    "schedule.warmup",
    "schedule.end",
    "decay.penalty.kind",
    "decay.penalty.strength",
    "decay.penalty.l1",
    "decay.penalty.l2",
    "decay.roles",
];

/// A whole section of each kind: what to write where its kind is changed.
const SECTIONS: [(&str, &str, &str); 13] = [
    ("model", "convnet", "widths = [24, 48], pool_after = [0]"),
    ("model", "mlp", "hidden = [128]"),
    ("model", "resnet18", "width = 64, stem = \"small\""),
    ("optimizer", "sgd", "learning_rate = 0.1"),
    ("optimizer", "adamw", "learning_rate = 1e-3"),
    ("schedule", "constant", ""),
    ("schedule", "cosine", "end = 0.0"),
    ("schedule", "one_cycle", "warmup = 0.2"),
    ("decay.penalty", "none", ""),
    ("decay.penalty", "l1", "strength = 1e-5"),
    ("decay.penalty", "l2", "strength = 1e-3"),
    ("decay.penalty", "decoupled", "strength = 1e-2"),
    ("decay.penalty", "elastic_net", "l1 = 1e-5, l2 = 1e-3"),
];

/// Sets `section.key=value` in a table; the value is TOML, or a string where it is not.
pub(crate) fn apply(table: &mut toml::Table, setting: &str) -> Result<(), RecipeError> {
    let place = format!("--set {setting}");
    let (path, value) = setting.split_once('=').ok_or_else(|| {
        RecipeError::new(&place, "expected section.key=value, such as train.epochs=5")
    })?;
    let value = value.trim();
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut section = table;
    for (depth, key) in keys.iter().copied().enumerate() {
        section = section
            .entry(key)
            .or_insert_with(|| toml::Table::new().into())
            .as_table_mut()
            .ok_or_else(|| {
                let whole = keys[..=depth].join(".");
                let inner = path.trim()[whole.len() + 1..].trim();
                let problem = format!(
                    "`{key}` is a value, no section; to make it one, set it whole, such as --set \
                     '{whole}={{ {inner} = {value} }}'"
                );
                RecipeError::new(&place, problem)
            })?;
    }
    section.insert(last.to_owned(), value);
    Ok(())
}

/// Why the recipe of `text` and `settings` is none: told of the text, with line and column, where
/// it has that defect by itself, else of the settings.
pub(crate) fn explain(
    error: &toml::de::Error,
    text: &str,
    place: &str,
    settings: &[String],
) -> RecipeError {
    let of_text = toml::from_str::<Recipe>(text).err();
    let of_text = of_text.filter(|own| own.message() == error.message());
    let in_text = of_text.is_some() || settings.is_empty();
    let place = if in_text {
        place.to_owned()
    } else {
        named(error, settings)
    };
    let mut problem = of_text.as_ref().unwrap_or(error).to_string();
    problem.truncate(problem.trim_end().len());
    let mut kinds = settings.iter().filter_map(|setting| other_kind(setting));
    if let Some(hint) = kinds.next()
        && !in_text
    {
        problem.push_str(&hint);
    } else if let Some(suggestion) = suggest(error.message()) {
        problem.push_str(&format!("\ndid you mean `{suggestion}`?"));
    }
    RecipeError::new(place, problem)
}

/// The settings that can be meant: those of the key that the message quotes, or all.
fn named(error: &toml::de::Error, settings: &[String]) -> String {
    let quoted = error.message().split('`').nth(1).unwrap_or_default();
    let of_key = |setting: &&String| {
        let path = setting.split('=').next().unwrap_or_default();
        path.split('.').any(|key| key.trim() == quoted)
    };
    let mut meant: Vec<_> = settings.iter().filter(of_key).collect();
    if meant.is_empty() {
        meant = settings.iter().collect();
    }
    let meant: Vec<_> = meant.iter().map(|meant| format!("--set {meant}")).collect();
    meant.join(" ")
}

/// What to do where a setting makes a section another kind's, whose keys are others.
fn other_kind(setting: &str) -> Option<String> {
    let (path, kind) = setting.split_once('=')?;
    let section = path.trim().strip_suffix(".kind")?;
    let kind = kind.trim().trim_matches('"');
    let (_, _, keys) = SECTIONS
        .iter()
        .find(|(name, known, _)| *name == section && *known == kind)?;
    let keys = if keys.is_empty() {
        String::new()
    } else {
        format!(", {keys}")
    };
    Some(format!(
        "\nthe other keys of [{section}] stay when its kind is set, and {kind} has others: set the \
         whole section, such as --set '{section}={{ kind = \"{kind}\"{keys} }}'"
    ))
}

/// The nearest expected name in serde's "unknown field `x`, expected one of `a`, `b`"; else the
/// nearest key of any section.
fn suggest(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.contains("unknown") {
        return None;
    }
    let found = quoted.next()?;
    let nearest = |names: &mut dyn Iterator<Item = (&str, &str)>| {
        names
            .map(|(name, shown)| (strsim::jaro_winkler(found, name), shown.to_owned()))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, shown)| shown)
    };
    nearest(&mut quoted.map(|name| (name, name))).or_else(|| {
        let last = |key: &'static str| (key.rsplit('.').next().unwrap_or(key), key);
        nearest(&mut KEYS.into_iter().map(last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::BUILT_IN;

    fn error(text: &str, settings: &[&str]) -> String {
        let settings: Vec<String> = settings.iter().map(|s| (*s).into()).collect();
        let error = Recipe::parse(text, "my.toml", &settings).unwrap_err();
        error.to_string()
    }

    #[test]
    fn an_error_of_the_text_keeps_its_line_whatever_is_set() {
        let typo = BUILT_IN[0].text.replace("batch_size", "batchsize");
        let line = typo.lines().position(|line| line.contains("batchsize"));
        let place = format!("line {}, column 1", line.unwrap() + 1);
        for settings in [&[][..], &["train.epochs=3"], &["seed=1", "train.epochs=3"]] {
            let error = error(&typo, settings);
            assert!(error.starts_with("my.toml: "), "{error}");
            assert!(error.contains(&place), "{error}");
            assert!(error.ends_with("did you mean `batch_size`?"), "{error}");
        }
        // A setting can supply what the text lacks.
        let lacking = BUILT_IN[0].text.replace("epochs = 12", "");
        assert!(error(&lacking, &[]).contains("missing field `epochs`"));
        Recipe::parse(&lacking, "my.toml", &["train.epochs=3".into()]).unwrap();
    }

    #[test]
    fn a_wrong_setting_is_named_and_helped() {
        let good = BUILT_IN[0].text;
        for (setting, expected) in [
            ("lr=1", "did you mean `optimizer.learning_rate`?"),
            ("epochs=1", "did you mean `train.epochs`?"),
            ("train.epoch=1", "did you mean `epochs`?"),
            ("model.droput=1", "did you mean `dropout`?"),
            ("train.epochs=many", "expected u64"),
            ("seed.x=1", "`seed` is a value, no section"),
        ] {
            let error = error(good, &["data.validation=0.1", setting]);
            assert!(error.starts_with(&format!("--set {setting}")) || error.contains(setting));
            assert!(
                !error.contains("my.toml") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn changing_a_kind_says_how() {
        let error = error(BUILT_IN[0].text, &["model.kind=mlp"]);
        let hint = "--set 'model={ kind = \"mlp\", hidden = [128] }'";
        assert!(error.contains(hint), "{error}");
        // `pool_after` is a good key, of the other kind.
        assert!(!error.contains("did you mean"), "{error}");
        // Each example is a good one, and the keys in it are known.
        let recipe = BUILT_IN[0];
        for (section, kind, keys) in SECTIONS {
            let comma = if keys.is_empty() { "" } else { "," };
            let setting = format!("{section}={{ kind = \"{kind}\"{comma} {keys} }}");
            let parsed = Recipe::parse(recipe.text, recipe.name, &[setting]).unwrap();
            expect_known("", &toml::Value::try_from(&parsed).unwrap());
        }
    }

    #[test]
    fn all_keys_are_known() {
        for recipe in BUILT_IN {
            let parsed = Recipe::parse(recipe.text, recipe.name, &[]).unwrap();
            expect_known("", &toml::Value::try_from(&parsed).unwrap());
        }
    }

    fn expect_known(path: &str, value: &toml::Value) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = format!("{path}.{key}");
                    expect_known(path.trim_start_matches('.'), value);
                }
            }
            _ => assert!(KEYS.contains(&path), "{path} is not among KEYS"),
        }
    }
}
