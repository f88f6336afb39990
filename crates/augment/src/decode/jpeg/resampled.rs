//! A picture resampled before it has colours: luma and colour differences, which most files have at half the
//! resolution, are each resampled from their own, and what comes of them becomes RGB.
//!
//! Both steps are linear, so their order changes no more than roundings and clipping, and how colour differences are
//! upsampled: by the resampling's own filter instead of libjpeg's triangle. It saves the upsampling and, for 4:2:0, half
//! of the resampling, and fewer pixels change their colours.

use super::{Jpeg, JpegMemory, Part, Plane, color};
use crate::ops::{Geometry, Resampling, Samples};
use crate::size::Size;

impl Jpeg<'_> {
    /// What a resampling makes of the shrunk picture; `None` if the file is damaged before what it needs ends.
    pub fn resample(
        &self,
        geometry: Geometry,
        shrink: usize,
        mut output: Vec<u8>,
        memory: &mut JpegMemory,
    ) -> Option<Vec<u8>> {
        let mut geometries = Vec::with_capacity(3);
        let planes = self.planes(shrink, memory, |resolution| {
            let mut own = geometry;
            let [width, height] = resolution.size;
            let part = own.part(
                resolution.ratio.map(|ratio| shrink * ratio),
                Size::new(width, height),
            );
            geometries.push((own, part));
            [[part.left, part.right()], [part.top, part.bottom()]]
        })?;
        let mut last: Option<(Geometry, Resampling)> = None;
        for (plane, (&(geometry, part), samples)) in planes
            .iter()
            .zip(geometries.iter().zip(&mut memory.resampled))
        {
            if last.as_ref().is_none_or(|(last, _)| *last != geometry) {
                last = Some((geometry, Resampling::new(&geometry, 1)));
            }
            let (_, resampling) = last.as_ref()?;
            resampling.plane(plane.from(part), &mut memory.bytes, samples);
        }
        let Size { width, height } = geometry.output();
        output.resize(width * height * planes.len(), 0);
        match &memory.resampled {
            [gray, ..] if planes.len() == 1 => output.copy_from_slice(gray),
            [luma, blue, red] => color::to_rgb(luma, blue, red, &mut output),
        }
        memory.keep(planes);
        Some(output)
    }
}

impl Plane {
    /// Rows of samples, from a part's first on.
    fn from(&self, part: Part) -> Samples<'_> {
        let top = part.top - self.blocks[1][0] * self.resolution.side;
        let left = part.left - self.first_column();
        Samples {
            bytes: &self.samples[top * self.stride() + left..],
            stride: self.stride(),
        }
    }
}

#[cfg(test)]
pub(in crate::decode) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::ops::{Filter, Flipped, Parameters, ResizedWindow};
    use evenkeel_random::{Draws, Key};

    /// Any part of a picture, brought to any smaller size.
    pub(in crate::decode) fn any_window(size: Size, draws: &mut Draws) -> ResizedWindow {
        let mut below = |count: usize| draws.below(count as u32) as usize;
        let mut side = |of: usize| {
            let length = 1 + below(of);
            (below(of - length + 1), length)
        };
        let ((left, width), (top, height)) = (side(size.width), side(size.height));
        ResizedWindow {
            left,
            top,
            width,
            height,
            to_width: 1 + below(width),
            to_height: 1 + below(height),
            filter: [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos][below(3)],
            antialias: true,
        }
    }

    /// For each output pixel of one side the samples and their weights, of a plane with `length` samples that stand for
    /// `ratio` pixels each: the window is a part of the plane, and sees the samples of which it has a share.
    fn weights(
        [start, count, to]: [usize; 3],
        ratio: usize,
        length: usize,
        filter: Filter,
    ) -> Vec<Vec<(usize, f64)>> {
        let [from, end] = [start, start + count].map(|place| place as f64 / ratio as f64);
        let scale = (end - from) / to as f64;
        let seen = from as usize..(end.ceil() as usize).min(length);
        let of = |i: usize| {
            let centre = from + (i as f64 + 0.5) * scale;
            let weight = |j: usize| filter.weight((j as f64 + 0.5 - centre) / scale.max(1.0));
            let sum: f64 = seen.clone().map(weight).sum();
            seen.clone().map(|j| (j, weight(j) / sum)).collect()
        };
        (0..to).map(of).collect()
    }

    /// In `f64`, rounded nowhere, clipped at the end.
    fn definition(jpeg: &Jpeg<'_>, window: ResizedWindow) -> Vec<f64> {
        let everything =
            |resolution: &super::super::Resolution| resolution.size.map(|side| [0, side]);
        let planes = jpeg
            .planes(1, &mut JpegMemory::default(), everything)
            .unwrap();
        let channels = planes.iter().map(|plane| {
            let ([across, down], [width, height]) = (plane.resolution.ratio, plane.resolution.size);
            let ResizedWindow {
                left, top, filter, ..
            } = window;
            let columns = weights([left, window.width, window.to_width], across, width, filter);
            let rows = weights([top, window.height, window.to_height], down, height, filter);
            let value = |row: &[(usize, f64)], column: &[(usize, f64)]| -> f64 {
                let samples = |y: usize| {
                    column
                        .iter()
                        .map(move |&(x, weight)| weight * f64::from(plane.row(y)[x]))
                };
                row.iter()
                    .map(|&(y, weight)| weight * samples(y).sum::<f64>())
                    .sum()
            };
            let values = rows
                .iter()
                .flat_map(|row| columns.iter().map(|column| value(row, column)));
            values.collect::<Vec<f64>>()
        });
        let channels: Vec<_> = channels.collect();
        let [luma, blue, red] = &channels[..] else {
            return channels.concat();
        };
        let pixels = luma
            .iter()
            .zip(blue.iter().zip(red))
            .flat_map(|(y, (cb, cr))| {
                let [y, cb, cr] = [*y, cb - 128.0, cr - 128.0];
                [
                    y + 1.402 * cr,
                    y - 0.344_14 * cb - 0.714_14 * cr,
                    y + 1.772 * cb,
                ]
            });
        pixels.map(|level| level.clamp(0.0, 255.0)).collect()
    }

    #[test]
    fn planes_are_resampled_from_their_own_resolution() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/encoded");
        let mut draws = Key::from_seed(4).draws();
        let mut tested = 0;
        for name in [
            "gray", "pixel", "q30-s2", "q75-s1", "q75-s2", "q90-s0", "restarts",
        ] {
            let bytes = fs::read(folder.join(format!("{name}.jpg"))).unwrap();
            let jpeg = Jpeg::open(&bytes).unwrap();
            let (width, height) = jpeg.size();
            let size = Size::new(width, height);
            for flipped in [false, true].repeat(10) {
                let window = any_window(size, &mut draws);
                let mut geometry = Geometry::none(size);
                for step in [
                    Parameters::RandomResizedCrop(window),
                    Parameters::HorizontalFlip(Flipped { flipped }),
                ] {
                    assert!(geometry.take(&step, false));
                }
                if !geometry.takes_planes() {
                    continue; // a window that keeps its size
                }
                let mut expected = definition(&jpeg, window);
                if flipped {
                    let channels = jpeg.channels();
                    for row in expected.chunks_mut(window.to_width * channels) {
                        let mirrored = row.rchunks(channels).collect::<Vec<_>>().concat();
                        row.copy_from_slice(&mirrored);
                    }
                }
                let mut memory = JpegMemory::default();
                let found = jpeg.resample(geometry, 1, vec![9; 5], &mut memory).unwrap();
                assert_eq!(found.len(), expected.len());
                let distances = found.iter().zip(&expected);
                let distances =
                    distances.map(|(&found, expected)| (f64::from(found) - expected).abs());
                let worst = distances.clone().fold(0.0, f64::max);
                let mean = distances.sum::<f64>() / found.len() as f64;
                // A plane is rounded after its rows and after its columns, and differences count up to 1.772 times; what is
                // clipped in between can be more.
                assert!(
                    worst < 5.0 && mean < 1.0,
                    "{name} {window:?}: {worst} {mean}"
                );
                tested += 1;
            }
        }
        assert!(tested > 100, "{tested}");
    }
}
