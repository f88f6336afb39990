//! `evaluation.json`: what a report shows of the trained model and of its augmentation.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::Quality;
use crate::number::number;

/// The trained model on the test data, and the views it was trained with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `[truth][predicted]` counts.
    pub confusion: Vec<Vec<u64>>,
    /// Accuracy and calibration; none in runs of older versions.
    #[serde(default)]
    pub quality: Option<Quality>,
    /// The wrong predictions, most confident first.
    pub mistakes: Vec<Mistake>,
    /// Some training images beside random views of them.
    pub sheet: Vec<SheetRow>,
}

/// One wrong prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The example, if it is an image.
    pub picture: Option<Picture>,
    /// Its index in the test data.
    pub index: usize,
    /// Its class.
    pub truth: usize,
    /// The class predicted.
    pub predicted: usize,
    /// The probability given to it.
    #[serde(deserialize_with = "number")]
    pub confidence: f64,
}

/// One training image and views of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SheetRow {
    /// Its class.
    pub label: usize,
    /// The image as it is.
    pub original: Picture,
    /// As training sees it.
    pub views: Vec<Picture>,
}

/// A small 8-bit image: rows of interleaved channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Picture {
    width: u32,
    height: u32,
    channels: u32,
    pixels: Vec<u8>,
}

impl Picture {
    /// # Errors
    /// If there are not 1 or 3 channels, a side is not in 1..=4096, or the pixels are too few or
    /// too many.
    pub fn new(width: u32, height: u32, channels: u32, pixels: Vec<u8>) -> Result<Self, String> {
        let side = 1..=4096;
        if !side.contains(&width) || !side.contains(&height) || !matches!(channels, 1 | 3) {
            return Err(format!(
                "a picture of {width}×{height}×{channels}: expected sides of 1 to 4096 and 1 or 3 \
                 channels"
            ));
        }
        let expected = width as usize * height as usize * channels as usize;
        if pixels.len() != expected {
            return Err(format!(
                "a picture: expected {expected} bytes, found {}",
                pixels.len()
            ));
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// 1 (gray) or 3 (red, green, blue).
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// The bytes, row by row, channels interleaved.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    width: u32,
    height: u32,
    channels: u32,
    base64: String,
}

impl From<Picture> for Stored {
    fn from(picture: Picture) -> Self {
        let Picture {
            width,
            height,
            channels,
            pixels,
        } = picture;
        Self {
            width,
            height,
            channels,
            base64: BASE64_STANDARD.encode(pixels),
        }
    }
}

impl TryFrom<Stored> for Picture {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let pixels = BASE64_STANDARD.decode(stored.base64);
        let pixels = pixels.map_err(|error| format!("a picture's base64: {error}"))?;
        Self::new(stored.width, stored.height, stored.channels, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_and_lies_are_refused() {
        let picture = Picture::new(2, 1, 3, vec![0, 1, 2, 253, 254, 255]).unwrap();
        let text = serde_json::to_string(&picture).unwrap();
        assert_eq!(serde_json::from_str::<Picture>(&text).unwrap(), picture);
        let lie = text.replace("\"width\":2", "\"width\":3");
        let error = serde_json::from_str::<Picture>(&lie)
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected 9 bytes, found 6"), "{error}");
        assert!(Picture::new(100_000, 100_000, 3, Vec::new()).is_err());
        assert!(Picture::new(1, 1, 2, vec![0; 2]).is_err());
    }

    #[test]
    fn a_confidence_that_is_no_number_can_be_read_again() {
        let mistake = Mistake {
            picture: None,
            index: 3,
            truth: 1,
            predicted: 0,
            confidence: f64::NAN,
        };
        let text = serde_json::to_string(&mistake).unwrap();
        let read: Mistake = serde_json::from_str(&text).unwrap();
        assert!(read.confidence.is_nan() && read.index == 3);
    }
}
