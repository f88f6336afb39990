//! Where in a module a visitor is, and what the parameter there does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a parameter does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The matrix or filters of a linear or convolutional layer.
    Weight,
    /// A bias.
    Bias,
    /// A norm's scale or shift.
    Norm,
    /// Running statistics: never trained, so never decayed.
    Buffer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::Norm => "norm",
            Self::Buffer => "buffer",
        })
    }
}

/// The modules entered on the way to a parameter: field names and container types.
#[derive(Default)]
pub(crate) struct ModulePath(Vec<(String, String)>);

impl ModulePath {
    pub fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The names joined by dots, such as `blocks.0.conv.weight`.
    pub fn joined(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// The type of the layer around the parameter, such as `Struct:Linear`.
    pub fn container(&self) -> &str {
        self.0.last().map_or("", |(_, container)| container)
    }

    /// Whether weights here are laid out `[in, out]`, as in Burn's `Linear`; those of all other layers
    /// are `[out, in, ...]`.
    pub fn is_linear(&self) -> bool {
        is_linear(self.container())
    }

    /// The role of a parameter of this rank here: by the layer's type and the field's name, then
    /// by rank, since Burn has no notion of a role.
    pub fn role(&self, rank: usize) -> Role {
        let field = self.0.last().map_or("", |(field, _)| field.as_str());
        if field.starts_with("running_") {
            Role::Buffer
        } else if self.container().ends_with("Norm") {
            Role::Norm
        } else if field == "bias" || rank < 2 {
            Role::Bias
        } else {
            Role::Weight
        }
    }
}

/// Whether a layer of this type, such as `Struct:Linear`, lays its weights out `[in, out]`.
pub fn is_linear(container: &str) -> bool {
    matches!(container, "Struct:Linear" | "Struct:DropConnectLinear")
}

/// The two methods by which a visitor or mapper with a field `path: ModulePath` keeps it current.
macro_rules! follow_path {
    () => {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
    };
}
pub(crate) use follow_path;
