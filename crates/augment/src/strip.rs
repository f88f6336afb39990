//! Pixels of three channels as planes of levels, a strip at a time.
//!
//! The loops are plain ones: of these compilers make the permutations that each instruction set has for bytes that lie
//! three apart.

/// Pixels of a strip, at most: what is made of one, as `f32` too, stays in the first-level cache, and loops are not so
/// short that compilers unroll them whole.
pub(crate) const PIXELS: usize = 1024;

/// Bytes of a strip, at most.
pub(crate) const BYTES: usize = 3 * PIXELS;

/// Red, green and blue of a strip's pixels; behind the last pixel, any. Aligned, so that no vector lies across two lines
/// of the cache.
#[repr(align(64))]
pub(crate) struct Planes(pub [[u8; PIXELS]; 3]);

/// Takes a strip apart; returns how many pixels it has.
#[inline(always)]
pub(crate) fn split(strip: &[u8], Planes([red, green, blue]): &mut Planes) -> usize {
    let pixels = strip.as_chunks::<3>().0;
    let count = pixels.len().min(PIXELS);
    let (red, green, blue) = (&mut red[..count], &mut green[..count], &mut blue[..count]);
    for i in 0..count {
        red[i] = pixels[i][0];
        green[i] = pixels[i][1];
        blue[i] = pixels[i][2];
    }
    count
}

/// Puts it together again.
#[inline(always)]
pub(crate) fn join(Planes([red, green, blue]): &Planes, strip: &mut [u8]) {
    let pixels = strip.as_chunks_mut::<3>().0;
    let count = pixels.len().min(PIXELS);
    let (red, green, blue) = (&red[..count], &green[..count], &blue[..count]);
    for i in 0..count {
        pixels[i] = [red[i], green[i], blue[i]];
    }
}

/// A whole level as a byte, in terms that every instruction set has for many numbers at once.
#[inline(always)]
pub(crate) fn level(whole: f32) -> u8 {
    // From 2²³ on a number's last bits are those of its whole part.
    const WHOLE: f32 = (1 << 23) as f32;
    (whole + WHOLE).to_bits() as u8
}
