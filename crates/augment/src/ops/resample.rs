//! Resampling to another size: a separable convolution with a filter's weights.

use multiversion::multiversion;

use super::filter::Filter;
use super::geometry::{Axis, Geometry};
use crate::Image;
use crate::size::Size;

mod digits;

/// Makes the image what the geometry, which fits it, makes of it.
pub(super) fn resample(image: &mut Image, geometry: &Geometry, scratch: &mut Vec<u8>) {
    let resampling = Resampling::new(geometry, image.channels());
    if !resampling.keeps_rows(image.width(), image.height()) {
        let [width, height] = resampling.between();
        image.rewrite(width, height, scratch, |image, pixels| {
            let samples = Samples::of(image);
            match image.channels() {
                1 => resampling.rows::<1, 8>(samples, pixels),
                2 => resampling.rows::<2, { 2 * 8 }>(samples, pixels),
                3 => resampling.rows::<3, { 3 * 8 }>(samples, pixels),
                _ => resampling.rows::<4, { 4 * 8 }>(samples, pixels),
            }
        });
    }
    if resampling.vertical.is_some() {
        let Size { width, height } = geometry.output();
        image.rewrite(width, height, scratch, |image, pixels| {
            resampling.columns(image.pixels(), pixels);
        });
    }
}

/// Rows of pixels somewhere in memory.
#[derive(Clone, Copy)]
pub(crate) struct Samples<'a> {
    pub bytes: &'a [u8],
    /// From one row to the next.
    pub stride: usize,
}

impl<'a> Samples<'a> {
    fn of(image: &'a Image) -> Self {
        Self {
            bytes: image.pixels(),
            stride: image.width() * image.channels(),
        }
    }

    /// The bytes from the first of row `y` on.
    fn row(self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..]
    }
}

/// A geometry's weights. Rows are resampled first, then columns.
pub(crate) struct Resampling {
    across: Axis,
    down: Axis,
    horizontal: Option<Weights>,
    vertical: Option<Weights>,
    /// The same, where that is faster.
    along: Option<digits::Along>,
    below: Option<digits::Across>,
    /// The rows that are needed of the input, in order.
    rows: Vec<usize>,
    /// The columns that are copied, where rows are not resampled.
    columns: Vec<usize>,
}

impl Resampling {
    /// Of images of so many channels.
    pub fn new(geometry: &Geometry, channels: usize) -> Self {
        let &Geometry {
            across,
            down,
            resize,
        } = geometry;
        let weights = |axis: &Axis| match resize {
            Some((filter, antialias)) if filter != Filter::Nearest && !axis.copies() => {
                Some(Weights::new(axis, filter, antialias))
            }
            _ => None,
        };
        let [horizontal, vertical] = [&across, &down].map(weights);
        let fast = digits::are_fast();
        let along = horizontal.as_ref().filter(|_| fast);
        let along = along.and_then(|weights| digits::Along::new(weights, channels));
        let wide = across.count * channels >= digits::Across::LEAST;
        let below = vertical.as_ref().filter(|_| fast && wide);
        let below = below.map(digits::Across::new);
        let rows = match &vertical {
            Some(weights) => weights.inputs().collect(),
            None => nearest_places(&down),
        };
        let columns = match &horizontal {
            Some(_) => Vec::new(),
            None => nearest_places(&across),
        };
        Self {
            across,
            down,
            horizontal,
            vertical,
            along,
            below,
            rows,
            columns,
        }
    }

    /// Columns and rows of what the rows become.
    fn between(&self) -> [usize; 2] {
        [self.across.count, self.rows.len()]
    }

    /// Whether the rows of an image of this size become what they are.
    fn keeps_rows(&self, width: usize, height: usize) -> bool {
        self.across == Axis::whole(width) && self.rows.len() == height && self.rows.is_sorted()
    }

    /// Makes the rows. `LANES` is the number of channels times [`ROWS`].
    fn rows<const CHANNELS: usize, const LANES: usize>(
        &self,
        samples: Samples<'_>,
        pixels: &mut [u8],
    ) {
        if let Some(along) = &self.along {
            along.rows(samples, &self.rows, pixels);
            return;
        }
        match &self.horizontal {
            Some(weights) => weights.along::<CHANNELS, LANES>(samples, &self.rows, pixels),
            None => pick::<CHANNELS>(samples, &self.rows, &self.columns, pixels),
        }
    }

    /// Makes the columns of what the rows became.
    fn columns(&self, pixels: &[u8], outputs: &mut [u8]) {
        let first = self.rows.first().copied().unwrap_or(0);
        if let Some(weights) = &self.vertical {
            let stride = outputs.len() / self.down.count;
            for (i, output) in outputs.chunks_exact_mut(stride).enumerate() {
                let (start, weights) = weights.of(i);
                let pixels = &pixels[(start - first) * stride..];
                match &self.below {
                    Some(below) => below.row(i, weights.len(), pixels, output),
                    None => columns(weights, pixels, output),
                }
            }
        }
    }

    /// Makes one channel, of samples somewhere else; `between` is memory.
    pub fn plane(&self, samples: Samples<'_>, between: &mut Vec<u8>, output: &mut Vec<u8>) {
        let [width, height] = self.between();
        let first = match self.vertical {
            Some(_) => &mut *between,
            None => &mut *output,
        };
        // What is left of an earlier one is overwritten.
        first.resize(width * height, 0);
        self.rows::<1, 8>(samples, first);
        if self.vertical.is_some() {
            output.resize(width * self.down.count, 0);
            self.columns(between, output);
        }
    }
}

/// The input pixel that holds the centre of each output pixel: ⌊(i + ½)·s⌋.
fn nearest_places(axis: &Axis) -> Vec<usize> {
    // Without a resize of several steps, which this filter takes no part in, the span is whole.
    let (from, span) = (axis.from as usize, axis.span as usize);
    axis.places()
        .map(|i| axis.start + from + (2 * i + 1) * span / (2 * axis.to))
        .collect()
}

/// Copies these rows and of them these columns.
fn pick<const CHANNELS: usize>(
    input: Samples<'_>,
    rows: &[usize],
    columns: &[usize],
    pixels: &mut [u8],
) {
    let (Some(&first), Some(&last)) = (columns.first(), columns.last()) else {
        return;
    };
    // A run, forwards or backwards, or any.
    let forwards = first <= last && last - first + 1 == columns.len();
    let backwards = last <= first && first - last + 1 == columns.len();
    let outputs = pixels.as_chunks_mut::<CHANNELS>().0;
    for (output, &y) in outputs.chunks_exact_mut(columns.len()).zip(rows) {
        let row = input.row(y).as_chunks::<CHANNELS>().0;
        if forwards {
            output.copy_from_slice(&row[first..=last]);
        } else if backwards {
            let run = row[last..=first].iter().rev();
            output
                .iter_mut()
                .zip(run)
                .for_each(|(output, pixel)| *output = *pixel);
        } else {
            for (output, &column) in output.iter_mut().zip(columns) {
                *output = row[column];
            }
        }
    }
}

/// The weights of the input pixels of every output pixel, along one side.
struct Weights {
    /// The first input pixel, and where its weight is.
    starts: Vec<(usize, usize)>,
    /// In units of 2⁻²².
    values: Vec<i32>,
}

const FRACTION: u32 = 22;
const HALF: i32 = 1 << (FRACTION - 1);

impl Weights {
    fn new(axis: &Axis, filter: Filter, antialias: bool) -> Self {
        let scale = axis.scale();
        let stretch = if antialias { scale.max(1.0) } else { 1.0 };
        let support = filter.support() * stretch;
        let narrow = 1.0 / stretch; // multiplied by, as Pillow does
        let mut starts = Vec::with_capacity(axis.count + 1);
        let most = axis.count * (2.0 * support + 2.0) as usize;
        // Shares of the pixels, and for each the sum of those of its output.
        let (mut shares, mut sums) = (Vec::with_capacity(most), Vec::with_capacity(most));
        for i in axis.places() {
            let centre = axis.from + (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(axis.length);
            let begin = shares.len();
            starts.push((axis.start + first, begin));
            shares.extend((first..last).map(|j| filter.weight((j as f64 - centre + 0.5) * narrow)));
            let sum: f64 = shares[begin..].iter().sum();
            sums.resize(shares.len(), sum);
        }
        starts.push((0, shares.len())); // where the last one's weights end
        let mut values = vec![0; shares.len()];
        fixed_point(&shares, &sums, &mut values);
        Self { starts, values }
    }

    /// The first input pixel of output pixel `i`, and its and the following ones' weights.
    fn of(&self, i: usize) -> (usize, &[i32]) {
        let (first, begin) = self.starts[i];
        (first, &self.values[begin..self.starts[i + 1].1])
    }

    /// All input pixels from the first to the last one that counts.
    fn inputs(&self) -> std::ops::Range<usize> {
        let all = (0..self.starts.len() - 1).map(|i| self.of(i));
        let ends = all.map(|(first, weights)| (first, first + weights.len()));
        let ends = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        ends.map_or(0..0, |(first, end)| first..end)
    }

    /// Resamples rows. `LANES` is the number of channels times [`ROWS`].
    fn along<const CHANNELS: usize, const LANES: usize>(
        &self,
        input: Samples<'_>,
        rows: &[usize],
        pixels: &mut [u8],
    ) {
        let inputs = self.inputs();
        let width = self.starts.len() - 1;
        let (from, to) = (inputs.start * CHANNELS, inputs.end * CHANNELS);
        // Columns of eight rows each: what is computed for one row is computed for all eight at once.
        let stride = width * CHANNELS;
        let mut columns = vec![0; (to - from) * ROWS];
        let mut outputs = vec![0; stride * ROWS];
        // In place of rows that there are none of.
        let mut nowhere = [const { Vec::new() }; ROWS];
        for (ys, pixels) in rows.chunks(ROWS).zip(pixels.chunks_mut(stride * ROWS)) {
            let lines = std::array::from_fn(|i| &input.row(ys[i.min(ys.len() - 1)])[from..to]);
            to_columns(lines, &mut columns);
            weigh::<LANES>(
                &self.starts,
                &self.values,
                inputs.start,
                &columns,
                &mut outputs,
            );
            let mut lines = pixels.chunks_exact_mut(stride);
            let lines = nowhere.each_mut().map(|nowhere| {
                lines.next().unwrap_or_else(|| {
                    nowhere.resize(stride, 0);
                    &mut nowhere[..]
                })
            });
            to_rows(&outputs, lines);
        }
    }
}

/// Shares of their sums, as integers.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fixed_point(shares: &[f64], sums: &[f64], values: &mut [i32]) {
    let unit = f64::from(1 << FRACTION);
    for ((value, share), sum) in values.iter_mut().zip(shares).zip(sums) {
        let scaled = share / sum * unit;
        *value = (scaled + f64::copysign(0.5, scaled)) as i32;
    }
}

/// Rows that are resampled together.
const ROWS: usize = 8;

/// The bytes of eight rows as columns of eight bytes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_columns(rows: [&[u8]; ROWS], columns: &mut [u8]) {
    // A plain loop over slices of one length: compilers have the permutations for it.
    let columns = columns.as_chunks_mut::<ROWS>().0;
    let count = rows[0].len();
    let [a, b, c, d, e, f, g, h] = rows.map(|row| &row[..count]);
    let columns = &mut columns[..count];
    for i in 0..count {
        columns[i] = [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]];
    }
}

/// Columns of eight bytes as rows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_rows(columns: &[u8], rows: [&mut [u8]; ROWS]) {
    let columns = columns.as_chunks::<ROWS>().0;
    let count = columns.len();
    let [a, b, c, d, e, f, g, h] = rows.map(|row| &mut row[..count]);
    for i in 0..count {
        a[i] = columns[i][0];
        b[i] = columns[i][1];
        c[i] = columns[i][2];
        d[i] = columns[i][3];
        e[i] = columns[i][4];
        f[i] = columns[i][5];
        g[i] = columns[i][6];
        h[i] = columns[i][7];
    }
}

/// For each output pixel the sum of the input pixels' lanes, each times its weight. |Σ w| stays below 2 for all filters,
/// so 255·2²²·Σ fits 31 bits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn weigh<const LANES: usize>(
    starts: &[(usize, usize)],
    values: &[i32],
    start: usize,
    columns: &[u8],
    outputs: &mut [u8],
) {
    let pixels = columns.as_chunks::<LANES>().0;
    let outputs = outputs.as_chunks_mut::<LANES>().0;
    for (bounds, output) in starts.windows(2).zip(outputs) {
        let ((first, begin), end) = (bounds[0], bounds[1].1);
        let mut sums = [HALF; LANES];
        for (levels, &weight) in pixels[first - start..].iter().zip(&values[begin..end]) {
            for lane in 0..LANES {
                sums[lane] += weight * i32::from(levels[lane]);
            }
        }
        for lane in 0..LANES {
            output[lane] = level(sums[lane]);
        }
    }
}

/// The sum of rows, each times its weight.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn columns(weights: &[i32], pixels: &[u8], output: &mut [u8]) {
    // As many sums at a time as stay in registers.
    const LANES: usize = 64;
    let stride = output.len();
    let (parts, rest) = output.as_chunks_mut::<LANES>();
    let done = parts.len() * LANES;
    for (part, output) in parts.iter_mut().enumerate() {
        let mut sums = [HALF; LANES];
        for (row, &weight) in pixels.chunks_exact(stride).zip(weights) {
            let Some(levels) = row[part * LANES..].first_chunk::<LANES>() else {
                return;
            };
            for lane in 0..LANES {
                sums[lane] += weight * i32::from(levels[lane]);
            }
        }
        for lane in 0..LANES {
            output[lane] = level(sums[lane]);
        }
    }
    let mut sums = [HALF; LANES];
    for (row, &weight) in pixels.chunks_exact(stride).zip(weights) {
        for (sum, &level) in sums.iter_mut().zip(&row[done..]) {
            *sum += weight * i32::from(level);
        }
    }
    for (output, &sum) in rest.iter_mut().zip(&sums) {
        *output = level(sum);
    }
}

fn level(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Apply, Parameters, Resized, ResizedWindow};
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    struct Region {
        left: usize,
        top: usize,
        size: Size,
    }

    /// The definition, in f64, without rounding between the sides.
    fn naive(image: &Image, region: Region, to: Size, filter: Filter, antialias: bool) -> Vec<f64> {
        let weights = |i: usize, from: usize, to: usize| -> Vec<(usize, f64)> {
            let s = from as f64 / to as f64;
            let t = if antialias { s.max(1.0) } else { 1.0 };
            let c = (i as f64 + 0.5) * s;
            let weight = |j: usize| match filter {
                // The half-open box.
                Filter::Nearest => f64::from(u8::from((j as f64..j as f64 + 1.0).contains(&c))),
                _ => filter.weight((j as f64 + 0.5 - c) / t),
            };
            let all = (0..from).map(|j| (j, weight(j)));
            let sum: f64 = all.clone().map(|(_, weight)| weight).sum();
            all.filter(|(_, weight)| *weight != 0.0)
                .map(|(j, weight)| (j, weight / sum))
                .collect()
        };
        let mut output = Vec::new();
        for y in 0..to.height {
            let rows = weights(y, region.size.height, to.height);
            for x in 0..to.width {
                let columns = weights(x, region.size.width, to.width);
                for channel in 0..image.channels() {
                    let mut sum = 0.0;
                    for (j, v) in &rows {
                        for (i, u) in &columns {
                            let pixel = image.pixel(region.left + i, region.top + j);
                            sum += u * v * f64::from(pixel[channel]);
                        }
                    }
                    output.push(sum);
                }
            }
        }
        output
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn matches_the_definition(
            (width, height) in (1..20_usize, 1..20_usize),
            channels in 1..5_usize,
            (to_width, to_height) in (1..30_usize, 1..30_usize),
            filter in prop::sample::select(vec![
                Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos,
            ]),
            antialias in any::<bool>(),
            window in any::<[prop::sample::Index; 4]>(),
            seed in any::<u32>(),
        ) {
            // Far enough from 0 and 255 that nothing is clipped between the sides.
            let pixels = (0..width * height * channels)
                .map(|i| (128.0 + 60.0 * (f64::from(seed) + i as f64 * 0.37).sin()) as u8)
                .collect();
            let mut image = Image::new(width, height, channels, pixels).unwrap();
            let [left, top, w, h] = window;
            let (left, top) = (left.index(width), top.index(height));
            let size = Size::new(1 + w.index(width - left), 1 + h.index(height - top));
            let region = Region { left, top, size };
            let to = Size::new(to_width, to_height);
            let expected = naive(&image, region, to, filter, antialias);
            let window = ResizedWindow {
                left,
                top,
                width: size.width,
                height: size.height,
                to_width,
                to_height,
                filter,
                antialias,
            };
            window.apply(&mut image, &mut vec![7; 9]);
            prop_assert_eq!((image.width(), image.height()), (to_width, to_height));
            for (&found, &expected) in image.pixels().iter().zip(&expected) {
                // Half a level a side, the first times Σ|w| of the second.
                let allowed = if filter == Filter::Nearest { 1e-9 } else { 1.3 };
                prop_assert!(
                    (f64::from(found) - expected).abs() <= allowed,
                    "{} {}", found, expected
                );
            }
        }
    }

    #[test]
    fn weights_are_a_partition_of_one() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (from, to) in [(1, 1), (1, 50), (50, 1), (7, 13), (224, 500), (500, 224)] {
                for antialias in [false, true] {
                    let mut geometry = Geometry::none(Size::new(from, 1));
                    let resized = Resized {
                        width: to,
                        height: 1,
                        filter,
                        antialias,
                    };
                    geometry.take(&Parameters::Resize(resized), true);
                    let weights = Weights::new(&geometry.across, filter, antialias);
                    for i in 0..to {
                        let (first, weights) = weights.of(i);
                        assert!(!weights.is_empty() && first + weights.len() <= from);
                        let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
                        let magnitude: i64 = weights.iter().map(|&w| i64::from(w).abs()).sum();
                        assert!((sum - (1 << FRACTION)).unsigned_abs() <= weights.len() as u64);
                        assert!(255 * magnitude + i64::from(HALF) <= i64::from(i32::MAX));
                    }
                }
            }
        }
    }
}
