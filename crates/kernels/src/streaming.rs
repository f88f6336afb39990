//! Stores that pass the caches by.
//!
//! An ordinary store to memory that is in no cache first reads the line of 64 bytes around it, even where all of it will be
//! written; a whole line that is streamed is not read. On processors other than x86-64 these are ordinary stores.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use bytemuck::NoUninit;

/// Bytes that a processor moves at a time.
const LINE: usize = 64;
/// Bytes that are computed before they are streamed: values of a single line would not be computed in vectors.
const BLOCK: usize = 16 * LINE;

#[repr(align(64))]
struct Block([MaybeUninit<u8>; BLOCK]);

/// Writes `value(i)` for i in 0..`len` at `place` + i, whole lines past the caches.
///
/// # Safety
/// There must be place for `len` values, that nothing else touches before this thread has called [`fence`].
#[inline(always)]
pub(crate) unsafe fn write<T: NoUninit>(place: *mut T, len: usize, value: impl Fn(usize) -> T) {
    let mut block = Block([const { MaybeUninit::uninit() }; BLOCK]);
    let values = block.0.as_mut_ptr().cast::<T>();
    let (per_line, most) = const {
        assert!(LINE.is_multiple_of(size_of::<T>()) && align_of::<T>() <= align_of::<Block>());
        (LINE / size_of::<T>(), BLOCK / size_of::<T>())
    };
    let mut first = 0;
    while first < len {
        // SAFETY: below `len`.
        let place = unsafe { place.add(first) };
        let before = place.align_offset(LINE);
        // Up to the start of a line, but for the last block.
        let count = (len - first).min(before % per_line + most - per_line);
        for i in 0..count {
            // SAFETY: `count` values are no longer than the block, whose alignment is enough.
            unsafe { values.add(i).write(value(first + i)) };
        }
        let before = before.min(count);
        let lines = (count - before) / per_line;
        let after = before + lines * per_line;
        // SAFETY: the three parts make up `count` values, written here and below `len` there; they have no padding
        // (`NoUninit`), and the second starts a line.
        unsafe {
            values.copy_to_nonoverlapping(place, before);
            stream(values.add(before), place.add(before), lines);
            let rest = values.add(after);
            rest.copy_to_nonoverlapping(place.add(after), count - after);
        }
        first += count;
    }
}

/// Copies so many lines, past the caches.
///
/// # Safety
/// There must be as many on both sides, of initialized bytes on the one, starting a line on the other; and see [`write`].
#[inline(always)]
unsafe fn stream<T>(from: *const T, to: *mut T, lines: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let (from, to) = (from.cast::<__m128i>(), to.cast::<__m128i>());
        for i in 0..lines * (LINE / size_of::<__m128i>()) {
            // SAFETY: inside of what the caller grants, and `to` is aligned. SSE2 is part of x86-64.
            unsafe { _mm_stream_si128(to.add(i), _mm_loadu_si128(from.add(i))) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        // SAFETY: what the caller grants.
        unsafe { from.copy_to_nonoverlapping(to, lines * LINE / size_of::<T>()) };
    }
}

/// After this, what the thread has streamed is there for all others.
pub(crate) fn fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it touches no memory of the program's; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At all places in a line, of all lengths about a line's and a block's, and nothing beside.
    fn written<T: NoUninit + PartialEq + std::fmt::Debug>(value: impl Fn(usize) -> T) {
        let (line, block) = (LINE / size_of::<T>(), BLOCK / size_of::<T>());
        let lengths = (0..=2 * line).chain(block - 2..=block + line + 1);
        for len in lengths.chain([3 * block + line + 1]) {
            for start in 0..=line {
                let mut buffer = vec![value(0); start + len + line];
                let place = &mut buffer[start..][..len];
                // SAFETY: there is place for `len` values, and the fence comes before they are read.
                unsafe { write(place.as_mut_ptr(), len, |i| value(1 + i)) };
                fence();
                for (i, found) in buffer.into_iter().enumerate() {
                    let inside = (start..start + len).contains(&i);
                    let expected = if inside { 1 + i - start } else { 0 };
                    assert_eq!(found, value(expected), "{len} values at {start}, value {i}");
                }
            }
        }
    }

    #[test]
    fn lines_at_any_place() {
        written(|i| i as f32);
        if !cfg!(miri) {
            written(|i| i as u8);
            written(|i| i as f64);
        }
    }
}
