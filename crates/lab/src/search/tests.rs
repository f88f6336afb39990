//! Searches of a tiny recipe on embedded data, in process.

use super::*;
