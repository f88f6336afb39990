//! Output buffers that are written once, in parallel, without being zeroed first.
//!
//! Zeroing costs a pass over memory that a kernel bound by memory cannot hide. This module holds
//! the crate's only unsafe code, behind an interface that cannot leave an element unwritten.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use rayon::prelude::*;

/// Writes one worker's part of a new buffer: `slabs` slabs of `len` elements, `stride` apart, each
/// front to back.
pub(crate) struct Writer<'a, T> {
    buffer: *mut T,
    start: usize,
    stride: usize,
    len: usize,
    slabs: usize,
    slab: usize,
    written: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a writer is the only one that touches its slabs (see `build`), so moving it to another
// thread moves exclusive access with it, as `&mut [T]` would; T: Send makes that sound.
unsafe impl<T: Send> Send for Writer<'_, T> {}

impl<T: Copy> Writer<'_, T> {
    /// Writes the next `len` elements: `value(i)` for i in 0..`len`.
    ///
    /// # Panics
    /// If that is more than the rest of the current slab.
    #[inline(always)]
    pub fn append(&mut self, len: usize, value: impl Fn(usize) -> T) {
        if self.written == self.len {
            self.slab += 1;
            self.written = 0;
        }
        assert!(self.slab < self.slabs && len <= self.len - self.written);
        let offset = self.start + self.slab * self.stride + self.written;
        for i in 0..len {
            // SAFETY:
            // - `slab < slabs` and `written + len <= self.len`, asserted above, so the element is
            //   inside this writer's slabs, which lie inside the buffer's capacity (see `build`).
            // - No other writer has these slabs, and nothing reads the buffer before all are done.
            // - `T: Copy` has no destructor, so writing over uninitialized memory drops nothing.
            unsafe { self.buffer.add(offset + i).write(value(i)) };
        }
        self.written += len;
    }

    /// Whether every element of every slab has been written.
    fn is_complete(&self) -> bool {
        let whole = if self.written == self.len {
            self.slab + 1
        } else {
            self.slab
        };
        self.len == 0 || self.slabs == 0 || whole == self.slabs
    }
}

/// The parts that a buffer is made of: part p has `slabs` slabs of `len` elements, the first at
/// p·`len`, one every `parts`·`len`. Every element belongs to exactly one part.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub parts: usize,
    pub slabs: usize,
    pub len: usize,
}

/// Makes a buffer from `parts`, each written whole by one call of `work(part, writer)`, in
/// parallel. Returns it with what `work` returned, in order.
///
/// # Panics
/// If `work` leaves an element of its part unwritten.
pub(crate) fn build<T, R, F>(parts: Parts, work: F) -> (Vec<T>, Vec<R>)
where
    T: Copy + Send,
    R: Send,
    F: Fn(usize, &mut Writer<'_, T>) -> R + Sync,
{
    let Parts {
        parts: count,
        slabs,
        len,
    } = parts;
    let total = count * slabs * len;
    let range = |part| Range {
        start: part * len,
        stride: count * len,
        len,
        slabs,
    };
    fill(total, count, range, work)
}

/// Makes a buffer of `total` elements from chunks of `chunk` consecutive ones (the last may be
/// shorter), each written whole by one call of `work(chunk index, chunk length, writer)`.
pub(crate) fn build_chunks<T, R, F>(total: usize, chunk: usize, work: F) -> (Vec<T>, Vec<R>)
where
    T: Copy + Send,
    R: Send,
    F: Fn(usize, usize, &mut Writer<'_, T>) -> R + Sync,
{
    let chunk = chunk.max(1);
    let length = |part: usize| chunk.min(total - part * chunk);
    let range = |part| Range {
        start: part * chunk,
        stride: 0,
        len: length(part),
        slabs: 1,
    };
    fill(total, total.div_ceil(chunk), range, |part, writer| {
        work(part, length(part), writer)
    })
}

struct Range {
    start: usize,
    stride: usize,
    len: usize,
    slabs: usize,
}

/// `range` must give disjoint ranges that cover 0..`total`: the two callers above do, by
/// construction (strided slabs of one length; consecutive chunks).
fn fill<T, R, F>(
    total: usize,
    parts: usize,
    range: impl Fn(usize) -> Range + Sync,
    work: F,
) -> (Vec<T>, Vec<R>)
where
    T: Copy + Send,
    R: Send,
    F: Fn(usize, &mut Writer<'_, T>) -> R + Sync,
{
    struct Start<T>(*mut T);
    // SAFETY: only the address is shared; each part makes one writer from it, for slabs of its own.
    unsafe impl<T: Send> Sync for Start<T> {}

    let mut buffer = Vec::<T>::with_capacity(total);
    let start = Start(buffer.as_mut_ptr());
    let results = (0..parts)
        .into_par_iter()
        .map(|part| {
            let start = &start;
            let Range {
                start: first,
                stride,
                len,
                slabs,
            } = range(part);
            let mut writer = Writer {
                buffer: start.0,
                start: first,
                stride,
                len,
                slabs,
                slab: 0,
                written: 0,
                lifetime: PhantomData,
            };
            let result = work(part, &mut writer);
            assert!(
                writer.is_complete(),
                "a kernel left part {part} of its output unwritten"
            );
            result
        })
        .collect();
    // SAFETY:
    // - `total` is the capacity asked for.
    // - Every part asserted that all its elements are written, and the parts cover 0..total. Had
    //   one panicked instead, `collect` would have resumed the panic and this line not be reached;
    //   the buffer, of length 0 and without destructors, is then freed.
    unsafe { buffer.set_len(total) };
    (buffer, results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_parts_interleave() {
        let parts = Parts {
            parts: 3,
            slabs: 2,
            len: 4,
        };
        let (buffer, results) = build(parts, |part, writer| {
            for slab in 0..2 {
                writer.append(1, |_| 100 * part + 10 * slab);
                writer.append(3, |i| 100 * part + 10 * slab + 1 + i);
            }
            part
        });
        let row = |slab: usize| (0..12).map(move |i| 100 * (i / 4) + 10 * slab + i % 4);
        assert_eq!(buffer, row(0).chain(row(1)).collect::<Vec<_>>());
        assert_eq!(results, [0, 1, 2]);
    }

    #[test]
    fn chunks_follow_each_other() {
        let (buffer, lengths) = build_chunks(10, 4, |part, len, writer| {
            writer.append(len, |i| part * 4 + i);
            len
        });
        assert_eq!(buffer, (0..10).collect::<Vec<_>>());
        assert_eq!(lengths, [4, 4, 2]);
    }

    #[test]
    fn nothing_to_write() {
        for (parts, slabs, len) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
            let (buffer, results) = build(Parts { parts, slabs, len }, |_, _: &mut Writer<u8>| ());
            assert_eq!((buffer.len(), results.len()), (0, parts));
        }
        assert!(
            build_chunks(0, 4, |_, _, _: &mut Writer<u8>| ())
                .0
                .is_empty()
        );
    }

    #[test]
    #[should_panic(expected = "unwritten")]
    fn an_unwritten_element_is_refused() {
        build(
            Parts {
                parts: 1,
                slabs: 2,
                len: 2,
            },
            |_, writer| writer.append(2, |_| 0_u8),
        );
    }

    #[test]
    #[should_panic(expected = "slab")]
    fn writing_past_a_slab_is_refused() {
        build(
            Parts {
                parts: 1,
                slabs: 2,
                len: 2,
            },
            |_, writer| writer.append(3, |_| 0_u8),
        );
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panicking_worker_leaks_nothing_unwritten() {
        build(
            Parts {
                parts: 4,
                slabs: 1,
                len: 1,
            },
            |part, writer| {
                assert!(part != 2, "on purpose");
                writer.append(1, |_| 0_u8);
            },
        );
    }
}
