//! Hue: colours turn round the colour circle.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check, point};
use crate::Image;
use crate::size::{Size, Sizes};

/// The hue of each pixel, taken as 8 bits of a circle, grows by 255·shift, the fraction dropped.
/// Gray images, and gray pixels, stay as they are.
///
/// Dialect: torchvision's `adjust_hue` on a PIL image: Pillow's 8-bit HSV, in which hue, saturation
/// and value lose their fractions on the way there and back. A shift of nothing leaves an image as it
/// is; torchvision sends it through HSV all the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hue {
    /// The least and the greatest shift, in turns of the circle, within −0.5 to 0.5; the draw is
    /// uniform.
    pub shift: [f64; 2],
}

/// How far an image's colours turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustHue {
    /// In turns, from −0.5 to 0.5.
    pub shift: f64,
}

impl Draw for Hue {
    type Parameters = AdjustHue;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("shift", self.shift, -0.5..=0.5).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustHue {
        let [low, high] = self.shift;
        AdjustHue {
            shift: draws.between(low, high),
        }
    }
}

impl Apply for AdjustHue {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("shift", self.shift, -0.5..=0.5).map(|()| size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        // Backwards is forwards on a circle of 256.
        let shift = ((self.shift * 255.0) as i32).rem_euclid(256) as u8;
        if shift == 0 {
            return;
        }
        point::recolor(image, |colour| {
            let [hue, saturation, value] = to_hsv(colour);
            to_rgb([hue.wrapping_add(shift), saturation, value])
        });
    }
}

/// Hue, saturation and value in 8 bits each: the fraction of a turn, (greatest − least)/greatest, and
/// the greatest of the three.
fn to_hsv(colour: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = colour;
    let (least, greatest) = (red.min(green).min(blue), red.max(green).max(blue));
    if least == greatest {
        return [0, 0, greatest];
    }
    let range = f32::from(greatest - least);
    // How far each is from the greatest, in 0..1.
    let [r, g, b] = colour.map(|level| f32::from(greatest - level) / range);
    let sixths = if red == greatest {
        f64::from(b - g)
    } else if green == greatest {
        2.0 + f64::from(r) - f64::from(b)
    } else {
        4.0 + f64::from(g) - f64::from(r)
    };
    // Where Pillow rounds to `f32` it is done here too: it decides which fractions are dropped.
    let turns = (f64::from(sixths as f32) / 6.0 + 1.0).fract() as f32;
    let saturation = range / f32::from(greatest);
    let eight_bits = |share: f32| (f64::from(share) * 255.0) as u8;
    [eight_bits(turns), eight_bits(saturation), greatest]
}

fn to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let (sector, part) = (sixths.floor(), sixths.fract());
    let share = f64::from(saturation) / 255.0;
    let level = |share: f64| (f64::from(value) * (1.0 - share)).round() as u8;
    let (low, falling, rising) = (
        level(share),
        level(share * part),
        level(share * (1.0 - part)),
    );
    match sector as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_turn_permutes_the_primaries() {
        let mut image = Image::new(1, 1, 3, vec![255, 0, 0]).unwrap();
        AdjustHue { shift: 1.0 / 3.0 }.apply(&mut image, &mut Vec::new());
        assert_eq!(image.pixels(), [0, 255, 0]);
        AdjustHue { shift: -1.0 / 3.0 }.apply(&mut image, &mut Vec::new());
        assert_eq!(image.pixels(), [255, 0, 0]);
    }

    #[test]
    fn there_and_back_loses_little() {
        for colour in (0..=255_u8).step_by(5).flat_map(|r| {
            (0..=255_u8)
                .step_by(17)
                .flat_map(move |g| (0..=255_u8).step_by(15).map(move |b| [r, g, b]))
        }) {
            let back = to_rgb(to_hsv(colour));
            let lost = colour.iter().zip(back).map(|(&a, b)| a.abs_diff(b)).max();
            // A step of hue is 6/255 of the range, and saturation loses up to a step too.
            assert!(lost <= Some(7), "{colour:?} became {back:?}");
        }
    }
}
