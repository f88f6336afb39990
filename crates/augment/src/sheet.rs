//! Contact sheets: images beside augmented views of them, with what was drawn under each.
//!
//! Small images are enlarged by whole factors, so that pixels stay to be seen; large ones are shrunk to fit.
//! Text is in the public domain's 8×8 bitmap font of the crate `font8x8`: a sheet needs letters that can be
//! read, not typesetting.

use std::io::Cursor;

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::Value;

use crate::image::check_size;
use crate::{Error, Filter, Image, Parameters, Pipeline, Resized, Stream};

/// An image and views of it, side by side.
#[derive(Clone, Debug)]
pub struct SheetRow {
    /// What stands under the image: its class and name, say, a line each.
    pub title: Vec<String>,
    /// The image.
    pub original: Image,
    /// Its views.
    pub views: Vec<SheetView>,
}

/// A picture and what was drawn to make it.
#[derive(Clone, Debug)]
pub struct SheetView {
    /// The picture.
    pub image: Image,
    /// What was drawn.
    pub parameters: Vec<Parameters>,
}

impl SheetView {
    /// The view of an image with this label that this stream gives.
    ///
    /// # Errors
    /// If the pipeline does not fit the image.
    pub fn new(
        pipeline: &Pipeline,
        image: &Image,
        label: u32,
        stream: Stream,
    ) -> Result<Self, Error> {
        let parameters = pipeline.draw_for(label, image.width(), image.height(), stream)?;
        Ok(Self {
            image: Pipeline::replay(image, &parameters)?,
            parameters,
        })
    }
}

/// The longest side of a picture on a sheet: 23 letters.
const CELL: usize = 184;
const MARGIN: usize = 12;
const LETTER: usize = 8;
/// From line to line of text.
const LEADING: usize = 11;
/// From a picture to its text.
const GAP: usize = 6;
const PAPER: u8 = 255;
const NAME: [u8; 3] = [20, 20, 20];
const VALUE: [u8; 3] = [100, 100, 100];

/// A piece of text in one colour.
type Words = Vec<(String, [u8; 3])>;

/// Draws a sheet, a row an image: a colour image.
///
/// # Errors
/// If there is nothing to show, or the sheet would be larger than an [`Image`] can be.
pub fn sheet(rows: &[SheetRow]) -> Result<Image, Error> {
    let columns = rows.iter().map(|row| 1 + row.views.len()).max();
    let Some(columns) = columns else {
        return Err(Error::Image(
            "sheet: expected images to show, found none".into(),
        ));
    };
    let drawn: Vec<Drawn> = rows.iter().map(SheetRow::drawn).collect();
    let width = MARGIN + columns * (CELL + MARGIN);
    let height = MARGIN + drawn.iter().map(|row| row.height() + MARGIN).sum::<usize>();
    check_size(width, height).map_err(|problem| Error::Image(format!("sheet: {problem}")))?;
    let mut canvas = Canvas {
        width,
        pixels: vec![PAPER; 3 * width * height],
    };
    let mut top = MARGIN;
    for row in &drawn {
        for (column, (picture, lines)) in row.cells.iter().enumerate() {
            let left = MARGIN + column * (CELL + MARGIN);
            canvas.picture(left, top, picture);
            // Captions of a row begin on one line.
            let below = top + row.pictures() + GAP;
            for (line, words) in lines.iter().enumerate() {
                canvas.text(left, below + line * LEADING, words);
            }
        }
        top += row.height() + MARGIN;
    }
    Image::new(width, height, 3, canvas.pixels)
}

/// An image as PNG.
///
/// # Errors
/// None that is known: the format holds all images.
pub fn to_png(image: &Image) -> Result<Vec<u8>, Error> {
    let color = [
        ExtendedColorType::L8,
        ExtendedColorType::La8,
        ExtendedColorType::Rgb8,
        ExtendedColorType::Rgba8,
    ][image.channels() - 1];
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = (image.width() as u32, image.height() as u32);
    PngEncoder::new(&mut bytes)
        .write_image(image.pixels(), width, height, color)
        .map_err(|error| Error::Image(format!("PNG: {error}")))?;
    Ok(bytes.into_inner())
}

/// A row with its pictures at their size on the sheet and its text in lines.
struct Drawn {
    cells: Vec<(Image, Vec<Words>)>,
}

impl Drawn {
    /// The height of its highest picture.
    fn pictures(&self) -> usize {
        let heights = self.cells.iter().map(|(picture, _)| picture.height());
        heights.max().unwrap_or(0)
    }

    fn height(&self) -> usize {
        let lines = self.cells.iter().map(|(_, lines)| lines.len());
        self.pictures() + GAP + LEADING * lines.max().unwrap_or(0)
    }
}

impl SheetRow {
    fn drawn(&self) -> Drawn {
        let size = format!("{}×{}", self.original.width(), self.original.height());
        let title = self.title.iter().chain([&size]).enumerate();
        let title =
            title.map(|(line, text)| vec![(text.clone(), if line == 0 { NAME } else { VALUE })]);
        let wrap = |lines: Vec<Words>| lines.iter().flat_map(wrapped).collect();
        let views = self.views.iter();
        let views = views.map(|view| (fitted(&view.image), wrap(captions(&view.parameters, 0))));
        let original = (fitted(&self.original), wrap(title.collect()));
        Drawn {
            cells: [original].into_iter().chain(views).collect(),
        }
    }
}

/// In colours, at its size on the sheet.
fn fitted(image: &Image) -> Image {
    let longest = image.width().max(image.height());
    let factor = CELL / longest;
    let (width, height) = match factor {
        0 => {
            let side = |side: usize| (side * CELL / longest).max(1);
            (side(image.width()), side(image.height()))
        }
        factor => (factor * image.width(), factor * image.height()),
    };
    let resize = Parameters::Resize(Resized {
        width,
        height,
        filter: if factor == 0 {
            Filter::Bilinear
        } else {
            Filter::Nearest
        },
        antialias: true,
    });
    let mut fitted = image.clone();
    resize.apply(&mut fitted, &mut Vec::new());
    fitted
}

/// A line for each operation: its name, then what it drew; operations inside one below it, further in.
fn captions(parameters: &[Parameters], depth: usize) -> Vec<Words> {
    let mut lines = Vec::new();
    for step in parameters {
        let mut words = vec![(format!("{}{}", " ".repeat(depth), step.name()), NAME)];
        let nested = step.nested();
        if let Ok(Value::Object(fields)) = serde_json::to_value(step) {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "op") {
                // What is inside is told by lines of its own.
                if nested.is_empty() || !holds_operations(value) {
                    words.push((format!("{name}={}", short(value)), VALUE));
                }
            }
        }
        lines.push(words);
        for list in nested {
            lines.extend(captions(list, depth + 1));
        }
    }
    lines
}

fn holds_operations(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(holds_operations),
        Value::Object(fields) => fields.contains_key("op") || fields.values().any(holds_operations),
        _ => false,
    }
}

/// A value in few letters: numbers to three digits.
fn short(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => {
                let text = format!("{float:.3}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(short).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", short(value)));
            fields.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// Breaks a line between words, and words that are longer than a line anywhere; what follows the first line
/// is set in a letter further.
fn wrapped(words: &Words) -> Vec<Words> {
    const MOST: usize = CELL / LETTER;
    let depth = |text: &String| text.chars().take_while(|letter| *letter == ' ').count();
    let further = 1 + words
        .first()
        .map_or(0, |(text, _)| depth(text))
        .min(MOST / 2);
    let mut lines: Vec<Words> = vec![Vec::new()];
    // Letters of the last line, and whether a word is among them.
    let (mut used, mut begun) = (0, false);
    for (word, color) in words {
        let mut letters: Vec<char> = word.chars().collect();
        while !letters.is_empty() {
            let space = usize::from(begun);
            if begun && used + space + letters.len() > MOST {
                lines.push(vec![(" ".repeat(further), *color)]);
                (used, begun) = (further, false);
                continue;
            }
            let count = letters.len().min(MOST - used - space);
            let rest = letters.split_off(count);
            let text: String = letters.into_iter().collect();
            if let Some(line) = lines.last_mut() {
                line.push((" ".repeat(space) + &text, *color));
            }
            (used, begun) = (used + space + count, true);
            letters = rest;
        }
    }
    lines
}

struct Canvas {
    width: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width
            && let Some(pixel) = self
                .pixels
                .get_mut(3 * (y * self.width + x)..)
                .and_then(|p| p.get_mut(..3))
        {
            pixel.copy_from_slice(&color);
        }
    }

    fn picture(&mut self, left: usize, top: usize, picture: &Image) {
        for y in 0..picture.height() {
            for x in 0..picture.width() {
                let pixel = picture.pixel(x, y);
                let color = match *pixel {
                    [red, green, blue, ..] => [red, green, blue],
                    _ => [pixel[0]; 3],
                };
                self.set(left + x, top + y, color);
            }
        }
    }

    fn text(&mut self, left: usize, top: usize, words: &Words) {
        let letters = words
            .iter()
            .flat_map(|(text, color)| text.chars().map(move |letter| (letter, *color)));
        for (place, (letter, color)) in letters.enumerate() {
            let glyph = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
            let glyph = glyph.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default();
            for (y, row) in glyph.into_iter().enumerate() {
                for x in (0..LETTER).filter(|x| row >> x & 1 == 1) {
                    self.set(left + place * LETTER + x, top + y, color);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Colors, DecodeLimits, Sample, decode};

    fn row(width: usize, height: usize, channels: usize, pipeline: &str, views: usize) -> SheetRow {
        let pixels = (0..width * height * channels)
            .map(|i| (i % 200) as u8)
            .collect();
        let original = Image::new(width, height, channels, pixels).unwrap();
        let pipeline: Pipeline = toml::from_str(pipeline).unwrap();
        let view = |epoch| {
            let stream = Stream::new(1, Sample { epoch, index: 0 });
            SheetView::new(&pipeline, &original, 0, stream).unwrap()
        };
        SheetRow {
            title: vec![
                "a class".into(),
                "a/rather/long/name/that/is/broken.png".into(),
            ],
            views: (0..views as u64).map(view).collect(),
            original,
        }
    }

    const PIPELINE: &str = r#"
        operations = [
            { op = "random_crop", height = 5, width = 9, padding = 2 },
            { op = "trivial_augment" },
        ]
        normalize = { mean = [0.0], std = [1.0] }
    "#;

    #[test]
    fn pictures_stand_side_by_side_and_survive_png() {
        let rows = [
            row(9, 5, 3, PIPELINE, 2),
            row(500, 300, 1, PIPELINE, 1),
            row(40, 30, 2, PIPELINE, 3),
        ];
        let sheet = sheet(&rows).unwrap();
        assert_eq!(sheet.width(), MARGIN + 4 * (CELL + MARGIN));
        // The first original is enlarged 20 times.
        let original = &rows[0].original;
        for (x, y) in [(0, 0), (8, 4), (3, 2)] {
            for inside in [0, 19] {
                let pixel = sheet.pixel(MARGIN + 20 * x + inside, MARGIN + 20 * y + inside);
                assert_eq!(pixel, original.pixel(x, y));
            }
        }
        let view = sheet.pixel(MARGIN + CELL + MARGIN, MARGIN);
        assert_eq!(view, rows[0].views[0].image.pixel(0, 0));
        let decoded = decode(
            &to_png(&sheet).unwrap(),
            Colors::Rgb,
            &DecodeLimits::default(),
        );
        assert_eq!(decoded.unwrap(), sheet);
        assert_eq!(sheet, super::sheet(&rows).unwrap());
    }

    #[test]
    fn captions_tell_all_that_was_drawn_within_the_cell() {
        let row = row(9, 5, 3, PIPELINE, 1);
        let lines = captions(&row.views[0].parameters, 0);
        let text = |words: &Words| {
            let words: Vec<&str> = words.iter().map(|(word, _)| &**word).collect();
            words.join(" ")
        };
        let crop = text(&lines[0]);
        assert!(crop.starts_with("random_crop height=5 left="), "{crop}");
        assert!(
            crop.contains("mode=constant:0 top=") && crop.ends_with("width=9"),
            "{crop}"
        );
        assert_eq!(text(&lines[1]), "trivial_augment");
        assert!(lines[2][0].0.starts_with(' '), "{:?}", lines[2]);
        for words in lines.iter().flat_map(wrapped) {
            let letters: usize = words.iter().map(|(word, _)| word.chars().count()).sum();
            assert!((1..=CELL / LETTER).contains(&letters), "{words:?}");
        }
        let long: Words = vec![("x".repeat(50), NAME), ("y".into(), VALUE)];
        let joined: String = wrapped(&long)
            .concat()
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        assert_eq!(joined.replace(' ', ""), "x".repeat(50) + "y");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(sheet(&[]).unwrap_err().to_string().contains("found none"));
        let rows = vec![row(9, 9, 1, PIPELINE, 0); 400];
        assert!(
            sheet(&rows)
                .unwrap_err()
                .to_string()
                .contains("sheet: expected sides")
        );
    }
}
