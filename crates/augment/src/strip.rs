//! Pixels of three channels as planes, a strip at a time.
//!
//! The loops are plain ones over as many pixels as there happen to be: of these compilers make the permutations that
//! each instruction set has for bytes that lie three apart. Loops over a fixed small number are unrolled first, and
//! then stay scalar.

/// Pixels of a strip, at most; what is made of one stays in the first-level cache.
pub(crate) const PIXELS: usize = 256;

/// Bytes of a strip, at most.
pub(crate) const BYTES: usize = 3 * PIXELS;

/// Red, green and blue of a strip's pixels; behind the last one, anything.
pub(crate) type Planes = [[u8; PIXELS]; 3];

/// Takes a strip apart; returns how many pixels it has.
#[inline(always)]
pub(crate) fn split(strip: &[u8], [red, green, blue]: &mut Planes) -> usize {
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
pub(crate) fn join([red, green, blue]: &Planes, strip: &mut [u8]) {
    let pixels = strip.as_chunks_mut::<3>().0;
    let count = pixels.len().min(PIXELS);
    let (red, green, blue) = (&red[..count], &green[..count], &blue[..count]);
    for i in 0..count {
        pixels[i] = [red[i], green[i], blue[i]];
    }
}
