//! Exit codes, all in one place: 0 done, 1 a run failed, 2 wrong usage or recipe, 130 interrupted.

use std::process::ExitCode;

use crate::say::tell;

/// All steps done, or nothing was left to do.
pub const DONE: ExitCode = ExitCode::SUCCESS;

/// Stopped by a signal, with a checkpoint.
pub fn interrupted() -> ExitCode {
    ExitCode::from(130)
}

/// Why the command did not do what it was asked for.
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something went wrong on the way.
    pub fn run(error: impl ToString) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }

    /// What was asked for cannot be.
    pub fn usage(error: impl ToString) -> Self {
        Self {
            message: error.to_string(),
            code: 2,
        }
    }

    /// Says it and gives the exit code.
    pub fn report(&self) -> ExitCode {
        tell(&format!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

impl From<evenkeel_lab::Error> for Failure {
    fn from(error: evenkeel_lab::Error) -> Self {
        use evenkeel_lab::{Error, LoaderError};
        match error {
            Error::Recipe(_)
            | Error::Unfit(_)
            | Error::Loader(
                LoaderError::Operation { .. } | LoaderError::Normalize(_) | LoaderError::Loader(_),
            ) => Self::usage(error),
            _ => Self::run(error),
        }
    }
}

impl From<evenkeel_lab::RecipeError> for Failure {
    fn from(error: evenkeel_lab::RecipeError) -> Self {
        Self::usage(error)
    }
}

impl From<evenkeel_record::Error> for Failure {
    fn from(error: evenkeel_record::Error) -> Self {
        Self::run(error)
    }
}

impl From<evenkeel_lab::data::Error> for Failure {
    fn from(error: evenkeel_lab::data::Error) -> Self {
        Self::run(error)
    }
}
