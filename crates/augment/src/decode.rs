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

use image::codecs::{self, bmp, gif, png, tiff, webp};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};

mod jpeg;

use self::jpeg::Jpeg;
pub(crate) use self::jpeg::{JpegMemory, Part};
use crate::image::{LONGEST_SIDE, MOST_PIXELS, check_size};
use crate::ops::{Geometry, gray};
use crate::workers::text;
use crate::{Error, Image, Size};

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
    Encoded::open(bytes, colors, limits)?.decode()
}

/// A file's bytes with what is known of the picture before it is decoded.
///
/// Of a baseline JPEG that is its size, and any part of it can be decoded, at its size or at ½, ¼ or ⅛ of it; the part
/// at its size is equal to that part of the whole. All other files are decoded when they are opened.
pub struct Encoded<'a> {
    bytes: &'a [u8],
    colors: Colors,
    limits: DecodeLimits,
    size: Size,
    state: State<'a>,
}

enum State<'a> {
    Headers(Box<Jpeg<'a>>),
    Decoded(Image),
}

impl<'a> Encoded<'a> {
    /// # Errors
    /// As [`decode`]; what is wrong behind a JPEG's headers is found when it is decoded.
    pub fn open(bytes: &'a [u8], colors: Colors, limits: &DecodeLimits) -> Result<Self, Error> {
        if bytes.len() > limits.bytes {
            return Err(Error::Decode(format!(
                "expected a file of at most {} bytes, found {}",
                limits.bytes,
                bytes.len()
            )));
        }
        let format = format(bytes)?;
        let limits = *limits;
        let of = |size, state| Self {
            bytes,
            colors,
            limits,
            size,
            state,
        };
        if format == ImageFormat::Jpeg
            && let Some(jpeg) = Jpeg::open(bytes)
        {
            let (width, height) = jpeg.size();
            limits
                .check(width as u32, height as u32)
                .and_then(|()| expect_end_of_jpeg(bytes))
                .map_err(|problem| Error::Decode(format!("{}: {problem}", name(format))))?;
            let size = oriented(jpeg.orientation, Size::new(width, height));
            return Ok(of(size, State::Headers(Box::new(jpeg))));
        }
        let image = decode_whole(bytes, format, colors, &limits)?;
        let size = Size::new(image.width(), image.height());
        Ok(of(size, State::Decoded(image)))
    }

    /// Columns and rows, its orientation applied.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Values a pixel.
    pub fn channels(&self) -> usize {
        self.colors.channels()
    }

    /// Decodes all of it.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(self) -> Result<Image, Error> {
        let Size { width, height } = self.size;
        let whole = Part {
            left: 0,
            top: 0,
            width,
            height,
        };
        self.decode_part(whole, 1, Vec::new(), &mut JpegMemory::default())
    }

    /// Decodes what a resampling of the picture takes of it, and resamples that: unless `exact`, at a fraction of its size
    /// or before colours are made, where the file and the resampling allow it. `pixels` may become its pixels.
    ///
    /// # Errors
    /// As [`decode`].
    pub(crate) fn resample(
        self,
        mut geometry: Geometry,
        exact: bool,
        mut pixels: Vec<u8>,
        scratch: &mut Vec<u8>,
        memory: &mut JpegMemory,
    ) -> Result<Image, Error> {
        let mut shrink = 1;
        if let State::Headers(jpeg) = &self.state
            && !exact
        {
            shrink = geometry.shrink();
            if is_as_wanted(jpeg, self.colors) && geometry.takes_planes() {
                let pixels = std::mem::take(&mut pixels);
                let read = || {
                    let pixels = jpeg.resample(geometry, shrink, pixels, memory)?;
                    let Size { width, height } = geometry.output();
                    Image::new(width, height, jpeg.channels(), pixels).ok()
                };
                if let Ok(Some(image)) = catch_unwind(AssertUnwindSafe(read)) {
                    return Ok(image);
                }
            }
        }
        let part = geometry.part([shrink; 2], self.shrunk(shrink));
        let mut image = self.decode_part(part, shrink, pixels, memory)?;
        geometry.apply(&mut image, scratch);
        Ok(image)
    }

    /// Columns and rows at one part in `shrink` (1, 2, 4 or 8) of its size.
    fn shrunk(&self, shrink: usize) -> Size {
        let Size { width, height } = self.size;
        Size::new(width.div_ceil(shrink), height.div_ceil(shrink))
    }

    /// Decodes a part, given in pixels of the shrunk picture, inside it. What cannot shrink has a `shrink` of 1.
    /// `pixels` may become its pixels.
    fn decode_part(
        self,
        part: Part,
        shrink: usize,
        pixels: Vec<u8>,
        memory: &mut JpegMemory,
    ) -> Result<Image, Error> {
        let image = match &self.state {
            State::Headers(jpeg) => {
                let read = || fast(jpeg, part, shrink, self.colors, pixels, memory);
                match catch_unwind(AssertUnwindSafe(read)).ok().flatten() {
                    Some(image) => return Ok(image),
                    // Damaged: the general decoder has the last word.
                    None => decode_whole(self.bytes, ImageFormat::Jpeg, self.colors, &self.limits)?,
                }
            }
            State::Decoded(_) => {
                let State::Decoded(image) = self.state else {
                    unreachable!("as it was a moment ago")
                };
                image
            }
        };
        Ok(crop(image, part, shrink))
    }
}

fn decode_whole(
    bytes: &[u8],
    format: ImageFormat,
    colors: Colors,
    limits: &DecodeLimits,
) -> Result<Image, Error> {
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

/// Whether it need be neither turned nor given other colours.
fn is_as_wanted(jpeg: &Jpeg<'_>, colors: Colors) -> bool {
    jpeg.orientation == Orientation::NoTransforms && jpeg.channels() == colors.channels()
}

/// The part of a picture, as it is seen when its orientation is applied.
fn fast(
    jpeg: &Jpeg<'_>,
    part: Part,
    shrink: usize,
    colors: Colors,
    pixels: Vec<u8>,
    memory: &mut JpegMemory,
) -> Option<Image> {
    let stored = stored(jpeg.orientation, part, jpeg.shrunk(shrink));
    let pixels = jpeg.decode(stored, shrink, pixels, memory)?;
    let channels = jpeg.channels();
    if is_as_wanted(jpeg, colors) {
        return Image::new(part.width, part.height, channels, pixels).ok();
    }
    let (width, height) = (stored.width as u32, stored.height as u32);
    let mut picture = match channels {
        1 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels)?),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels)?),
    };
    picture.apply_orientation(jpeg.orientation);
    convert(picture, colors).ok()
}

/// Whether columns become rows.
fn turns(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

fn oriented(orientation: Orientation, Size { width, height }: Size) -> Size {
    match turns(orientation) {
        true => Size::new(height, width),
        false => Size::new(width, height),
    }
}

/// Where in the file, which has this many columns and rows, a part of the oriented picture is.
fn stored(orientation: Orientation, part: Part, (width, height): (usize, usize)) -> Part {
    use Orientation::*;
    let Part {
        left,
        top,
        width: w,
        height: h,
    } = part;
    let of = |left, top, width, height| Part {
        left,
        top,
        width,
        height,
    };
    match orientation {
        NoTransforms => part,
        FlipHorizontal => of(width - left - w, top, w, h),
        FlipVertical => of(left, height - top - h, w, h),
        Rotate180 => of(width - left - w, height - top - h, w, h),
        Rotate90 => of(top, height - left - w, h, w),
        Rotate270 => of(width - top - h, left, h, w),
        Rotate90FlipH => of(top, left, h, w),
        Rotate270FlipH => of(width - top - h, height - left - w, h, w),
    }
}

/// A part of a decoded picture, brought to a fraction of its size.
fn crop(mut image: Image, part: Part, shrink: usize) -> Image {
    let mut scratch = Vec::new();
    if shrink > 1 {
        let size = [image.width(), image.height()].map(|side| side.div_ceil(shrink));
        crate::ops::shrink(&mut image, Size::new(size[0], size[1]), &mut scratch);
    }
    if (part.width, part.height) == (image.width(), image.height()) {
        return image;
    }
    image.part(part, scratch)
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
            finish(codecs::jpeg::JpegDecoder::new(file).map_err(said)?, limits)
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
                let ended = scan.ends_with(&END) || scan.windows(2).any(|pair| pair == END);
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

#[cfg(test)]
mod tests {
    use super::jpeg::resampled::tests::any_window;
    use super::*;
    use crate::ops::Parameters;
    use evenkeel_random::{Draws, Key};
    use std::fs;
    use std::path::Path;

    fn file(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/encoded");
        fs::read(folder.join(name)).unwrap()
    }

    fn jpegs() -> Vec<String> {
        let turned = (1..=8).map(|turn| format!("turned-{turn}.jpg"));
        let others = [
            "gray",
            "pixel",
            "q30-s2",
            "q75-s1",
            "q75-s2",
            "q90-s0",
            "restarts",
            "progressive",
        ];
        turned
            .chain(others.map(|name| format!("{name}.jpg")))
            .collect()
    }

    fn open(bytes: &[u8], colors: Colors) -> Encoded<'_> {
        Encoded::open(bytes, colors, &DecodeLimits::default()).unwrap()
    }

    #[test]
    fn parts_are_those_of_the_whole_at_every_size() {
        let mut draws = Key::from_seed(3).draws();
        for name in jpegs() {
            let bytes = file(&name);
            for colors in [Colors::Rgb, Colors::Gray] {
                for shrink in [1, 2, 4, 8] {
                    let Size { width, height } = open(&bytes, colors).shrunk(shrink);
                    let part = |left, top, width, height| Part {
                        left,
                        top,
                        width,
                        height,
                    };
                    let get = |part| {
                        open(&bytes, colors)
                            .decode_part(part, shrink, vec![9; 5], &mut JpegMemory::default())
                            .unwrap()
                    };
                    let whole = get(part(0, 0, width, height));
                    for _ in 0..40 {
                        let mut side = |of: usize| {
                            let length = 1 + draws.below(of as u32) as usize;
                            (draws.below((of - length + 1) as u32) as usize, length)
                        };
                        let ((left, w), (top, h)) = (side(width), side(height));
                        let found = get(part(left, top, w, h));
                        assert_eq!((found.width(), found.height()), (w, h));
                        for (x, y) in (0..w).flat_map(|x| (0..h).map(move |y| (x, y))) {
                            let expected = whole.pixel(left + x, top + y);
                            assert_eq!(found.pixel(x, y), expected, "{name} 1/{shrink} {x} {y}");
                        }
                    }
                }
            }
        }
    }

    fn any_geometry(size: Size, draws: &mut Draws) -> Geometry {
        let window = Parameters::RandomResizedCrop(any_window(size, draws));
        let mut geometry = Geometry::none(size);
        assert!(geometry.take(&window, false));
        geometry
    }

    /// Exact, it is the whole picture resampled, whatever the file; and else nearly, where it is not shrunk.
    #[test]
    fn files_are_resampled_as_their_pictures_are() {
        let mut draws = Key::from_seed(5).draws();
        for name in jpegs() {
            let bytes = file(&name);
            for colors in [Colors::Rgb, Colors::Gray] {
                let picture = open(&bytes, colors).decode().unwrap();
                let size = Size::new(picture.width(), picture.height());
                let (mut sum, mut count) = (0.0, 0);
                for _ in 0..20 {
                    let geometry = any_geometry(size, &mut draws);
                    let mut expected = picture.clone();
                    geometry.apply(&mut expected, &mut Vec::new());
                    let get = |exact| {
                        let (scratch, memory) = (&mut vec![7; 3], &mut JpegMemory::default());
                        let pixels = vec![9; 5];
                        let file = open(&bytes, colors);
                        file.resample(geometry, exact, pixels, scratch, memory)
                            .unwrap()
                    };
                    assert_eq!(get(true), expected, "{name} {geometry:?}");
                    let folded = get(false);
                    assert_eq!(
                        (folded.width(), folded.height()),
                        (expected.width(), expected.height())
                    );
                    if geometry.shrink() == 1 {
                        let pairs = folded.pixels().iter().zip(expected.pixels());
                        let apart: f64 = pairs.map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
                        (sum, count) = (sum + apart, count + folded.pixels().len());
                    }
                }
                // The pictures are small and sharp; photographs differ by some 0.3.
                assert!(sum < 5.0 * count as f64, "{name}: {}", sum / count as f64);
            }
        }
    }

    /// Of an 8×8 block of the whole picture, the lowest frequencies alone.
    fn lowest(block: &[[f64; 8]; 8], side: usize, x: usize, y: usize) -> f64 {
        use std::f64::consts::PI;
        // A sample of the shrunk block is a weighted mean of the whole one's, along each side.
        let weight = |n: usize, from: usize| -> f64 {
            let cos = |place: usize, of: usize, k: usize| {
                ((2 * place + 1) as f64 * k as f64 * PI / (2 * of) as f64).cos()
            };
            let terms = (1..side).map(|k| 2.0 * cos(n, side, k) * cos(from, 8, k));
            (1.0 + terms.sum::<f64>()) / 8.0
        };
        let places = (0..8).flat_map(|i| (0..8).map(move |j| (i, j)));
        places
            .map(|(i, j)| weight(x, i) * weight(y, j) * block[j][i])
            .sum()
    }

    #[test]
    fn shrunk_pictures_are_the_lowest_frequencies_of_whole_ones() {
        // Their colours are not subsampled, whose upsampling would count.
        for name in ["gray.jpg", "q90-s0.jpg"] {
            let bytes = file(name);
            let whole = open(&bytes, Colors::Rgb).decode().unwrap();
            for shrink in [2, 4, 8] {
                let Size { width, height } = open(&bytes, Colors::Rgb).shrunk(shrink);
                let part = Part {
                    left: 0,
                    top: 0,
                    width,
                    height,
                };
                let found = open(&bytes, Colors::Rgb)
                    .decode_part(part, shrink, vec![], &mut JpegMemory::default())
                    .unwrap();
                let side = 8 / shrink;
                let mut differences = Vec::new();
                for (x, y) in (0..whole.width() / 8 * side)
                    .flat_map(|x| (0..whole.height() / 8 * side).map(move |y| (x, y)))
                {
                    for channel in 0..3 {
                        let block: [[f64; 8]; 8] = std::array::from_fn(|j| {
                            std::array::from_fn(|i| {
                                let pixel = whole.pixel(x / side * 8 + i, y / side * 8 + j);
                                f64::from(pixel[channel])
                            })
                        });
                        let expected = lowest(&block, side, x % side, y % side).clamp(0.0, 255.0);
                        differences.push((f64::from(found.pixel(x, y)[channel]) - expected).abs());
                    }
                }
                // Levels that the whole picture clips differ.
                let mean = differences.iter().sum::<f64>() / differences.len() as f64;
                assert!(
                    mean < 1.5 && !differences.is_empty(),
                    "{name} 1/{shrink}: {mean:.2}"
                );
            }
        }
    }

    /// A panic would be caught; here it is not.
    #[test]
    fn damaged_files_make_no_panic() {
        let mut draws = Key::from_seed(9).draws();
        let mut memory = JpegMemory::default();
        let (mut whole, mut resampled, mut refused) = (0, 0, 0);
        for name in jpegs() {
            let bytes = file(&name);
            for _ in 0..1500 {
                let mut bytes = bytes.clone();
                for _ in 0..1 + draws.below(4) {
                    let at = draws.below(bytes.len() as u32) as usize;
                    bytes[at] = draws.below(256) as u8;
                }
                bytes.truncate(bytes.len() - draws.below(3) as usize * draws.below(40) as usize);
                let Some(jpeg) = Jpeg::open(&bytes) else {
                    refused += 1;
                    continue;
                };
                let (width, height) = jpeg.size();
                if width * height > 1 << 16 {
                    continue;
                }
                let shrink = 1 << draws.below(4);
                let (width, height) = jpeg.shrunk(shrink);
                let mut side = |of: usize| {
                    let length = 1 + draws.below(of as u32) as usize;
                    (draws.below((of - length + 1) as u32) as usize, length)
                };
                let ((left, width), (top, height)) = (side(width), side(height));
                let part = Part {
                    left,
                    top,
                    width,
                    height,
                };
                match jpeg.decode(part, shrink, Vec::new(), &mut memory) {
                    Some(pixels) => {
                        assert_eq!(pixels.len(), width * height * jpeg.channels());
                        whole += 1;
                    }
                    None => refused += 1,
                }
                let (width, height) = jpeg.size();
                let geometry = any_geometry(Size::new(width, height), &mut draws);
                if geometry.takes_planes() {
                    let Size { width, height } = geometry.output();
                    let found = jpeg.resample(geometry, geometry.shrink(), Vec::new(), &mut memory);
                    if let Some(pixels) = found {
                        assert_eq!(pixels.len(), width * height * jpeg.channels());
                        resampled += 1;
                    }
                }
            }
        }
        assert!(resampled > 1000, "{resampled}");
        assert!(whole > 1000 && refused > 1000, "{whole} {refused}");
    }

    #[test]
    fn baseline_files_are_not_decoded_before_their_part_is_known() {
        for name in jpegs() {
            let bytes = file(&name);
            let state = open(&bytes, Colors::Rgb).state;
            let waits = matches!(state, State::Headers(_));
            assert_eq!(waits, name != "progressive.jpg", "{name}");
        }
    }
}
