//! Pictures as PNG in data URIs.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use evenkeel_record::Picture;

use crate::html::escape;

/// An `img` element; empty where the picture cannot be encoded.
pub fn image(picture: &Picture, alternative: &str) -> String {
    let Some(bytes) = encode(picture) else {
        return String::new();
    };
    format!(
        "<img alt=\"{}\" src=\"data:image/png;base64,{}\">",
        escape(alternative),
        BASE64_STANDARD.encode(bytes)
    )
}

fn encode(picture: &Picture) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(if picture.channels() == 1 {
        png::ColorType::Grayscale
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(picture.pixels()).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gray_and_color_survive() {
        for (channels, pixels) in [(1, vec![0, 255]), (3, vec![1, 2, 3, 4, 5, 6])] {
            let picture = Picture::new(2, 1, channels, pixels.clone()).unwrap();
            let bytes = encode(&picture).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
                .read_info()
                .unwrap();
            let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut decoded).unwrap();
            assert_eq!(decoded, pixels);
        }
    }
}
