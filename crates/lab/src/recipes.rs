//! The recipes that come with the program.

/// A recipe that users start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Its text: TOML that says in its first comment what it is for.
    pub text: &'static str,
}

macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            name: $name,
            text: include_str!(concat!("../../../recipes/", $name, ".toml")),
        }
    };
}

/// All of them; the first is the default.
pub const BUILT_IN: [BuiltIn; 7] = [
    built_in!("default"),
    built_in!("batch-norm-alone"),
    built_in!("cifar10"),
    built_in!("cifar100"),
    built_in!("photos-64"),
    built_in!("photos-224"),
    built_in!("table"),
];

/// The recipe of this name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|recipe| recipe.name == name)
}

/// The names of all, for errors.
pub fn names() -> String {
    BUILT_IN.map(|recipe| recipe.name).join(", ")
}

impl BuiltIn {
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
    use crate::Recipe;

    #[test]
    fn all_are_valid_and_described() {
        for recipe in BUILT_IN {
            let parsed = Recipe::parse(recipe.text, recipe.name, &[]).unwrap();
            let again = Recipe::parse(&parsed.to_toml(), "resolved", &[]).unwrap();
            assert_eq!(parsed, again, "{} does not survive", recipe.name);
            let description = recipe.description();
            assert!(
                description.len() > 20 && description.ends_with('.') && !description.contains(". "),
                "{description}"
            );
        }
    }
}
