//! Baseline JPEG: any part of the picture, and at ½, ¼ or ⅛ of its size.
//!
//! A scan is a stream of codes that must be read from its start, but nothing else need be done outside the part:
//! no cosine transform, no colours, and below it not even the codes. At a fraction of its size each 8×8 block is
//! transformed from its lowest frequencies alone.
//!
//! Values are libjpeg's, and with that Pillow's and OpenCV's: the accurate integer transform, triangle
//! upsampling of colour differences, colours in 16 fractional bits. The part of a picture equals that part of
//! the whole. Fractions of the size are this crate's own: the inverse transform of as many points. So is what
//! [resampling](resampled) makes of planes.
//!
//! [`Jpeg::open`] takes 8-bit sequential Huffman files of one scan, gray or YCbCr with the usual subsamplings: nearly
//! all photographs. Everything else, and all that is odd or damaged, goes to the general decoder.

mod color;
mod idct;
pub(super) mod resampled;
mod scan;

use image::metadata::Orientation;
use multiversion::multiversion;

use scan::{Codes, Means, Runs, Scan};

/// A file whose headers were read.
pub(super) struct Jpeg<'a> {
    width: usize,
    height: usize,
    pub orientation: Orientation,
    components: Vec<Component>,
    /// 0 and 1 for means, then 0 and 1 for the other coefficients.
    tables: [Option<Codes<'a>>; 4],
    /// MCUs between restart markers, or 0.
    restart: usize,
    /// From the first code on.
    scan: &'a [u8],
}

#[derive(Clone, Debug)]
struct Component {
    /// Blocks an MCU, across and down.
    across: usize,
    down: usize,
    /// Of the coefficients in rows.
    quantization: [i16; 64],
    /// Which of the tables of means, and which of the others.
    means: usize,
    runs: usize,
}

/// A part of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Part {
    fn right(&self) -> usize {
        self.left + self.width
    }

    fn bottom(&self) -> usize {
        self.top + self.height
    }
}

/// How finely one component is decoded.
#[derive(Clone, Copy)]
struct Resolution {
    /// Pixels a block's side: 1, 2, 4 or 8.
    side: usize,
    /// How many luma samples one of these stands for, across and down: 1 or 2.
    ratio: [usize; 2],
    /// The whole plane's sides.
    size: [usize; 2],
}

impl Resolution {
    /// The samples that a part of the picture depends on: columns from and to, rows from and to.
    fn around(&self, part: Part) -> [[usize; 2]; 2] {
        let sides = [[part.left, part.right()], [part.top, part.bottom()]];
        [0, 1].map(|i| {
            let [from, to] = sides[i];
            // Upsampling looks at the next sample on either side.
            match self.ratio[i] {
                1 => [from, to],
                _ => [(from / 2).saturating_sub(1), (to / 2 + 2).min(self.size[i])],
            }
        })
    }
}

/// The samples of one component that are needed.
struct Plane {
    resolution: Resolution,
    /// Blocks across and down: from, to.
    blocks: [[usize; 2]; 2],
    samples: Vec<u8>,
    coefficients: Vec<i16>,
}

impl Plane {
    /// In `memory`. All samples are written before they are read.
    fn new(
        component: &Component,
        resolution: Resolution,
        needed: [[usize; 2]; 2],
        (samples, coefficients): (Vec<u8>, Vec<i16>),
    ) -> Self {
        let side = resolution.side;
        let blocks = needed.map(|[from, to]| [from / side, to.div_ceil(side)]);
        let mut plane = Self {
            resolution,
            blocks,
            samples,
            coefficients,
        };
        let down = blocks[1][1] - blocks[1][0];
        plane.samples.resize(plane.stride() * down * side, 0);
        let coefficients = plane.groups() * component.down * idct::GROUP;
        plane.coefficients.resize(coefficients, 0);
        plane
    }

    /// Groups of blocks that are transformed together; the last one need not be full.
    fn groups(&self) -> usize {
        let [from, to] = self.blocks[0];
        (to - from).div_ceil(idct::LANES)
    }

    fn stride(&self) -> usize {
        self.groups() * idct::LANES * self.resolution.side
    }

    /// Makes all coefficients 0 that are transformed: of a block of fewer points, its lowest frequencies.
    fn clear(&mut self) {
        for group in self.coefficients.chunks_exact_mut(idct::GROUP) {
            group[..self.resolution.side * BLOCK * idct::LANES].fill(0);
        }
    }

    /// Row `y` of the whole plane.
    fn row(&self, y: usize) -> &[u8] {
        let y = y - self.blocks[1][0] * self.resolution.side;
        &self.samples[y * self.stride()..][..self.stride()]
    }

    /// The column of the whole plane that rows begin with.
    fn first_column(&self) -> usize {
        self.blocks[0][0] * self.resolution.side
    }
}

/// What a thread keeps between files: each component's samples and coefficients, what becomes of them, bytes, and the
/// last file's tables, which are most files'.
#[derive(Default)]
pub(crate) struct JpegMemory {
    planes: [(Vec<u8>, Vec<i16>); 3],
    resampled: [Vec<u8>; 3],
    bytes: Vec<u8>,
    tables: Tables,
}

impl JpegMemory {
    fn keep(&mut self, planes: Vec<Plane>) {
        for (memory, plane) in self.planes.iter_mut().zip(planes) {
            *memory = (plane.samples, plane.coefficients);
        }
    }
}

/// Those that a scan uses.
#[derive(Default)]
struct Tables {
    means: [Option<Means>; 2],
    runs: [Option<Runs>; 2],
}

impl Tables {
    /// Makes those that are needed and were not those of the last file.
    fn prepare(&mut self, codes: &[Option<Codes<'_>>; 4], components: &[Component]) -> Option<()> {
        for component in components {
            let means = &mut self.means[component.means];
            let codes_of_means = codes[component.means]?;
            if !means
                .as_ref()
                .is_some_and(|means| means.is_of(codes_of_means))
            {
                *means = Some(Means::new(codes_of_means)?);
            }
            let runs = &mut self.runs[component.runs];
            let codes_of_runs = codes[2 + component.runs]?;
            if !runs.as_ref().is_some_and(|runs| runs.is_of(codes_of_runs)) {
                *runs = Some(Runs::new(codes_of_runs)?);
            }
        }
        Some(())
    }
}

/// A block's place in an MCU, and its tables.
struct Block<'a> {
    component: usize,
    row: usize,
    column: usize,
    /// Blocks of the component in an MCU, across.
    across: usize,
    means: &'a Means,
    runs: &'a Runs,
}

/// Rows and columns, in order.
fn places(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

const BLOCK: usize = 8;

fn be16(bytes: &[u8]) -> Option<usize> {
    let pair = bytes.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*pair)))
}

impl<'a> Jpeg<'a> {
    /// Reads the headers; `None` for what this decoder does not do.
    pub fn open(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        let mut quantizations = [None; 4];
        let mut tables = [None; 4];
        let mut frame: Option<&[u8]> = None;
        let (mut restart, mut jfif, mut adobe) = (0, false, None);
        let mut orientation = Orientation::NoTransforms;
        loop {
            let [0xff, marker, ..] = *rest else {
                return None;
            };
            if marker == 0xff {
                rest = &rest[1..];
                continue;
            }
            let length = be16(&rest[2..])?;
            let segment = rest.get(4..2 + length)?;
            rest = &rest[2 + length..];
            match marker {
                0xdb => read_quantizations(segment, &mut quantizations)?,
                0xc4 => read_tables(segment, &mut tables)?,
                0xc0 | 0xc1 if frame.is_none() => frame = Some(segment),
                0xdd => restart = be16(segment)?,
                0xda => {
                    let mut jpeg = read_frame(frame?, &quantizations)?;
                    let ids: Vec<u8> = frame?[6..].iter().step_by(3).copied().collect();
                    // libjpeg's rule for three components; what is not YCbCr by it is rare.
                    let ycbcr = jfif || adobe == Some(1) || (adobe.is_none() && ids == [1, 2, 3]);
                    if ids.len() == 3 && !ycbcr {
                        return None;
                    }
                    read_scan(segment, &ids, &mut jpeg.components)?;
                    let known = |component: &Component| {
                        tables[component.means].is_some() && tables[2 + component.runs].is_some()
                    };
                    return jpeg.components.iter().all(known).then_some(Self {
                        orientation,
                        tables,
                        restart,
                        scan: rest,
                        ..jpeg
                    });
                }
                0xe0 => jfif |= segment.starts_with(b"JFIF\0"),
                0xe1 => {
                    if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                        orientation = Orientation::from_exif_chunk(exif).unwrap_or(orientation);
                    }
                }
                0xee if segment.starts_with(b"Adobe") => adobe = Some(*segment.get(11)?),
                0xe2..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    /// Columns and rows in the file, before its orientation is applied.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// 1 for gray, 3 for colours.
    pub fn channels(&self) -> usize {
        self.components.len()
    }

    /// Columns and rows at ½ (`shrink` 2), ¼ or ⅛ of the size.
    pub fn shrunk(&self, shrink: usize) -> (usize, usize) {
        (self.width.div_ceil(shrink), self.height.div_ceil(shrink))
    }

    /// The pixels of a part, given in pixels of the shrunk picture; `None` if the file is damaged before the
    /// part ends.
    pub fn decode(
        &self,
        part: Part,
        shrink: usize,
        mut output: Vec<u8>,
        memory: &mut JpegMemory,
    ) -> Option<Vec<u8>> {
        let planes = self.planes(shrink, memory, |resolution| resolution.around(part))?;
        let pixels = part.width * part.height * planes.len();
        output.resize(pixels, 0);
        let mut rows = color::Rows::new(part.width);
        for (y, row) in (part.top..).zip(output.chunks_exact_mut(part.width * planes.len())) {
            rows.write(&planes, y, part.left, row);
        }
        memory.keep(planes);
        Some(output)
    }

    /// The samples that `needed` says are, given a component's resolution.
    fn planes(
        &self,
        shrink: usize,
        memory: &mut JpegMemory,
        mut needed: impl FnMut(&Resolution) -> [[usize; 2]; 2],
    ) -> Option<Vec<Plane>> {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max();
        let most = [most(|c| c.across)?, most(|c| c.down)?];
        let mut planes: Vec<Plane> = self
            .components
            .iter()
            .zip(&mut memory.planes)
            .map(|(component, memory)| {
                let resolution = self.resolution(component, most, BLOCK / shrink);
                let samples = needed(&resolution);
                Plane::new(component, resolution, samples, std::mem::take(memory))
            })
            .collect();
        memory.tables.prepare(&self.tables, &self.components)?;
        let scan = Scan::new(self.scan, &mut memory.bytes);
        self.read(&mut planes, most, scan, &memory.tables)?;
        Some(planes)
    }

    /// That of a component where a block of luma has `side` pixels a side.
    fn resolution(&self, component: &Component, most: [usize; 2], mut side: usize) -> Resolution {
        let mut ratio = [most[0] / component.across, most[1] / component.down];
        // Colours at half the resolution need no upsampling where twice as many points are transformed.
        while side < BLOCK && ratio == [2, 2] {
            side *= 2;
            ratio = [1, 1];
        }
        let whole = [self.width, self.height];
        let sampling = [component.across, component.down];
        let size = [0, 1].map(|i| (whole[i] * sampling[i] * side).div_ceil(most[i] * BLOCK));
        Resolution { side, ratio, size }
    }

    /// Reads the scan as far as the planes go, and transforms their blocks.
    fn read(
        &self,
        planes: &mut [Plane],
        most: [usize; 2],
        scan: Scan<'_>,
        tables: &Tables,
    ) -> Option<()> {
        let mcus_across = self.width.div_ceil(BLOCK * most[0]);
        let rows_of = |(component, plane): (&Component, &Plane)| {
            let [[_, _], [from, to]] = plane.blocks;
            (from / component.down, to.div_ceil(component.down))
        };
        let rows: Vec<_> = self.components.iter().zip(&*planes).map(rows_of).collect();
        let first = rows.iter().map(|row| row.0).min()?;
        let end = rows.iter().map(|row| row.1).max()?;
        let mut blocks = Vec::new();
        for (which, component) in self.components.iter().enumerate() {
            let means = tables.means[component.means].as_ref();
            let runs = tables.runs[component.runs].as_ref();
            for (row, column) in places(component.down, component.across) {
                blocks.push(Block {
                    component: which,
                    row,
                    column,
                    across: component.across,
                    means: means?,
                    runs: runs?,
                });
            }
        }
        let mut place = Place {
            scan,
            predictions: [0; 3],
            until_restart: self.restart,
        };
        for mcu_row in 0..end {
            let kept = mcu_row >= first;
            if kept {
                planes.iter_mut().for_each(Plane::clear);
            }
            read_row(&mut place, &blocks, planes, self.restart, mcus_across, kept)?;
            if place.scan.ran_out() {
                return None;
            }
            for (component, plane) in self.components.iter().zip(&mut *planes) {
                let groups = plane.groups() * idct::GROUP;
                let [from, to] = plane.blocks[1];
                for j in 0..component.down {
                    let row = mcu_row * component.down + j;
                    if (from..to).contains(&row) {
                        let stride = plane.stride();
                        let side = plane.resolution.side;
                        let start = (row - from) * side * stride;
                        idct::row(
                            &plane.coefficients[j * groups..][..groups],
                            &component.quantization,
                            side,
                            &mut plane.samples[start..][..side * stride],
                        );
                    }
                }
            }
        }
        Some(())
    }
}

/// How far a scan was read.
struct Place<'a> {
    scan: Scan<'a>,
    /// The last mean of each component's blocks.
    predictions: [i32; 3],
    /// MCUs.
    until_restart: usize,
}

/// Reads a row of MCUs; what the planes do not hold of it, and all if it is not `kept`, is passed over.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2"))]
fn read_row(
    place: &mut Place<'_>,
    blocks: &[Block<'_>],
    planes: &mut [Plane],
    restart: usize,
    mcus: usize,
    kept: bool,
) -> Option<()> {
    let Place {
        scan,
        predictions,
        until_restart,
    } = place;
    for mcu in 0..mcus {
        scan.ready()?;
        if restart > 0 && *until_restart == 0 {
            scan.restart()?;
            *predictions = [0; 3];
            *until_restart = restart;
        }
        *until_restart = until_restart.wrapping_sub(1);
        // A copy stays in registers.
        let (bytes, mut bits) = (scan.bytes(), scan.bits);
        for block in blocks {
            let plane = &mut planes[block.component];
            let prediction = &mut predictions[block.component];
            let [from, to] = plane.blocks[0];
            let column = mcu * block.across + block.column;
            let difference = bits.difference(bytes, block.means)?;
            *prediction = prediction.wrapping_add(difference);
            if !kept || column < from || column >= to {
                bits.block(bytes, block.runs, |_, _| {})?;
                continue;
            }
            let (group, lane) = ((column - from) / idct::LANES, (column - from) % idct::LANES);
            let at = (block.row * plane.groups() + group) * idct::GROUP;
            let group = plane.coefficients[at..].first_chunk_mut::<{ idct::GROUP }>()?;
            group[lane] = *prediction as i16;
            bits.block(bytes, block.runs, |place, value| {
                group[(place * idct::LANES + lane) % idct::GROUP] = value;
            })?;
        }
        scan.bits = bits;
    }
    Some(())
}

fn read_quantizations(mut segment: &[u8], tables: &mut [Option<[i16; 64]>; 4]) -> Option<()> {
    while let [which @ 0..4, ref values @ ..] = *segment {
        // 16-bit ones belong to 12-bit pictures.
        let (values, rest) = values.split_first_chunk::<64>()?;
        let mut table = [0; 64];
        for (&place, &value) in scan::ZIGZAG.iter().zip(values) {
            table[usize::from(place)] = i16::from(value);
        }
        tables[usize::from(which)] = Some(table);
        segment = rest;
    }
    segment.is_empty().then_some(())
}

/// Tables 0 and 1 of means, then 0 and 1 of the other coefficients.
fn read_tables<'a>(mut segment: &'a [u8], tables: &mut [Option<Codes<'a>>; 4]) -> Option<()> {
    while let Some((&which, rest)) = segment.split_first() {
        let place = match which {
            0x00 | 0x01 => which,
            0x10 | 0x11 => which - 0x10 + 2,
            _ => return None,
        };
        let (&counts, rest) = rest.split_first_chunk::<16>()?;
        let count = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(count)?;
        tables[usize::from(place)] = Some(Codes { counts, symbols });
        segment = rest;
    }
    Some(())
}

fn read_frame<'a>(frame: &[u8], quantizations: &[Option<[i16; 64]>; 4]) -> Option<Jpeg<'a>> {
    let [8, _, _, _, _, count, ref components @ ..] = *frame else {
        return None;
    };
    let (height, width) = (be16(&frame[1..])?, be16(&frame[3..])?);
    let count = usize::from(count);
    if width == 0 || height == 0 || !matches!(count, 1 | 3) || components.len() != 3 * count {
        return None;
    }
    let component = |fields: &[u8; 3]| {
        let [_, sampling, quantization] = *fields;
        let [across, down] = [sampling >> 4, sampling & 15].map(usize::from);
        let known = (1..=2).contains(&across) && (1..=2).contains(&down);
        // One component alone is not interleaved with anything: its blocks come one by one.
        let [across, down] = if count == 1 { [1, 1] } else { [across, down] };
        known.then_some(Component {
            across,
            down,
            quantization: *quantizations.get(usize::from(quantization))?.as_ref()?,
            means: 0,
            runs: 0,
        })
    };
    let components: Option<Vec<_>> = components.as_chunks().0.iter().map(component).collect();
    let components = components?;
    if let [_, colours @ ..] = &components[..]
        && colours.iter().any(|c| (c.across, c.down) != (1, 1))
    {
        return None;
    }
    Some(Jpeg {
        width,
        height,
        orientation: Orientation::NoTransforms,
        components,
        tables: [None; 4],
        restart: 0,
        scan: &[],
    })
}

fn read_scan(segment: &[u8], ids: &[u8], components: &mut [Component]) -> Option<()> {
    let (&count, rest) = segment.split_first()?;
    let (selected, sequential) = rest.as_chunks::<2>();
    // All components in the frame's order, then what sequential files say: frequencies 0 to 63.
    if usize::from(count) != ids.len() || selected.len() != ids.len() + 1 || sequential != [0] {
        return None;
    }
    if selected[ids.len()] != [0, 63] {
        return None;
    }
    for ((component, &id), &[selected, tables]) in components.iter_mut().zip(ids).zip(selected) {
        if selected != id || tables & 0xee != 0 {
            return None;
        }
        component.means = usize::from(tables >> 4);
        component.runs = usize::from(tables & 1);
    }
    Some(())
}
