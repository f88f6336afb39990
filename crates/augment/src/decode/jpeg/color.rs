//! Samples to pixels: colour differences are brought to the resolution of luma, and YCbCr becomes RGB.

use multiversion::multiversion;

use super::Plane;

/// Makes rows of pixels; memory for a row's colour differences.
pub(super) struct Rows {
    differences: [Vec<u8>; 2],
    sums: Vec<u16>,
}

impl Rows {
    pub fn new(width: usize) -> Self {
        Self {
            differences: [vec![0; width], vec![0; width]],
            sums: Vec::new(),
        }
    }

    /// Row `y` of the picture from column `left` on.
    pub fn write(&mut self, planes: &[Plane], y: usize, left: usize, output: &mut [u8]) {
        let luma = &planes[0].row(y)[left - planes[0].first_column()..];
        if planes.len() == 1 {
            output.copy_from_slice(&luma[..output.len()]);
            return;
        }
        for (plane, row) in planes[1..].iter().zip(&mut self.differences) {
            upsample(plane, y, left, row, &mut self.sums);
        }
        let [blue, red] = &self.differences;
        to_rgb(luma, blue, red, output);
    }
}

/// A row of colour differences at the resolution of luma. A sample at half the resolution lies between two of luma:
/// each of those is ¾ of it and ¼ of the next one on its side, along both sides, in libjpeg's rounding
/// (`jdsample.c`). Beyond the border the border's sample repeats.
fn upsample(plane: &Plane, y: usize, left: usize, row: &mut [u8], sums: &mut Vec<u16>) {
    let [width, height] = plane.resolution.size;
    let first = plane.first_column();
    let [across, down] = plane.resolution.ratio;
    // Planes of one or two columns repeat, as in libjpeg.
    let repeats = across == 2 && width <= 2;
    let near = plane.row(y / down);
    let far = match down {
        1 => near,
        _ if repeats => near,
        _ if y.is_multiple_of(2) => plane.row((y / 2).saturating_sub(1)),
        _ => plane.row((y / 2 + 1).min(height - 1)),
    };
    if across == 1 {
        let columns = left - first..left - first + row.len();
        let rounding = 1 + (y % 2) as u16;
        mix(&near[columns.clone()], &far[columns], rounding, row);
        return;
    }
    let place = |x: usize| x - first;
    if repeats {
        for (x, value) in (left..).zip(row) {
            *value = near[place(x / 2)];
        }
        return;
    }
    // The samples from the one before the first to the one behind the last.
    let (from, to) = (left / 2, (left + row.len()).div_ceil(2));
    let inner = place(from.saturating_sub(1))..place((to + 1).min(width));
    sums.clear();
    if from == 0 {
        sums.push(0);
    }
    let (near, far) = (&near[inner.clone()], &far[inner]);
    sums.resize(sums.len() + near.len(), 0);
    let start = sums.len() - near.len();
    let vertical = down == 2;
    add(near, far, vertical, &mut sums[start..]);
    if from == 0 {
        sums[0] = sums[1];
    }
    if to == width {
        sums.push(sums[sums.len() - 1]);
    }
    let (roundings, bits) = if vertical { ([8, 7], 4) } else { ([1, 2], 2) };
    spread(sums, left % 2, roundings, bits, row);
}

/// ¾ of the near row and ¼ of the far one.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mix(near: &[u8], far: &[u8], rounding: u16, row: &mut [u8]) {
    for ((value, &near), &far) in row.iter_mut().zip(near).zip(far) {
        *value = ((3 * u16::from(near) + u16::from(far) + rounding) >> 2) as u8;
    }
}

/// Four times that, or the samples themselves.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add(near: &[u8], far: &[u8], vertical: bool, sums: &mut [u16]) {
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = if vertical {
            3 * u16::from(near) + u16::from(far)
        } else {
            u16::from(near)
        };
    }
}

/// Two values of each sum but the first and the last.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn spread(sums: &[u16], odd: usize, roundings: [u16; 2], bits: u32, row: &mut [u8]) {
    let side = |sums: &[u16], side: usize| {
        let next = if side == 0 { sums[0] } else { sums[2] };
        ((3 * sums[1] + next + roundings[side]) >> bits) as u8
    };
    let mut windows = sums.windows(3);
    let (first, rest) = row.split_at_mut(odd);
    if let [value] = first
        && let Some(sums) = windows.next()
    {
        *value = side(sums, 1);
    }
    let (pairs, last) = rest.as_chunks_mut::<2>();
    for ([left, right], sums) in pairs.iter_mut().zip(windows.by_ref()) {
        *left = side(sums, 0);
        *right = side(sums, 1);
    }
    if let ([value], Some(sums)) = (last, windows.next()) {
        *value = side(sums, 0);
    }
}

/// R = Y + 1.402·Cr, G = Y − 0.34414·Cb − 0.71414·Cr, B = Y + 1.772·Cb, with the differences around 128, in 16 fractional
/// bits as libjpeg has them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn to_rgb(luma: &[u8], blue: &[u8], red: &[u8], output: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    let pixels = output.as_chunks_mut::<3>().0.iter_mut();
    for (((pixel, &y), &cb), &cr) in pixels.zip(luma).zip(blue).zip(red) {
        let [y, cb, cr] = [i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128];
        let red = y + ((91_881 * cr + HALF) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
        let blue = y + ((116_130 * cb + HALF) >> 16);
        *pixel = [
            red.clamp(0, 255) as u8,
            green.clamp(0, 255) as u8,
            blue.clamp(0, 255) as u8,
        ];
    }
}
