//! A convolution, or its gradient by the input, as sums over offsets in padded planes.
//!
//! Both are, along each axis, out\[q\] = Σ over taps of w\[tap\]·plane\[q + offset(tap)\]: what lies under a place
//! of the kernel, for all positions, is the plane itself from another offset on, and nothing has to be copied for
//! it. A plane has zeros around it, so that all places of the kernel lie on it. The input of a strided convolution
//! is several planes, one for each remainder of its positions by the stride; the gradient by the input is several
//! sums, one for each remainder of the positions of its target.

use std::ops::Range;

use super::Conv2d;
use super::transpose::transpose;
use crate::Float;

/// One axis of a [`Gather`].
pub(super) struct Axis {
    /// Of the source.
    size: usize,
    /// The source's positions `remainder`, `remainder + apart`, ... are a plane, for each of the remainders that
    /// some tap sees.
    apart: usize,
    remainders: Vec<usize>,
    /// Zeros before a plane.
    before: usize,
    /// Of a padded plane, what is seen.
    seen: usize,
    /// From a position to the last that it sees.
    reach: usize,
    pub classes: Vec<Class>,
}

/// Positions of the target that see the source in the same way.
#[derive(Debug, PartialEq)]
pub(super) struct Class {
    pub taps: Vec<Tap>,
    pub positions: usize,
    /// On the target: the first position, and from one to the next.
    pub first: usize,
    pub apart: usize,
}

impl Class {
    /// The places of a kernel of this `width` that are a tap of this class down and of the other across.
    pub fn places(&self, across: &Self, width: usize) -> Vec<usize> {
        let places = self.taps.iter().flat_map(|down| {
            let across = across.taps.iter();
            across.map(move |across| down.place * width + across.place)
        });
        places.collect()
    }
}

/// A place of the kernel along an axis, and what lies under it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    place: usize,
    /// Which of the planes.
    plane: usize,
    /// On the padded plane, for the first position.
    offset: usize,
}

impl Tap {
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// A [`Tap`] before zeros and planes are counted.
#[derive(Clone, Copy)]
struct Seen {
    place: usize,
    remainder: usize,
    offset: isize,
}

fn signed(size: usize) -> isize {
    isize::try_from(size).expect("sizes within the address space")
}

impl Axis {
    /// y\[i\] = Σ over a of w\[a\]·x\[i·stride + a·dilation − padding\].
    fn forward(conv: &Conv2d, axis: usize, output: usize) -> Self {
        let stride = conv.stride[axis];
        let taps = (0..conv.kernel[axis]).map(|place| {
            let from = signed(place * conv.dilation[axis]) - signed(conv.padding[axis].0);
            Seen {
                place,
                remainder: from.rem_euclid(signed(stride)).unsigned_abs(),
                offset: from.div_euclid(signed(stride)),
            }
        });
        let class = (taps.collect(), output, 0, 1);
        Self::new(conv.image[axis], stride, vec![class])
    }

    /// dx\[j\] = Σ over a of w\[a\]·dy\[(j + padding − a·dilation)/stride\], where that is a whole number.
    fn backward(conv: &Conv2d, axis: usize, output: usize) -> Self {
        let (size, stride) = (conv.image[axis], conv.stride[axis]);
        let classes = (0..stride.min(size)).map(|first| {
            let taps = (0..conv.kernel[axis]).filter_map(|place| {
                let from = signed(first) + signed(conv.padding[axis].0);
                let from = from - signed(place * conv.dilation[axis]);
                let offset = from.div_euclid(signed(stride));
                (from.rem_euclid(signed(stride)) == 0).then_some(Seen {
                    place,
                    remainder: 0,
                    offset,
                })
            });
            let positions = (size - first).div_ceil(stride);
            (taps.collect(), positions, first, stride)
        });
        Self::new(output, 1, classes.collect())
    }

    fn new(size: usize, apart: usize, classes: Vec<(Vec<Seen>, usize, usize, usize)>) -> Self {
        // A tap that sees nothing but zeros adds nothing.
        let sees = |tap: &Seen, positions: usize| {
            let values = signed(size.saturating_sub(tap.remainder).div_ceil(apart));
            tap.offset < values && tap.offset + signed(positions) > 0
        };
        let classes = classes
            .into_iter()
            .map(|(mut taps, positions, first, apart)| {
                taps.retain(|tap| sees(tap, positions));
                (taps, positions, first, apart)
            });
        let classes: Vec<_> = classes.collect();
        let taps = || classes.iter().flat_map(|(taps, ..)| taps);
        let mut remainders: Vec<usize> = taps().map(|tap| tap.remainder).collect();
        remainders.sort_unstable();
        remainders.dedup();
        let before = taps()
            .map(|tap| tap.offset)
            .min()
            .unwrap_or(0)
            .min(0)
            .unsigned_abs();
        let classes: Vec<Class> = (classes.into_iter())
            .map(|(taps, positions, first, apart)| {
                let tap = |tap: Seen| Tap {
                    place: tap.place,
                    plane: remainders.partition_point(|&remainder| remainder < tap.remainder),
                    offset: (tap.offset + signed(before)).unsigned_abs(),
                };
                Class {
                    taps: taps.into_iter().map(tap).collect(),
                    positions,
                    first,
                    apart,
                }
            })
            .collect();
        let offsets = || {
            classes.iter().flat_map(|class| {
                let taps = class.taps.iter();
                taps.map(|tap| (tap.offset, tap.offset + class.positions))
            })
        };
        Self {
            size,
            apart,
            before,
            seen: offsets().map(|(_, end)| end).max().unwrap_or(0),
            reach: offsets().map(|(offset, _)| offset).max().unwrap_or(0),
            remainders,
            classes,
        }
    }

    /// Of the source.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Zeros before a plane.
    pub fn before(&self) -> usize {
        self.before
    }

    /// Whether each position of the target sees as many neighbours of the source, and the next sees the next ones.
    pub fn is_plain(&self, neighbours: usize) -> bool {
        let [class] = &self.classes[..] else {
            return false;
        };
        let sees = |offset| class.taps.iter().any(|tap| tap.offset == offset);
        self.apart == 1
            && class.apart == 1
            && class.taps.len() == neighbours
            && (0..neighbours).all(sees)
    }

    /// The most of any class.
    pub fn positions(&self) -> usize {
        let positions = self.classes.iter().map(|class| class.positions);
        positions.max().unwrap_or(0)
    }

    /// The positions of a class from which a tap of it sees a value, not only zeros.
    pub fn seen_from(&self, class: &Class, tap: usize) -> Range<usize> {
        let Tap { plane, offset, .. } = class.taps[tap];
        let end = self.before + self.values(self.remainders[plane]);
        let within = |end: usize| end.saturating_sub(offset).min(class.positions);
        within(self.before)..within(end)
    }

    /// Of the plane of a remainder, without zeros.
    fn values(&self, remainder: usize) -> usize {
        self.size.saturating_sub(remainder).div_ceil(self.apart)
    }
}

/// Down and across.
pub(super) struct Gather {
    pub down: Axis,
    pub across: Axis,
    /// Height and width of the target.
    pub target: [usize; 2],
    /// From a row of a padded plane to the next. The zeros after a row are those before the next one.
    pub pitch: usize,
}

impl Gather {
    pub fn forward(conv: &Conv2d, output: [usize; 2]) -> Self {
        let [down, across] = [0, 1].map(|axis| Axis::forward(conv, axis, output[axis]));
        Self::new(down, across, output)
    }

    pub fn backward(conv: &Conv2d, output: [usize; 2]) -> Self {
        let [down, across] = [0, 1].map(|axis| Axis::backward(conv, axis, output[axis]));
        Self::new(down, across, conv.image)
    }

    fn new(down: Axis, across: Axis, target: [usize; 2]) -> Self {
        // At least a position each, so that a row of positions does not overlap the next.
        let pitch = (across.before + across.values(0))
            .max(across.seen.saturating_sub(across.before))
            .max(across.positions());
        Self {
            down,
            across,
            target,
            pitch,
        }
    }

    /// Elements of the source, of one channel.
    pub fn source_size(&self) -> usize {
        self.down.size * self.across.size
    }

    /// Elements of the target, of one channel.
    pub fn target_size(&self) -> usize {
        self.target[0] * self.target[1]
    }

    /// Rows of a padded plane that this many rows of positions see.
    pub fn rows(&self, rows: usize) -> usize {
        self.down.reach + rows
    }

    /// Rows of all padded planes of a channel that are made where so many rows of positions are handled at a time.
    pub fn padded_rows(&self, stripe: usize) -> usize {
        let stripes = self.down.positions().div_ceil(stripe.max(1));
        self.down.remainders.len() * stripes * self.rows(stripe)
    }

    /// Elements of a padded plane that this many rows of positions see.
    fn plane(&self, rows: usize) -> usize {
        self.rows(rows) * self.pitch + self.across.before
    }

    /// Elements of all padded planes of a channel that this many rows of positions see.
    pub fn planes(&self, rows: usize) -> usize {
        self.down.remainders.len() * self.across.remainders.len() * self.plane(rows)
    }

    /// Where each tap's first position is, channel after channel, on the planes of these channels for this many
    /// rows of positions, as those of several `images` whose values alternate.
    pub fn offsets(
        &self,
        down: &Class,
        across: &Class,
        rows: usize,
        channels: usize,
        images: usize,
    ) -> Vec<usize> {
        let planes = self.planes(rows);
        let mut offsets = Vec::with_capacity(channels * down.taps.len() * across.taps.len());
        for channel in 0..channels {
            for down in &down.taps {
                for across in &across.taps {
                    let tap = self.offset(down, across, rows);
                    offsets.push((channel * planes + tap) * images);
                }
            }
        }
        offsets
    }

    /// On a channel's planes for this many rows of positions, what lies under a tap down and across for the first
    /// position.
    pub fn offset(&self, down: &Tap, across: &Tap, rows: usize) -> usize {
        let plane = down.plane * self.across.remainders.len() + across.plane;
        plane * self.plane(rows) + down.offset * self.pitch + across.offset
    }

    /// Writes channels of some images to their padded planes, those rows that the rows of positions `seen_by` see;
    /// the values of `images` images alternate, and those that there are not are zeros.
    pub fn pad<T: Float>(
        &self,
        x: &[T],
        channels: &Channels,
        seen_by: &Range<usize>,
        images: usize,
        planes: &mut [T],
    ) {
        planes.fill(T::ZERO);
        let size = self.source_size();
        let of_channel = (images * self.planes(seen_by.len())).max(1);
        let planes = planes.chunks_exact_mut(of_channel).take(channels.count);
        for (channel, planes) in planes.enumerate() {
            let x = &x[(channels.first + channel) * size..];
            let found = (channels.images, channels.apart * size);
            self.pad_channel(x, found, seen_by, images, planes);
        }
    }

    /// Writes a channel of some images, which are so far apart, to its padded planes, those rows that the rows of
    /// positions `seen_by` see. The zeros are there already.
    fn pad_channel<T: Float>(
        &self,
        x: &[T],
        (found, apart): (usize, usize),
        seen_by: &Range<usize>,
        images: usize,
        planes: &mut [T],
    ) {
        let Self { down, across, .. } = self;
        let plane = self.plane(seen_by.len());
        let mut planes = planes.chunks_exact_mut(plane * images);
        for &y in &down.remainders {
            let values = down.values(y);
            for (&remainder, plane) in across.remainders.iter().zip(&mut planes) {
                for row in 0..self.rows(seen_by.len()) {
                    let from = (seen_by.start + row).checked_sub(down.before);
                    let Some(from) = from.filter(|&from| from < values) else {
                        continue;
                    };
                    let x = &x[(from * down.apart + y) * across.size..];
                    let to = &mut plane[(row * self.pitch + across.before) * images..];
                    if across.apart > 1 {
                        for image in 0..found {
                            let x = &x[image * apart..][remainder.min(across.size)..across.size];
                            let to = to[image..].iter_mut().step_by(images);
                            for (to, &value) in to.zip(x.iter().step_by(across.apart)) {
                                *to = value;
                            }
                        }
                    } else if images == 1 {
                        to[..across.size].copy_from_slice(&x[..across.size]);
                    } else {
                        transpose(x, apart, [found, across.size], to, images);
                    }
                }
            }
        }
    }
}

/// Neighbouring channels of some images.
pub(super) struct Channels {
    /// Of all channels, the first of the first image.
    pub first: usize,
    pub count: usize,
    pub images: usize,
    /// From the first of an image to that of the next.
    pub apart: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(image: usize, kernel: usize, stride: usize, padding: usize) -> Conv2d {
        Conv2d {
            examples: 1,
            channels: [1, 1],
            image: [image; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [(padding, padding); 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    #[test]
    fn rows_share_their_zeros() {
        let gather = Gather::forward(&conv(3, 3, 1, 1), [3, 3]);
        assert_eq!(gather.pitch, 4);
        let source = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let mut plane = vec![0.0; gather.planes(3)];
        gather.pad_channel(&source, (1, 0), &(0..3), 1, &mut plane);
        let expected = [
            [0.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 2.0, 3.0],
            [0.0, 4.0, 5.0, 6.0],
            [0.0, 7.0, 8.0, 9.0],
            [0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(plane[..20], *expected.as_flattened());
        assert_eq!(plane[20..], [0.0]);
    }

    #[test]
    fn images_alternate_and_strides_are_planes() {
        let gather = Gather::forward(&conv(4, 2, 2, 0), [2, 2]);
        let mut planes = vec![0.0; 2 * gather.planes(2)];
        let images: Vec<f64> = (0..32)
            .map(|i| f64::from(100 * (i / 16) + i % 16))
            .collect();
        gather.pad_channel(&images, (2, 16), &(0..2), 2, &mut planes);
        let even = [0.0, 100.0, 2.0, 102.0, 8.0, 108.0, 10.0, 110.0];
        assert_eq!(planes[..8], even);
        assert_eq!(planes[24..], even.map(|value| value + 5.0));
    }

    #[test]
    fn a_tap_sees_values_from_some_positions() {
        // y[i] = Σ w[a]·x[2i + a − 1], x of 4 values: w[0] sees none at i = 0.
        let axis = Axis::forward(&conv(4, 3, 2, 1), 0, 2);
        let class = &axis.classes[0];
        let seen = [0, 1, 2].map(|tap| axis.seen_from(class, tap));
        assert_eq!(seen, [1..2, 0..2, 0..2]);
    }

    #[test]
    fn each_remainder_of_a_strided_axis_has_its_taps() {
        let axis = Axis::backward(&conv(5, 3, 2, 1), 0, 3);
        // dx[0] = w[1]·dy[0]; dx[1] = w[0]·dy[1] + w[2]·dy[0].
        let tap = |place, offset| Tap {
            place,
            plane: 0,
            offset,
        };
        let class = |taps: &[Tap], positions, first| Class {
            taps: taps.to_vec(),
            positions,
            first,
            apart: 2,
        };
        let expected = [
            class(&[tap(1, 0)], 3, 0),
            class(&[tap(0, 1), tap(2, 0)], 2, 1),
        ];
        assert_eq!(axis.classes, expected);
        assert_eq!((axis.before, axis.seen), (0, 3));
    }

    #[test]
    fn what_sees_only_zeros_is_left_out() {
        let axis = Axis::forward(&conv(1, 3, 1, 1), 0, 1);
        let places: Vec<usize> = axis.classes[0].taps.iter().map(|tap| tap.place).collect();
        assert_eq!((places, axis.before, axis.seen), (vec![1], 0, 1));
    }
}
