//! Output buffers that are written once, in parallel, without being zeroed first; or that are an input's own, written over.
//!
//! Zeroing costs a pass over memory that a kernel bound by memory cannot hide, and so does a new buffer: a store first reads
//! the line of cache that it replaces, which an input's own place has been read for already. The unsafe code is behind an
//! interface that cannot leave an element unwritten.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::NoUninit;

use crate::parallel;
use crate::streaming;

/// Outputs of so many bytes are written past the caches: 32 MiB, what many processors have of a last cache. Whoever
/// reads such an output finds no more than its end there, and a store that goes through the caches first reads the
/// line that it replaces: on an Intel Xeon a copy of 100 MB takes 1.5 times as long.
const STREAMED: usize = 32 << 20;

/// A buffer of `rows` rows of `width` elements, cut into parts along the columns: part p is columns
/// p·`part` to (p + 1)·`part` of every row (fewer in the last). Every element is in one part.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub rows: usize,
    pub width: usize,
    pub part: usize,
}

impl Grid {
    /// Consecutive chunks of `chunk` elements.
    pub fn chunks(total: usize, chunk: usize) -> Self {
        Self {
            rows: 1,
            width: total,
            part: chunk,
        }
    }

    /// The number of elements, if there can be so many.
    fn len(&self) -> Option<usize> {
        self.rows.checked_mul(self.width)
    }
}

/// An input of the output's shape, whose elements are replaced where nobody else wants them.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a, T> {
    /// All of it; the output is a new buffer.
    Beside(&'a [T]),
    /// It is in the buffer that is written.
    InPlace,
}

/// Consecutive ranges of `len`, a divisor of how many `elements` there are.
#[inline(always)]
pub(crate) fn pieces(elements: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    elements.step_by(len).map(move |start| start..start + len)
}

/// Writes one part of a buffer: its piece of each row, from the last row to the first (so that
/// a second pass over memory starts where the first one ended, in cache), each front to back.
pub(crate) struct Writer<'a, T> {
    buffer: *mut T,
    width: usize,
    columns: Range<usize>,
    rows: usize,
    /// Rows not begun.
    rows_left: usize,
    /// Of the current row.
    written: usize,
    streamed: bool,
    /// Whether all elements had values before.
    filled: bool,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a writer is the only one that touches its part (see `build`), so moving it to another
// thread moves exclusive access with it, as `&mut [T]` would; T: Send makes that sound.
unsafe impl<T: Send> Send for Writer<'_, T> {}

impl<T: NoUninit> Writer<'_, T> {
    /// Writes `value` of each of the `inputs`' elements.
    ///
    /// A loop that checks an index anew for each element is a vector loop but for its last steps, at best.
    ///
    /// # Panics
    /// As [`append`](Self::append), or if the inputs are not of one length.
    #[inline(always)]
    pub fn append_of<const K: usize>(&mut self, inputs: [&[T]; K], value: impl Fn([T; K]) -> T)
    where
        T: Default,
    {
        let inputs = Inputs::new(inputs[0].len(), inputs);
        self.append(inputs.len, |i| {
            // SAFETY: `append` asks for i below the length that it is given.
            value(unsafe { inputs.values(i) })
        });
    }

    /// Writes `value(x, i)` for each x of the source's `elements`, its i-th, which come next in the buffer too.
    ///
    /// # Panics
    /// As [`append`](Self::append), or if these are not the elements that come next, where the source is the buffer.
    #[inline(always)]
    pub fn map(
        &mut self,
        source: Source<'_, T>,
        elements: Range<usize>,
        value: impl Fn(T, usize) -> T,
    ) {
        match source {
            Source::Beside(source) => {
                let source = &source[elements];
                // SAFETY: `append` asks for i below the length that it is given.
                self.append(source.len(), |i| {
                    value(unsafe { *source.get_unchecked(i) }, i)
                });
            }
            Source::InPlace => {
                assert!(self.filled, "a kernel reads a buffer without values");
                // Not `len()`, of which a compiler does not know that it is what was added to a start. A range that
                // ends before it starts is too long for any part.
                let len = elements.end.wrapping_sub(elements.start);
                let start = self.claim(len);
                assert_eq!(start, elements.start, "elements that come next");
                // SAFETY: they are in this writer's part, all of which has values, and no slice of it is borrowed.
                let place = unsafe { std::slice::from_raw_parts_mut(self.buffer.add(start), len) };
                for (i, place) in place.iter_mut().enumerate() {
                    *place = value(*place, i);
                }
            }
        }
    }

    /// [`map`](Self::map) with the elements of some `inputs`.
    ///
    /// # Panics
    /// As there, or if the inputs are not as long as what is mapped.
    #[inline(always)]
    pub fn map_with<const K: usize>(
        &mut self,
        source: Source<'_, T>,
        elements: Range<usize>,
        inputs: [&[T]; K],
        value: impl Fn(T, [T; K]) -> T,
    ) where
        T: Default,
    {
        let inputs = Inputs::new(elements.len(), inputs);
        // SAFETY: i is below the number of elements.
        self.map(source, elements, |x, i| {
            value(x, unsafe { inputs.values(i) })
        });
    }

    /// These elements of the source: as they were before, if the source is the buffer and they are not written yet.
    ///
    /// # Panics
    /// If they are not the source's, or not of one row of this writer's part of the buffer.
    #[inline(always)]
    pub fn read<'a>(&'a self, source: Source<'a, T>, elements: Range<usize>) -> &'a [T] {
        match source {
            Source::Beside(source) => &source[elements],
            Source::InPlace => {
                assert!(self.filled, "a kernel reads a buffer without values");
                if elements.is_empty() {
                    return &[];
                }
                let row = elements.start / self.width;
                let [start, end] = [self.columns.start, self.columns.end];
                assert!(
                    row < self.rows
                        && elements.start >= row * self.width + start
                        && elements.end <= row * self.width + end,
                    "a kernel reads what is not in its part"
                );
                // SAFETY: they are in this writer's part, all of which has values, and while the slice lives nothing
                // can be written through the writer.
                unsafe {
                    std::slice::from_raw_parts(self.buffer.add(elements.start), elements.len())
                }
            }
        }
    }

    /// Writes the next `len` elements: `value(i)` for i in 0..`len`.
    ///
    /// # Panics
    /// If that is more than the rest of the current row, or no row is left.
    #[inline(always)]
    pub fn append(&mut self, len: usize, value: impl Fn(usize) -> T) {
        let start = self.claim(len);
        // SAFETY: inside of the buffer's capacity, as `claim` says.
        let place = unsafe { self.buffer.add(start) };
        if self.streamed {
            // SAFETY: no other writer has this part, and nothing reads the buffer before all are done, which each is
            // with a fence when it is dropped.
            unsafe { streaming::write(place, len, value) };
        } else {
            for i in 0..len {
                // SAFETY: these elements are this writer's; `T: Copy` has no destructor, so writing over uninitialized
                // memory drops nothing.
                unsafe { place.add(i).write(value(i)) };
            }
        }
    }

    /// The index of the first of the next `len` elements, which count as written from now on. They are in this writer's
    /// part, which is inside the buffer's capacity.
    #[inline(always)]
    fn claim(&mut self, len: usize) -> usize {
        if self.written == self.columns.len() {
            assert!(self.rows_left > 0, "a kernel wrote more rows than it has");
            self.rows_left -= 1;
            self.written = 0;
        }
        assert!(
            len <= self.columns.len() - self.written,
            "a kernel wrote past the end of a row"
        );
        // `rows_left` is below `rows`, and `written + len` at most `columns.len()`, as asserted.
        let start = self.rows_left * self.width + self.columns.start + self.written;
        self.written += len;
        start
    }
}

/// Slices of one length.
#[derive(Clone, Copy)]
struct Inputs<'a, T, const K: usize> {
    slices: [&'a [T]; K],
    len: usize,
}

impl<'a, T: NoUninit + Default, const K: usize> Inputs<'a, T, K> {
    #[inline(always)]
    fn new(len: usize, slices: [&'a [T]; K]) -> Self {
        for slice in slices {
            assert_eq!(slice.len(), len, "inputs of one length");
        }
        Self { slices, len }
    }

    /// # Safety
    /// `i` must be below `len`.
    #[inline(always)]
    unsafe fn values(&self, i: usize) -> [T; K] {
        let mut values = [T::default(); K];
        for (value, slice) in values.iter_mut().zip(self.slices) {
            // SAFETY: each slice is `len` long.
            *value = unsafe { *slice.get_unchecked(i) };
        }
        values
    }
}

impl<T> Drop for Writer<'_, T> {
    fn drop(&mut self) {
        if self.streamed {
            streaming::fence();
        }
    }
}

/// Makes a buffer whose parts are each written whole by one call of `work(part, columns, writer)`,
/// in parallel if there are enough elements to write. Returns it with what `work` returned, in
/// order.
///
/// # Panics
/// If `work` leaves an element of its part unwritten.
pub(crate) fn build<T, R, F>(grid: Grid, work: F) -> (Vec<T>, Vec<R>)
where
    T: NoUninit + Send,
    R: Send,
    F: Fn(usize, Range<usize>, &mut Writer<'_, T>) -> R + Sync,
{
    build_from(grid.rows.saturating_mul(grid.width), grid, work)
}

/// [`build`] where the work is to read this many `elements`, more than it writes.
///
/// # Panics
/// As [`build`].
pub(crate) fn build_from<T, R, F>(elements: usize, grid: Grid, work: F) -> (Vec<T>, Vec<R>)
where
    T: NoUninit + Send,
    R: Send,
    F: Fn(usize, Range<usize>, &mut Writer<'_, T>) -> R + Sync,
{
    let total = grid.len().expect("a buffer within the address space");
    let mut buffer = Vec::with_capacity(total);
    let results = write(&mut buffer, elements, grid, work);
    // Had a part panicked, the panic would have passed through here and the next line not be reached; the buffer, of
    // length 0 and without destructors, is then freed.
    // SAFETY: `total` is the capacity asked for, and `write` has written so many elements.
    unsafe { buffer.set_len(total) };
    (buffer, results)
}

/// [`build`] where the output has the shape of an input, and its place if that is given away: `work(columns, source,
/// writer)`, with the input as the source.
///
/// # Panics
/// As [`build`], or if the input has not as many elements as the grid.
pub(crate) fn build_over<T, R, F>(input: Cow<'_, [T]>, grid: Grid, work: F) -> (Vec<T>, Vec<R>)
where
    T: NoUninit + Send + Sync,
    R: Send,
    F: Fn(Range<usize>, Source<'_, T>, &mut Writer<'_, T>) -> R + Sync,
{
    assert_eq!(
        grid.len(),
        Some(input.len()),
        "an input of the output's shape"
    );
    match input {
        Cow::Borrowed(input) => build(grid, |_, columns, writer| {
            work(columns, Source::Beside(input), writer)
        }),
        Cow::Owned(mut buffer) => {
            let elements = buffer.len();
            let results = write(&mut buffer, elements, grid, |_, columns, writer| {
                work(columns, Source::InPlace, writer)
            });
            (buffer, results)
        }
    }
}

/// Writes the elements of a grid to a buffer that has place for them: new ones, or all those that it has.
fn write<T, R, F>(buffer: &mut Vec<T>, elements: usize, grid: Grid, work: F) -> Vec<R>
where
    T: NoUninit + Send,
    R: Send,
    F: Fn(usize, Range<usize>, &mut Writer<'_, T>) -> R + Sync,
{
    struct Start<T>(*mut T);
    // SAFETY: only the address is shared; each part makes one writer from it, for itself alone.
    unsafe impl<T: Send> Sync for Start<T> {}

    let Grid { rows, width, part } = grid;
    let total = grid.len().filter(|&total| total <= buffer.capacity());
    let total = total.expect("a buffer that has place for the grid");
    let filled = buffer.len() == total;
    let start = Start(buffer.as_mut_ptr());
    parallel::collect(width.div_ceil(part), elements, |index| {
        let start = &start;
        let columns = index * part..((index + 1) * part).min(width);
        let mut writer = Writer {
            buffer: start.0,
            width,
            // As if a row before had been completed: the first `append` begins one.
            written: columns.len(),
            columns: columns.clone(),
            rows,
            rows_left: rows,
            streamed: !filled && total.saturating_mul(size_of::<T>()) >= STREAMED,
            filled,
            lifetime: PhantomData,
        };
        let result = work(index, columns.clone(), &mut writer);
        // The parts' columns are disjoint and cover 0..width.
        assert!(
            writer.rows_left == 0 && writer.written == columns.len(),
            "a kernel left part {index} of its output unwritten"
        );
        result
    })
}

/// How a buffer is cut, and what making it takes.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    /// Elements of the buffer.
    pub total: usize,
    /// Of a part; fewer in the last.
    pub part: usize,
    /// Elements that a part's work can use as it likes; what they hold at first is not told.
    pub scratch: usize,
    /// Operations in all, to tell whether threads are worth waking.
    pub work: usize,
}

/// Makes a buffer by one call of `work(index, part, scratch)` for each part, which is zeros at first: they are
/// written when their turn comes, so that they are in cache. Returns it with what `work` returned, in order.
pub(crate) fn build_parts<T, R, F>(parts: Parts, work: F) -> (Vec<T>, Vec<R>)
where
    T: Copy + Default + Send,
    R: Send,
    F: Fn(usize, &mut [T], &mut [T]) -> R + Sync + Send,
{
    let Parts { total, part, .. } = parts;
    let mut buffer = Vec::<T>::with_capacity(total);
    let pieces = buffer.spare_capacity_mut()[..total].chunks_mut(part.max(1));
    let scratch = || vec![T::default(); parts.scratch];
    let results = parallel::collect_with(pieces, parts.work, scratch, |index, part, scratch| {
        for place in &mut *part {
            place.write(T::default());
        }
        // SAFETY: the loop has written every element.
        work(index, unsafe { part.assume_init_mut() }, scratch)
    });
    // SAFETY: `total` is within the capacity asked for; the parts cover 0..total, and each was written whole. (A
    // panic in a part passes through here, and this line is not reached.)
    unsafe { buffer.set_len(total) };
    (buffer, results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows() {
        let grid = Grid {
            rows: 2,
            width: 10,
            part: 4,
        };
        let (buffer, columns) = build(grid, |part, columns, writer| {
            for row in [1, 0] {
                writer.append(1, |_| 100 * part + 10 * row);
                writer.append(columns.len() - 1, |i| 100 * part + 10 * row + 1 + i);
            }
            columns
        });
        let row = |row: usize| (0..10).map(move |i| 100 * (i / 4) + 10 * row + i % 4);
        assert_eq!(buffer, row(0).chain(row(1)).collect::<Vec<_>>());
        assert_eq!(columns, [0..4, 4..8, 8..10]);
    }

    #[test]
    fn threads_write_the_same() {
        // Miri is slow; this still wakes threads.
        let total = if cfg!(miri) { 140_003 } else { 1_000_003 };
        let (buffer, parts) = build(Grid::chunks(total, 1000), |part, columns, writer| {
            writer.append(columns.len(), |i| columns.start + i);
            part
        });
        assert!(buffer.into_iter().eq(0..total) && parts.into_iter().eq(0..total.div_ceil(1000)));
    }

    #[test]
    fn large_outputs_are_the_same() {
        // Nothing large enough to be streamed: Miri would take hours.
        let (rows, width) = (2, if cfg!(miri) { 1000 } else { STREAMED / 2 });
        let grid = Grid {
            rows,
            width,
            part: 10_007,
        };
        let value = |row: usize, column: usize| (row * 131 + column * 7) as u8;
        let (buffer, _) = build(grid, |_, columns, writer| {
            for row in (0..rows).rev() {
                for piece in columns.clone().step_by(300) {
                    let len = (columns.end - piece).min(300);
                    writer.append(len, |i| value(row, piece + i));
                }
            }
        });
        let expected = (0..rows).flat_map(|row| (0..width).map(move |column| value(row, column)));
        assert!(buffer.into_iter().eq(expected));
    }

    #[test]
    fn an_input_is_read_and_written_over() {
        let grid = Grid {
            rows: 3,
            width: if cfg!(miri) { 1_500 } else { 100_003 },
            part: 1009,
        };
        let input: Vec<usize> = (0..grid.rows * grid.width).collect();
        let work =
            |columns: Range<usize>, source: Source<'_, usize>, writer: &mut Writer<'_, usize>| {
                let rows = (0..grid.rows).map(|row| row * grid.width);
                let rows = rows.map(|start| start + columns.start..start + columns.end);
                let sum: usize = rows
                    .clone()
                    .map(|row| writer.read(source, row).iter().sum::<usize>())
                    .sum();
                for row in rows.rev() {
                    let (first, rest) = (row.start..row.start + 1, row.start + 1..row.end);
                    writer.map(source, first, |x, i| x + i);
                    let more = vec![1; rest.len()];
                    writer.map_with(source, rest, [&more], |x, [more]| x + more);
                }
                sum
            };
        let (beside, sums) = build_over(Cow::Borrowed(&input[..]), grid, work);
        for (i, row) in beside.chunks(grid.width).enumerate() {
            for (j, &value) in row.iter().enumerate() {
                assert_eq!(value, i * grid.width + j + usize::from(j % grid.part != 0));
            }
        }
        assert_eq!(sums.iter().sum::<usize>(), input.iter().sum());
        let given = input.clone();
        let place = given.as_ptr();
        let (over, sums_over) = build_over(Cow::Owned(given), grid, work);
        assert!(over == beside && sums_over == sums && over.as_ptr() == place);
    }

    #[test]
    #[should_panic(expected = "not in its part")]
    fn reading_of_another_part_is_refused() {
        build_over(Cow::Owned(vec![0_u8; 4]), SQUARE, |_, source, writer| {
            writer.read(source, 1..3).len()
        });
    }

    #[test]
    #[should_panic(expected = "elements that come next")]
    fn elements_in_another_order_are_refused() {
        build_over(Cow::Owned(vec![0_u8; 4]), SQUARE, |_, source, writer| {
            writer.map(source, 0..2, |x, _| x);
        });
    }

    #[test]
    #[should_panic(expected = "without values")]
    fn a_new_buffer_is_not_read() {
        build(SQUARE, |_, _, writer: &mut Writer<'_, u8>| {
            writer.read(Source::InPlace, 0..2).len()
        });
    }

    #[test]
    #[should_panic(expected = "inputs of one length")]
    fn inputs_of_different_lengths_are_refused() {
        build(SQUARE, |_, _, writer| {
            writer.append_of([&[0_u8, 1][..], &[2][..]], |[a, b]| a + b);
        });
    }

    #[test]
    fn nothing_to_write() {
        for (rows, width) in [(0, 3), (2, 0), (0, 0)] {
            let grid = Grid {
                rows,
                width,
                part: 2,
            };
            let (buffer, _) = build(grid, |_, _, _: &mut Writer<'_, u8>| ());
            assert!(buffer.is_empty());
        }
    }

    const SQUARE: Grid = Grid {
        rows: 2,
        width: 2,
        part: 2,
    };

    #[test]
    #[should_panic(expected = "left part 0 of its output unwritten")]
    fn a_missing_row_is_refused() {
        build(SQUARE, |_, _, writer| writer.append(2, |_| 0_u8));
    }

    #[test]
    #[should_panic(expected = "past the end of a row")]
    fn writing_past_a_row_is_refused() {
        build(SQUARE, |_, _, writer| writer.append(3, |_| 0_u8));
    }

    #[test]
    #[should_panic(expected = "more rows than it has")]
    fn writing_too_many_rows_is_refused() {
        build(SQUARE, |_, _, writer| {
            for _ in 0..3 {
                writer.append(2, |_| 0_u8);
            }
        });
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panic_passes_through() {
        build(Grid::chunks(1 << 18, 1 << 10), |part, columns, writer| {
            assert!(part != 2, "on purpose");
            writer.append(columns.len(), |_| 0_u8);
        });
    }

    #[test]
    #[should_panic(expected = "address space")]
    fn a_size_that_wraps_around_is_refused() {
        let grid = Grid {
            rows: usize::MAX / 2 + 2,
            width: 2,
            part: 2,
        };
        build(grid, |_, _, _: &mut Writer<'_, u8>| ());
    }
}
