//! Image files to 8-bit images.
//!
//! | format | read |
//! |---|---|
//! | JPEG | baseline and progressive; gray, YCbCr, RGB, CMYK and YCCK; EXIF orientation |
//! | PNG | 1 to 16 bits; gray, colours, palette, opacity; EXIF orientation; of an animation the default image |
//! | WebP | lossy and lossless, opacity, EXIF orientation; of an animation the first frame |
//! | BMP | 1 to 32 bits, palette |
//! | TIFF | the first page: 1 (gray), 8 and 16 bits; gray, RGB, CMYK, opacity; orientation; no palette |
//! | GIF | the first frame on its screen |
//!
//! The format is told by the first bytes, never by a name. Dialect: Pillow's `convert("RGB")` and
//! `convert("L")` after `ImageOps.exif_transpose`: opacity is dropped, of 16 bits the upper eight stay,
//! gray is that of [`Grayscale`](crate::Grayscale). Colour profiles are not applied.
//!
//! A file that was cut off or whose structure is damaged is an error. Damage inside a JPEG's scan shows in the
//! picture and cannot be told from one, as in Pillow.
//!
//! What is lossless is equal to Pillow's value for value; `tests/decoding.rs` states how near the rest is.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::{bmp, gif, jpeg, png, tiff, webp};
use image::{DynamicImage, ImageDecoder, ImageFormat};
use serde::{Deserialize, Serialize};

use crate::image::{LONGEST_SIDE, MOST_PIXELS, check_size};
use crate::ops::gray;
use crate::workers::text;
use crate::{Error, Image};

/// The colours that a decoded image has, whatever its file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colors {
    /// One channel.
    Gray,
    /// Red, green and blue.
    #[default]
    Rgb,
}

impl Colors {
    /// Values a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// What a file may ask for. All are checked before memory for pixels is allocated; decoding takes at
/// most some 24 bytes a pixel beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of the file: 64 MiB unless told otherwise.
    pub bytes: usize,
    /// Pixels of a side: 65,535 unless told otherwise, which an [`Image`] cannot exceed.
    pub side: usize,
    /// Pixels: 2²⁶ unless told otherwise.
    pub pixels: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 26,
            side: LONGEST_SIDE,
            pixels: 1 << 26,
        }
    }
}

impl DecodeLimits {
    fn check(&self, width: u32, height: u32) -> Result<(), String> {
        let [width, height] = [width as usize, height as usize];
        let (side, pixels) = (self.side.min(LONGEST_SIDE), self.pixels.min(MOST_PIXELS));
        if width.max(height) > side || width.saturating_mul(height) > pixels {
            return Err(format!(
                "expected sides of at most {side} and at most {pixels} pixels, found {width}×{height}"
            ));
        }
        check_size(width, height)
    }

    /// For the codec: the picture of up to 8 bytes a pixel, once more for what is under way, and
    /// what formats keep beside it.
    fn of_codec(&self, width: u32, height: u32) -> image::Limits {
        let mut limits = image::Limits::no_limits();
        let pixels = u64::from(width) * u64::from(height);
        limits.max_alloc = Some(16 * pixels + (self.bytes as u64).min(1 << 26));
        limits
    }
}

/// Decodes a file's bytes.
///
/// # Errors
/// If they are none of the formats above, are cut off or damaged, or exceed a limit: says what was found
/// and what was expected. Bytes that the codec panics at are an error too.
pub fn decode(bytes: &[u8], colors: Colors, limits: &DecodeLimits) -> Result<Image, Error> {
    if bytes.len() > limits.bytes {
        return Err(Error::Decode(format!(
            "expected a file of at most {} bytes, found {}",
            limits.bytes,
            bytes.len()
        )));
    }
    let format = format(bytes)?;
    // Nothing outlives a panic here but the caller's bytes, which are only read.
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes, format, limits)));
    let picture = read.unwrap_or_else(|panic| {
        let message = text(&*panic);
        Err(format!("the decoder gave up on these bytes: {message}"))
    });
    picture
        .and_then(|picture| convert(picture, colors))
        .map_err(|problem| Error::Decode(format!("{}: {problem}", name(format))))
}

fn format(bytes: &[u8]) -> Result<ImageFormat, Error> {
    const READ: [ImageFormat; 6] = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Gif,
    ];
    let known = image::guess_format(bytes).ok();
    known.filter(|format| READ.contains(format)).ok_or_else(|| {
        let names = READ.map(name).join(", ");
        let found = match bytes {
            [] => "no bytes".into(),
            bytes => {
                let first = bytes.iter().take(8).map(|byte| format!("{byte:02x}"));
                format!(
                    "bytes that begin with {}",
                    first.collect::<Vec<_>>().join(" ")
                )
            }
        };
        Error::Decode(format!("expected one of {names}, found {found}"))
    })
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "GIF",
    }
}

fn read(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<DynamicImage, String> {
    fn said(error: image::ImageError) -> String {
        error.to_string()
    }
    let file = Cursor::new(bytes);
    match format {
        ImageFormat::Jpeg => {
            expect_end_of_jpeg(bytes)?;
            finish(jpeg::JpegDecoder::new(file).map_err(said)?, limits)
        }
        ImageFormat::Png => {
            // This decoder wants its limit before it knows the size. What is not the picture is small.
            let mut codec = image::Limits::no_limits();
            codec.max_alloc = Some(1 << 26);
            finish(
                png::PngDecoder::with_limits(file, codec).map_err(said)?,
                limits,
            )
        }
        ImageFormat::WebP => finish(webp::WebPDecoder::new(file).map_err(said)?, limits),
        ImageFormat::Bmp => finish(bmp::BmpDecoder::new(file).map_err(said)?, limits),
        ImageFormat::Tiff => finish(tiff::TiffDecoder::new(file).map_err(said)?, limits),
        _ => finish(gif::GifDecoder::new(file).map_err(said)?, limits),
    }
}

fn finish(mut decoder: impl ImageDecoder, limits: &DecodeLimits) -> Result<DynamicImage, String> {
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    let mut read = || {
        decoder.set_limits(limits.of_codec(width, height))?;
        decoder.orientation()
    };
    let orientation = read().map_err(|error| error.to_string())?;
    let picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string());
    picture.map(|mut picture| {
        picture.apply_orientation(orientation);
        picture
    })
}

/// The decoder fills what is missing of a file that was cut off with gray. No scan can hold the end marker's
/// two bytes, so its absence after the start of the first one tells.
fn expect_end_of_jpeg(bytes: &[u8]) -> Result<(), String> {
    const START_OF_SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let cut = || {
        format!(
            "cut off: expected an end marker (ff d9), found none in {} bytes",
            bytes.len()
        )
    };
    let mut rest = bytes.get(2..).ok_or_else(cut)?;
    // Segments before the scan may hold another JPEG, a preview, with an end of its own.
    loop {
        match *rest {
            // A marker may be filled up with ff.
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, START_OF_SCAN, ref scan @ ..] => {
                let ended = scan.windows(2).any(|pair| pair == END);
                return ended.then_some(()).ok_or_else(cut);
            }
            [0xff, _, high, low, ..] => {
                let length = 2 + usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(length..).ok_or_else(cut)?;
            }
            // No segment: the decoder tells what it makes of it.
            [_, _, ..] => return Ok(()),
            _ => return Err(cut()),
        }
    }
}

/// To 8 bits, then to the colours asked for.
fn convert(picture: DynamicImage, colors: Colors) -> Result<Image, String> {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (channels, pixels) = match picture {
        DynamicImage::ImageLuma8(image) => (1, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (2, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (3, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (4, image.into_raw()),
        DynamicImage::ImageLuma16(image) => (1, upper(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => (2, upper(image.into_raw())),
        DynamicImage::ImageRgb16(image) => (3, upper(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (4, upper(image.into_raw())),
        other => {
            let found = other.color();
            return Err(format!(
                "expected whole numbers of 1 to 16 bits, found {found:?}"
            ));
        }
    };
    let pixels = match (channels, colors) {
        (1, Colors::Gray) | (3, Colors::Rgb) => pixels,
        (2, Colors::Gray) => pixels.into_iter().step_by(channels).collect(),
        (1 | 2, Colors::Rgb) => {
            let levels = pixels.into_iter().step_by(channels);
            levels.flat_map(|level| [level; 3]).collect()
        }
        (_, Colors::Gray) => {
            let colours = pixels.chunks_exact(channels);
            colours.map(|c| gray([c[0], c[1], c[2]])).collect()
        }
        (_, Colors::Rgb) => {
            let colours = pixels.chunks_exact(channels);
            colours.flat_map(|c| [c[0], c[1], c[2]]).collect()
        }
    };
    Image::new(width, height, colors.channels(), pixels).map_err(|error| error.to_string())
}
