//! Why data cannot be read.

use std::path::Path;

/// Where the data are wrong, what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Error {
    /// The source, the file or the setting.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl Error {
    /// At a place that is no file.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }

    /// At a file or a folder.
    pub fn at(path: &Path, problem: impl Into<String>) -> Self {
        Self::new(path.display().to_string(), problem)
    }
}

/// Longer text is cut in messages.
const SHOWN_CHARACTERS: usize = 40;

/// Text from a file, for a message.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
