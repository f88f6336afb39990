//! Max pooling over the windows of images.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use crate::Float;
use crate::output::{Grid, Writer, build, build_from};

/// Elements of the larger side that a thread takes at a time.
const CHUNK: usize = 1 << 15;
/// A winner is stored in one byte.
const MOST_PLACES: usize = 256;

/// Contiguous images of one channel, `[count, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Examples times channels.
    pub count: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Planes {
    /// Elements of one image.
    pub(crate) fn area(&self) -> usize {
        self.height * self.width
    }

    /// # Panics
    /// If a slice of `found` elements is not of this shape.
    pub(super) fn check(&self, argument: &str, found: usize) {
        let Self {
            count,
            height,
            width,
        } = self;
        let expected = count
            .checked_mul(*height)
            .and_then(|rows| rows.checked_mul(*width));
        assert_eq!(
            Some(found),
            expected,
            "{argument}: expected [{count}, {height}, {width}] values"
        );
    }

    /// Images that a thread takes at a time.
    pub(super) fn together(&self) -> usize {
        (CHUNK / self.area().max(1)).max(1)
    }
}

/// The windows that slide over an image: rows first, columns second in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions under a window.
    pub size: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Positions around the image that windows may reach over; no value there takes part.
    pub padding: [usize; 2],
}

impl Window {
    /// 2×2, side by side: halves height and width.
    pub const HALVING: Self = Self {
        size: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    };

    /// The shape of the pooled images: ⌊(size of the image + 2·padding − window)/stride⌋ + 1 each
    /// way.
    ///
    /// # Errors
    /// If a window has no positions or more than 256, a stride is zero, the padding is more than
    /// half the window (a window could then lie outside the image), or the image is smaller than
    /// one window.
    pub fn output(&self, planes: Planes) -> Result<Planes, String> {
        let Self {
            size: [rows, columns],
            stride,
            padding,
        } = self;
        let Planes {
            count,
            height,
            width,
        } = planes;
        let places = rows.checked_mul(*columns).unwrap_or(usize::MAX);
        if !(1..=MOST_PLACES).contains(&places) {
            return Err(format!(
                "expected a window of 1 to {MOST_PLACES} positions, got {rows}×{columns}"
            ));
        }
        if stride.contains(&0) {
            return Err(format!("expected a stride of at least 1, got {stride:?}"));
        }
        if padding[0] > rows / 2 || padding[1] > columns / 2 {
            return Err(format!(
                "expected a padding of at most half the window of {rows}×{columns}, got {padding:?}"
            ));
        }
        let along = |image: usize, axis: usize| {
            let padded = image + 2 * padding[axis];
            (image > 0 && padded >= self.size[axis])
                .then(|| (padded - self.size[axis]) / stride[axis] + 1)
        };
        let (Some(height), Some(width)) = (along(height, 0), along(width, 1)) else {
            return Err(format!(
                "a window of {rows}×{columns} does not fit images of {height}×{width} with a \
                 padding of {padding:?}"
            ));
        };
        Ok(Planes {
            count,
            height,
            width,
        })
    }

    fn checked_output(&self, planes: Planes) -> Planes {
        match self.output(planes) {
            Ok(output) => output,
            Err(problem) => panic!("max_pool: {problem}"),
        }
    }
}

/// What [`max_pool`] returns, both `[count, output height, output width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool<T> {
    /// The largest value under each window.
    pub output: Vec<T>,
    /// Where in its window that value lies, row by row: all that the backward needs, one byte.
    pub winners: Vec<u8>,
}

/// The windows of an output row that have a value under one of their columns.
pub(super) struct Span {
    /// Of the window.
    column: usize,
    pub windows: Range<usize>,
    /// Where in the image's row the first of them has that value.
    pub start: usize,
}

pub(super) fn spans(window: &Window, width: usize, output_width: usize) -> Vec<Span> {
    let (stride, padding) = (window.stride[1], window.padding[1]);
    let span = |column: usize| {
        let first = padding.saturating_sub(column).div_ceil(stride);
        let end = (width + padding).saturating_sub(column).div_ceil(stride);
        Span {
            column,
            windows: first..end.min(output_width),
            start: (first * stride + column).saturating_sub(padding),
        }
    };
    (0..window.size[1])
        .map(span)
        .filter(|span| !span.windows.is_empty())
        .collect()
}

/// y\[p, i, j\] = the largest of x\[p, i·stride − padding + a, j·stride − padding + b\] over the
/// window's (a, b) that lie in the image. NaN is larger than any number; of equal values the first
/// wins, of several NaN the last (as in PyTorch).
///
/// # Panics
/// If `x` is not of this shape, or the windows do not fit it: see [`Window::output`].
pub fn max_pool<T: Float>(x: &[T], planes: Planes, window: Window) -> MaxPool<T> {
    planes.check("x", x.len());
    max_pool_of(planes, window, |images| {
        Cow::Borrowed(&x[images.start * planes.area()..images.end * planes.area()])
    })
}

/// [`max_pool`] of some images after another.
pub(crate) fn max_pool_of<'a, T: Float>(
    planes: Planes,
    window: Window,
    x: impl Fn(Range<usize>) -> Cow<'a, [T]> + Sync,
) -> MaxPool<T> {
    let pooling = Pooling::new(planes, window);
    let area = pooling.pooled.area();
    let grid = Grid::chunks(planes.count * area, planes.together() * area);
    let (output, winners) = build_from(planes.count * planes.area(), grid, |_, range, writer| {
        let x = x(range.start / area..range.end / area);
        let mut winners = vec![0; range.len()];
        pool(&x, &pooling, &mut winners, writer);
        winners
    });
    MaxPool {
        output,
        winners: winners.concat(),
    }
}

/// Pools some images.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn pool<T: Float>(x: &[T], pooling: &Pooling, winners: &mut [u8], writer: &mut Writer<'_, T>) {
    // Of one row of windows; the places as wide as the values, to be compared in step.
    let Planes { height, width, .. } = pooling.pooled;
    let (mut largest, mut places) = (vec![T::ZERO; width], vec![0; width]);
    let mut winners = winners.chunks_exact_mut(width);
    for image in x.chunks_exact(pooling.planes.area()) {
        for (i, winners) in (0..height).zip(&mut winners) {
            pooling.row(image, 0, i, &mut largest, &mut places);
            writer.append(width, |j| largest[j]);
            for (winner, &place) in winners.iter_mut().zip(&places) {
                *winner = place as u8;
            }
        }
    }
}

/// Windows over images of one shape.
pub(crate) struct Pooling {
    planes: Planes,
    /// The images that come out.
    pub pooled: Planes,
    window: Window,
    spans: Vec<Span>,
}

impl Pooling {
    /// # Panics
    /// If the windows do not fit: see [`Window::output`].
    pub fn new(planes: Planes, window: Window) -> Self {
        let pooled = window.checked_output(planes);
        Self {
            planes,
            pooled,
            window,
            spans: spans(&window, planes.width, pooled.width),
        }
    }

    /// The image's rows under some rows of windows.
    pub fn rows(&self, windows: &Range<usize>) -> Range<usize> {
        let ([size, _], [stride, _], [padding, _]) =
            (self.window.size, self.window.stride, self.window.padding);
        let start = (windows.start * stride).saturating_sub(padding);
        let end = (windows.end - 1) * stride + size;
        start..end.saturating_sub(padding).min(self.planes.height)
    }

    /// Whether it is [`Window::HALVING`].
    pub fn halves(&self) -> bool {
        self.window == Window::HALVING
    }

    /// Rows that windows may reach over, before the image.
    pub fn padding(&self) -> usize {
        self.window.padding[0]
    }

    /// Writes the largest values under some rows of windows to `y`, whole pooled images, given the rows under them
    /// of each image.
    pub fn pool_rows<T: Float>(&self, x: &[T], windows: &Range<usize>, y: &mut [T]) {
        pool_rows(self, x, windows, y);
    }

    /// Row `i` of the windows of an image, of which `x` holds the rows from `first` on.
    #[inline(always)]
    fn row<T: Float>(
        &self,
        x: &[T],
        first: usize,
        i: usize,
        largest: &mut [T],
        places: &mut [u32],
    ) {
        if self.window == Window::HALVING {
            let width = self.planes.width;
            let rows = &x[(2 * i - first) * width..][..2 * width];
            let (top, bottom) = rows.split_at(width);
            halve(top, bottom, largest, places);
        } else {
            self.any_row(x, first, i, largest, places);
        }
    }

    /// [`row`](Self::row), for any window.
    #[inline(always)]
    fn any_row<T: Float>(
        &self,
        x: &[T],
        first: usize,
        i: usize,
        largest: &mut [T],
        places: &mut [u32],
    ) {
        let Self {
            planes: Planes { height, width, .. },
            window,
            spans,
            ..
        } = self;
        let [rows, columns] = window.size;
        // The window's rows that lie in the image.
        let top = i * window.stride[0];
        let begin = window.padding[0].saturating_sub(top);
        let end = rows.min(height + window.padding[0] - top);
        // The first value wins until a larger comes, which none does if all are −∞.
        for (j, place) in places.iter_mut().enumerate() {
            let column = window.padding[1].saturating_sub(j * window.stride[1]);
            *place = (begin * columns + column) as u32;
        }
        largest.fill(T::NEGATIVE_INFINITY);
        for row in begin..end {
            let x = &x[(top + row - window.padding[0] - first) * width..][..*width];
            for span in spans {
                let place = (row * columns + span.column) as u32;
                let values = x[span.start..].iter().step_by(window.stride[1]);
                let largest = &mut largest[span.windows.clone()];
                let places = &mut places[span.windows.clone()];
                for ((largest, winner), &value) in largest.iter_mut().zip(places).zip(values) {
                    (*largest, *winner) = winner_of((*largest, *winner), (value, place));
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn pool_rows<T: Float>(pooling: &Pooling, x: &[T], windows: &Range<usize>, y: &mut [T]) {
    let rows = pooling.rows(windows);
    let Planes { width, .. } = pooling.pooled;
    let mut places = vec![0; width];
    let images = x.chunks_exact(rows.len() * pooling.planes.width);
    for (image, y) in images.zip(y.chunks_exact_mut(pooling.pooled.area())) {
        for i in windows.clone() {
            let largest = &mut y[i * width..][..width];
            pooling.row(image, rows.start, i, largest, &mut places);
        }
    }
}

/// Without a branch: vectors have none.
#[inline(always)]
fn winner_of<T: Float>(first: (T, u32), second: (T, u32)) -> (T, u32) {
    let wins = (second.0 > first.0) | second.0.is_nan();
    (
        if wins { second.0 } else { first.0 },
        if wins { second.1 } else { first.1 },
    )
}

/// The value of [`winner_of`].
#[inline(always)]
pub(crate) fn larger_of<T: Float>(first: T, second: T) -> T {
    winner_of((first, 0), (second, 0)).0
}

/// A row of windows of [`Window::HALVING`]: one pass that reads two rows without a gap, which
/// vectorizes as steps over columns do not (8 times faster).
#[inline(always)]
fn halve<T: Float>(top: &[T], bottom: &[T], largest: &mut [T], places: &mut [u32]) {
    let pairs = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
    for ((largest, place), (top, bottom)) in largest.iter_mut().zip(places).zip(pairs) {
        let upper = winner_of((top[0], 0), (top[1], 1));
        let three = winner_of(upper, (bottom[0], 2));
        (*largest, *place) = winner_of(three, (bottom[1], 3));
    }
}

/// The gradient by x, given `dy` and the `winners` of [`max_pool`]: each dy\[p, i, j\] goes to the
/// position that won its window.
///
/// # Panics
/// If `dy` or `winners` is not of the output's shape, or a winner is not a place in its window.
pub fn max_pool_backward<T: Float>(
    dy: &[T],
    winners: &[u8],
    planes: Planes,
    window: Window,
) -> Vec<T> {
    let spread = Spread::new(planes, window);
    spread.check(dy, winners);
    let area = planes.area();
    let chunk = planes.together() * area;
    let (output, _) = build(
        Grid::chunks(planes.count * area, chunk),
        |_, range, writer| {
            let mut dx = vec![T::ZERO; area];
            for image in range.start / area..range.end / area {
                dx.fill(T::ZERO);
                spread.add(dy, winners, image, &mut dx);
                writer.append(area, |i| dx[i]);
            }
        },
    );
    output
}

/// Sends gradients back to the places that won.
pub(crate) struct Spread {
    window: Window,
    pooled: Planes,
    width: usize,
    /// In an image, of each place of a window in its corner.
    places: Vec<usize>,
    /// From there to the first window's corner, which lies so much before the image.
    padding: usize,
}

impl Spread {
    pub fn new(planes: Planes, window: Window) -> Self {
        let [rows, columns] = window.size;
        let places = 0..rows * columns;
        Self {
            window,
            pooled: window.checked_output(planes),
            width: planes.width,
            places: places
                .map(|place| place / columns * planes.width + place % columns)
                .collect(),
            padding: window.padding[0] * planes.width + window.padding[1],
        }
    }

    /// # Panics
    /// If a slice is not of the pooled images' shape.
    pub fn check<T>(&self, dy: &[T], winners: &[u8]) {
        self.pooled.check("dy", dy.len());
        self.pooled.check("winners", winners.len());
    }

    /// Adds the gradients of one image's windows to `dx`, that image.
    ///
    /// # Panics
    /// If a winner is not a place in its window.
    pub fn add<T: Float>(&self, dy: &[T], winners: &[u8], image: usize, dx: &mut [T]) {
        let Planes { width, .. } = self.pooled;
        let windows = image * self.pooled.area()..(image + 1) * self.pooled.area();
        let rows = dy[windows.clone()].chunks_exact(width);
        for (i, (dy, winners)) in rows.zip(winners[windows].chunks_exact(width)).enumerate() {
            let top = i * self.window.stride[0] * self.width;
            for (j, (&dy, &winner)) in dy.iter().zip(winners).enumerate() {
                let place = top + j * self.window.stride[1] + self.places[usize::from(winner)];
                dx[place - self.padding] += dy;
            }
        }
    }
}
