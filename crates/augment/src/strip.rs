//! Pixels of three channels as planes of numbers, a strip at a time.
//!
//! The loops are plain ones: of these compilers make the permutations that each instruction set has for bytes that lie
//! three apart.

/// Pixels of a strip, at most; what is made of one stays in the first-level cache.
pub(crate) const PIXELS: usize = 256;

/// Bytes of a strip, at most.
pub(crate) const BYTES: usize = 3 * PIXELS;

/// Red, green and blue of a strip's pixels, whole levels from 0 to 255; behind the last pixel, any. Aligned, so that no
/// vector lies across two lines of the cache.
#[repr(align(64))]
pub(crate) struct Planes(pub [[f32; PIXELS]; 3]);

/// Takes a strip apart; returns how many pixels it has.
#[inline(always)]
pub(crate) fn split(strip: &[u8], Planes([red, green, blue]): &mut Planes) -> usize {
    let pixels = strip.as_chunks::<3>().0;
    let count = pixels.len().min(PIXELS);
    let (red, green, blue) = (&mut red[..count], &mut green[..count], &mut blue[..count]);
    for i in 0..count {
        red[i] = f32::from(pixels[i][0]);
        green[i] = f32::from(pixels[i][1]);
        blue[i] = f32::from(pixels[i][2]);
    }
    count
}

/// Puts it together again.
#[inline(always)]
pub(crate) fn join(planes: &Planes, strip: &mut [u8]) {
    let [red, green, blue] = planes.0.each_ref().map(levels);
    let pixels = strip.as_chunks_mut::<3>().0;
    let count = pixels.len().min(PIXELS);
    let (red, green, blue) = (&red[..count], &green[..count], &blue[..count]);
    for i in 0..count {
        pixels[i] = [red[i], green[i], blue[i]];
    }
}

/// A plane as bytes.
#[inline(always)]
pub(crate) fn levels(plane: &[f32; PIXELS]) -> [u8; PIXELS] {
    let mut levels = [0; PIXELS];
    for i in 0..PIXELS {
        levels[i] = level(plane[i]);
    }
    levels
}

/// A whole level as a byte, in terms that every instruction set has for many numbers at once.
#[inline(always)]
pub(crate) fn level(whole: f32) -> u8 {
    // From 2²³ on a number's last bits are those of its whole part.
    const WHOLE: f32 = (1 << 23) as f32;
    (whole + WHOLE).to_bits() as u8
}
