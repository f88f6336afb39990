//! Writing to the standard output and error.
//!
//! A reader that went away (`evenkeel train 2>&1 | head`) is no reason to stop, and none to panic,
//! as `println!` would.

use std::io::{ErrorKind, Write};

use crate::exit::Failure;

/// Writes lines to the standard output.
///
/// # Errors
/// If it cannot be written to though somebody reads it: a full disk, say.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("the standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes lines to the standard error. Where that fails, there is nowhere left to say so.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}
