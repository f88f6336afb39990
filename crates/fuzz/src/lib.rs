//! What reads bytes of strangers, as functions that must neither panic nor ask for much memory, whatever the bytes.
//!
//! Two things drive them: libFuzzer through cargo-fuzz (`fuzz/`, see its README) for long runs that follow
//! coverage, and [`mutate`] in the tests for a short run over `corpus/`, a folder a target.
#![forbid(unsafe_code)]

mod mutate;
mod pipelines;
mod sources;

use evenkeel_augment::{Colors, DecodeLimits, Image, decode};

pub use mutate::mutate;

/// A target's name, which is its folder's in the corpus, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("decode", decoded),
    ("pipeline_toml", pipelines::toml),
    ("pipeline_json", pipelines::json),
    ("parameters", pipelines::parameters),
    ("tar", sources::tar),
    ("parquet", sources::parquet),
    ("list", sources::list),
    ("table", sources::table),
    ("idx", sources::idx),
    ("svhn", sources::svhn),
];

/// The target of this name.
///
/// # Panics
/// If there is none: a mistake in the list of binaries.
pub fn target(name: &str) -> fn(&[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no target {name}")).1
}

/// Small pictures, so that time goes into formats and not into pixels.
pub(crate) const LIMITS: DecodeLimits = DecodeLimits {
    bytes: 1 << 20,
    side: 4096,
    pixels: 1 << 18,
};

/// Image files of all formats: told by their first bytes.
fn decoded(bytes: &[u8]) {
    for colors in [Colors::Rgb, Colors::Gray] {
        if let Ok(image) = decode(bytes, colors, &LIMITS) {
            expect_within_limits(&image, colors);
        }
    }
}

fn expect_within_limits(image: &Image, colors: Colors) {
    assert!(image.width().max(image.height()) <= LIMITS.side);
    assert!(image.width() * image.height() <= LIMITS.pixels);
    assert_eq!(image.channels(), colors.channels());
}
