//! Decoding beside Pillow, on the files that `reference/make_image_fixtures.py` wrote; and what damaged,
//! endless and random files give: errors.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evenkeel_augment::{Colors, DecodeLimits, Image, decode};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    colors: Colors,
    width: usize,
    height: usize,
    channels: usize,
    pixels: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join("encoded").join(name)).unwrap()
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("decoding.json")).unwrap();
    serde_json::from_str::<Fixtures>(&text).unwrap().cases
}

fn rgb(bytes: &[u8]) -> Result<Image, String> {
    decode(bytes, Colors::Rgb, &DecodeLimits::default()).map_err(|error| error.to_string())
}

/// The names of all fixtures that are read.
fn names() -> Vec<String> {
    let mut names: Vec<String> = cases().into_iter().map(|case| case.file).collect();
    names.dedup();
    names.retain(|name| name != "palette.tif");
    assert!(names.len() > 50);
    names
}

/// The greatest and the mean difference in levels that a file keeps to. JPEG leaves the rounding of its cosine
/// transform to the decoder, and how colours at half the resolution are spread; baseline files are libjpeg's.
fn promised(name: &str) -> (u8, f64) {
    match name {
        "progressive.jpg" | "gray-progressive.jpg" | "cmyk.jpg" => (3, 0.4),
        _ => (0, 0.0),
    }
}

#[test]
fn files_are_read_as_pillow_reads_them() {
    let mut failures = Vec::new();
    for case in cases() {
        let Case {
            file: name, colors, ..
        } = &case;
        let found = decode(&file(name), *colors, &DecodeLimits::default());
        if name == "palette.tif" {
            let error = found.unwrap_err().to_string();
            assert!(
                error.starts_with("TIFF: ") && error.contains("Palette"),
                "{error}"
            );
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        let size = [found.width(), found.height(), found.channels()];
        assert_eq!(size, [case.width, case.height, case.channels], "{name}");
        let expected = STANDARD.decode(&case.pixels).unwrap();
        let pairs = found.pixels().iter().zip(&expected);
        let differences = pairs.map(|(a, b)| a.abs_diff(*b));
        let worst = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / expected.len() as f64;
        let (most, least) = promised(name);
        if worst > most || mean > least {
            failures.push(format!("{name} {colors:?}: worst {worst}, mean {mean:.3}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A file that was cut off is refused, or what is missing holds nothing of the picture.
#[test]
fn every_truncation_is_an_error_or_whole() {
    for name in names() {
        let bytes = file(&name);
        let whole = rgb(&bytes).unwrap();
        for length in 0..bytes.len() {
            match rgb(&bytes[..length]) {
                Ok(image) => assert!(image == whole, "{name}: {length} of {} bytes", bytes.len()),
                Err(error) => assert!(error.len() > 10, "{name}: {error}"),
            }
        }
    }
}

/// The fixtures with other sizes written into their headers.
fn claiming(width: u32, height: u32) -> Vec<(&'static str, Vec<u8>)> {
    let patched = |name, patches: &[(usize, &[u8])]| {
        let mut bytes = file(name);
        for (at, patch) in patches {
            bytes[*at..][..patch.len()].copy_from_slice(patch);
        }
        (name, bytes)
    };
    let (w, h) = (width.to_be_bytes(), height.to_be_bytes());
    let (w_little, h_little) = (width.to_le_bytes(), height.to_le_bytes());
    let frame = file("q75-s2.jpg")
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0]);
    let jpeg = frame.unwrap() + 5;
    // Of entries (tag, kind, count, value) of 12 bytes: 256 is the width, 257 the height.
    let tiff = file("rgb.tif");
    let entry = |tag: u16| {
        let start = [tag.to_le_bytes(), 4_u16.to_le_bytes()].concat();
        let short = [tag.to_le_bytes(), 3_u16.to_le_bytes()].concat();
        let place = tiff
            .windows(4)
            .position(|bytes| bytes == start || bytes == short);
        place.unwrap() + 2
    };
    let long = |size: [u8; 4]| [&[4, 0, 1, 0, 0, 0], &size[..]].concat();
    let mut all = vec![
        patched("rgb.bmp", &[(18, &w_little), (22, &h_little)]),
        patched(
            "rgb.tif",
            &[(entry(256), &long(w_little)), (entry(257), &long(h_little))],
        ),
    ];
    let (name, mut png) = patched("rgb.png", &[(16, &w), (20, &h)]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    all.push((name, png));
    // Formats of 16-bit sides cannot say more than 65,535.
    let (w, h) = (&w[2..], &h[2..]);
    if width <= 65_535 && height <= 65_535 {
        all.push(patched("q75-s2.jpg", &[(jpeg, h), (jpeg + 2, w)]));
        let screen = [&w_little[..2], &h_little[..2]].concat();
        all.push(patched("palette.gif", &[(6, &screen)]));
    }
    all
}

#[test]
fn claimed_sizes_are_checked_before_memory_is_taken() {
    for (width, height) in [(100_000, 100_000), (65_535, 65_535), (40_000, 50_000)] {
        for (name, bytes) in claiming(width, height) {
            let error = rgb(&bytes).unwrap_err();
            // Two codecs look before we can: at a limit of their own, at the size of the data.
            let told = ["expected sides", "Image too large", "inconsistent sizes"];
            assert!(
                told.iter().any(|told| error.contains(told)),
                "{name}: {error}"
            );
        }
    }
    // What is within the limits by its header and holds no such picture costs a buffer, not the process. (A
    // screen may be larger than a GIF's frame, and what a JPEG's scan lacks is gray, as in Pillow.)
    for (name, bytes) in claiming(5_000, 4_000) {
        if !["palette.gif", "q75-s2.jpg"].contains(&name) {
            rgb(&bytes).unwrap_err();
        }
    }
}

#[test]
fn limits_are_the_callers() {
    let decode = |limits: &DecodeLimits| decode(&file("rgb.png"), Colors::Rgb, limits);
    let usual = DecodeLimits::default();
    let (bytes, side, pixels) = (file("rgb.png").len(), 24, 24 * 17);
    assert!(
        decode(&DecodeLimits {
            bytes,
            side,
            pixels
        })
        .is_ok()
    );
    for (limits, problem) in [
        (
            DecodeLimits {
                bytes: bytes - 1,
                ..usual
            },
            "at most 1007 bytes, found 1008",
        ),
        (
            DecodeLimits { side: 23, ..usual },
            "sides of at most 23 and",
        ),
        (
            DecodeLimits {
                pixels: 24 * 17 - 1,
                ..usual
            },
            "at most 407 pixels, found 24×17",
        ),
    ] {
        let error = decode(&limits).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn what_is_no_image_is_told_by_its_first_bytes() {
    for (bytes, found) in [
        (&b""[..], "found no bytes"),
        (b"hello", "found bytes that begin with 68 65 6c 6c 6f"),
        (
            b"\0\0\x01\0icons are not read",
            "found bytes that begin with 00 00 01 00",
        ),
        (b"qoif neither", "JPEG, PNG, WebP, BMP, TIFF, GIF"),
        (b"\xff\xd8\xff", "JPEG: cut off"),
    ] {
        let error = rgb(bytes).unwrap_err();
        assert!(error.contains(found), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0..6_usize) {
        let magic: &[u8] = [
            &b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\x01\0\0WEBPVP8 ", b"BM", b"II*\0", b"GIF89a",
        ][start];
        prop_assert!(rgb(&[magic, &bytes].concat()).is_err());
    }

    /// Most damaged files cannot be told from others; what matters is that each is read or refused.
    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(names()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file(&name);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let limits = DecodeLimits { pixels: 1 << 20, ..DecodeLimits::default() };
        if let Err(error) = decode(&bytes, Colors::Rgb, &limits) {
            prop_assert!(error.to_string().len() > 10);
        }
    }
}
