//! What operations on single levels share: tables of 256 levels, histograms, and which channels hold
//! colour.

use multiversion::multiversion;

use crate::Image;
use crate::strip;

/// What each level becomes.
pub(super) type Table = [u8; 256];

/// The table of a function.
pub(super) fn table(level: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|i| level(i as u8))
}

/// How many of an image's channels hold colour; the others come after them.
pub(super) fn color_channels(channels: usize) -> usize {
    if channels < 3 { 1 } else { 3 }
}

/// What each colour level becomes: one table for all channels, or one each for red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Levels {
    tables: Vec<Table>,
    /// The a and the factor of the blend that it is, if it is one: faster computed than looked up.
    blend: Option<(u8, f32)>,
}

impl Levels {
    /// One for all.
    pub fn all(table: Table) -> Self {
        Self {
            tables: vec![table],
            blend: None,
        }
    }

    /// One each.
    pub fn each(tables: [Table; 3]) -> Self {
        Self {
            tables: tables.into(),
            blend: None,
        }
    }

    /// See [`blend`].
    pub fn blend(a: u8, factor: f32) -> Self {
        Self {
            blend: Some((a, factor)),
            ..Self::all(table(|level| blend(a, level, factor)))
        }
    }

    /// The a and the factor of the blend that these are, if they are one.
    pub fn as_blend(&self) -> Option<(u8, f32)> {
        self.blend
    }

    /// That of a colour channel.
    pub fn of(&self, channel: usize) -> &Table {
        &self.tables[channel.min(self.tables.len() - 1)]
    }

    /// These, then others.
    pub fn then(&mut self, others: &Self) {
        let channels = self.tables.len().max(others.tables.len());
        let both = |channel| {
            self.of(channel)
                .map(|level| others.of(channel)[usize::from(level)])
        };
        self.tables = (0..channels).map(both).collect();
        self.blend = None;
    }

    pub fn apply(&self, image: &mut Image) {
        match (self.blend, &self.tables[..]) {
            (Some((a, factor)), _) if matches!(image.channels(), 1 | 3) => {
                blend_all(image.pixels_mut(), a, factor);
            }
            (_, [table]) => map(image, table),
            (_, tables) => map_each(image, tables),
        }
    }
}

// In functions that are compiled for several instruction sets closures are not inlined into the standard library's, so
// these loops are plain ones.

/// [`blend`] in terms that every instruction set has for many numbers at once.
#[inline(always)]
pub(super) fn blend_lane(a: f32, b: f32, factor: f32) -> f32 {
    (a + factor * (b - a)).clamp(0.0, 255.0).trunc()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn blend_all(levels: &mut [u8], a: u8, factor: f32) {
    let a = f32::from(a);
    for level in levels {
        *level = strip::level(blend_lane(a, f32::from(*level), factor));
    }
}

/// Passes every colour level through one table.
pub(super) fn map(image: &mut Image, table: &Table) {
    let channels = image.channels();
    match channels {
        1 | 3 => look_up::<1>(image, |_| table),
        2 => look_up::<2>(image, |_| table),
        _ => look_up::<4>(image, |_| table),
    }
}

/// Passes every colour level through its channel's table. There is one a colour channel.
pub(super) fn map_each(image: &mut Image, tables: &[Table]) {
    match image.channels() {
        1 => look_up::<1>(image, |_| &tables[0]),
        2 => look_up::<2>(image, |_| &tables[0]),
        3 => look_up::<3>(image, |channel| &tables[channel]),
        _ => look_up::<4>(image, |channel| &tables[channel]),
    }
}

fn look_up<'a, const CHANNELS: usize>(
    image: &mut Image,
    table: impl Fn(usize) -> &'a Table + Copy,
) {
    let colours = color_channels(CHANNELS);
    for pixel in image.pixels_mut().as_chunks_mut::<CHANNELS>().0 {
        for (channel, level) in pixel[..colours].iter_mut().enumerate() {
            *level = table(channel)[usize::from(*level)];
        }
    }
}

/// Changes the colour of every pixel of an image that has one.
pub(super) fn recolor(image: &mut Image, change: impl Fn([u8; 3]) -> [u8; 3]) {
    match image.channels() {
        3 => {
            for pixel in image.pixels_mut().as_chunks_mut::<3>().0 {
                *pixel = change(*pixel);
            }
        }
        4 => {
            for pixel in image.pixels_mut().as_chunks_mut::<4>().0 {
                let [red, green, blue, opacity] = *pixel;
                let [red, green, blue] = change([red, green, blue]);
                *pixel = [red, green, blue, opacity];
            }
        }
        _ => {}
    }
}

/// How often each level occurs in each colour channel.
pub(super) fn histograms(image: &Image) -> Vec<[u32; 256]> {
    let channels = image.channels();
    if channels == 3 {
        return histograms_of_three(image.pixels()).into();
    }
    let mut counts = vec![[0; 256]; color_channels(channels)];
    for pixel in image.pixels().chunks_exact(channels) {
        for (counts, &level) in counts.iter_mut().zip(pixel) {
            counts[usize::from(level)] += 1; // an image has at most 2²⁸ pixels
        }
    }
    counts
}

/// Neighbours are counted apart: they are often alike, and a count is not ready for the next while it is written.
fn histograms_of_three(pixels: &[u8]) -> [[u32; 256]; 3] {
    let (mut counts, mut others) = ([[0; 256]; 3], [[0; 256]; 3]);
    let (pairs, rest) = pixels.as_chunks::<6>();
    for pair in pairs {
        for channel in 0..3 {
            counts[channel][usize::from(pair[channel])] += 1;
            others[channel][usize::from(pair[3 + channel])] += 1;
        }
    }
    for (counts, &level) in counts.iter_mut().zip(rest) {
        counts[usize::from(level)] += 1;
    }
    for (counts, others) in counts.iter_mut().zip(&others) {
        for (count, other) in counts.iter_mut().zip(others) {
            *count += other;
        }
    }
    counts
}

/// The gray of a colour: (19595·r + 38470·g + 7471·b)/2¹⁶, rounded, which is .299 r + .587 g + .114 b
/// (ITU-R BT.601) in Pillow's fixed point.
#[inline(always)]
pub(crate) fn gray([red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
}

/// a + factor·(b − a), clipped; the fraction is dropped. Pillow's `Image.blend`.
#[inline(always)]
pub(super) fn blend(a: u8, b: u8, factor: f32) -> u8 {
    let (a, b) = (f32::from(a), f32::from(b));
    (a + factor * (b - a)) as u8 // the conversion clips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opacity_stays() {
        for channels in 1..=4 {
            let pixels: Vec<u8> = (0..6 * channels).map(|i| i as u8 * 9).collect();
            let image = Image::new(3, 2, channels, pixels).unwrap();
            let inverse = table(|level| !level);
            let tables = vec![inverse; color_channels(channels)];
            let mut mapped = [image.clone(), image.clone(), image.clone()];
            map(&mut mapped[0], &inverse);
            map_each(&mut mapped[1], &tables);
            recolor(&mut mapped[2], |colour| colour.map(|level| !level));
            let changes = [true, true, channels > 2]; // gray has no colour to change
            for (mapped, changes) in mapped.iter().zip(changes) {
                for (i, (&found, &level)) in mapped.pixels().iter().zip(image.pixels()).enumerate()
                {
                    let opacity = channels % 2 == 0 && i % channels == channels - 1;
                    let expected = if opacity || !changes { level } else { !level };
                    assert_eq!(found, expected, "{channels} channels, byte {i}");
                }
            }
        }
    }

    #[test]
    fn blending_keeps_its_ends() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(blend(a, b, 0.0), a);
                assert_eq!(blend(a, b, 1.0), b);
            }
        }
        let mut draws = evenkeel_random::Key::from_seed(2).draws();
        for _ in 0..300_000 {
            let [a, b] = [draws.below(256), draws.below(256)].map(|level| level as u8);
            let factor = (draws.between(-1.0, 2.0) * draws.between(0.0, 50.0)) as f32;
            let lane = blend_lane(f32::from(a), f32::from(b), factor);
            assert_eq!(lane, f32::from(blend(a, b, factor)), "{a} {b} {factor}");
        }
        assert_eq!(blend(100, 0, 3.0), 0);
        assert_eq!(blend(0, 100, 3.0), 255);
    }

    #[test]
    fn gray_of_gray_is_itself() {
        assert!((0..=255).all(|level| gray([level; 3]) == level));
    }
}
