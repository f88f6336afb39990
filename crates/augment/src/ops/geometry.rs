//! Crops, a resize and flips in a row, as one resampling.
//!
//! Along each side, what they do together is: of some pixels of the input, a part is brought to another length, of
//! which a part is seen, perhaps backwards. No order of crops and flips changes a value of it, and what is cropped
//! away after a resize need not be computed.

use super::filter::Filter;
use super::resample;
use super::{Parameters, Resized, ResizedWindow, Window};
use crate::Image;
use crate::decode::Part;
use crate::size::Size;

/// One side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// The input pixels that filters see: the first, and how many.
    pub start: usize,
    pub length: usize,
    /// What of them is resized, in pixels from `start`.
    pub from: f64,
    pub span: f64,
    /// To how many pixels.
    pub to: usize,
    /// What is seen of those.
    pub first: usize,
    pub count: usize,
    pub flipped: bool,
    resized: bool,
}

impl Axis {
    pub fn whole(length: usize) -> Self {
        Self {
            start: 0,
            length,
            from: 0.0,
            span: length as f64,
            to: length,
            first: 0,
            count: length,
            flipped: false,
            resized: false,
        }
    }

    fn crop(&mut self, start: usize, count: usize) {
        let start = match self.flipped {
            true => self.count - start - count,
            false => start,
        };
        if self.resized {
            self.first += start;
            self.count = count;
        } else {
            let flipped = self.flipped;
            *self = Self {
                start: self.start + start,
                flipped,
                ..Self::whole(count)
            };
        }
    }

    pub(super) fn resize(&mut self, to: usize) {
        let scale = self.span / self.to as f64;
        self.from += self.first as f64 * scale;
        self.span = self.count as f64 * scale;
        // Filters see whole pixels of what is resized, nothing beside it.
        let (begin, end) = (self.from as usize, (self.from + self.span).ceil() as usize);
        self.length = end.min(self.length) - begin;
        self.start += begin;
        self.from -= begin as f64;
        (self.to, self.first, self.count) = (to, 0, to);
        self.resized = true;
    }

    /// How many pixels an output pixel stands for.
    pub fn scale(&self) -> f64 {
        self.span / self.to as f64
    }

    /// Whether every output pixel is an input pixel.
    pub fn copies(&self) -> bool {
        self.from == 0.0 && self.span == self.length as f64 && self.to == self.length
    }

    /// The output pixels in order, as places of the resized side.
    pub fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let Self {
            first,
            count,
            flipped,
            ..
        } = *self;
        (0..count).map(move |i| {
            if flipped {
                first + count - 1 - i
            } else {
                first + i
            }
        })
    }

    /// The same of an input that begins at `start` and was shrunk: decoded at a fraction of its size.
    fn shrunk(&mut self, shrink: usize, whole: usize) {
        let [from, to] = [self.from, self.from + self.span]
            .map(|place| (self.start as f64 + place) / shrink as f64);
        let begin = from as usize;
        self.start = begin;
        self.length = (to.ceil() as usize).min(whole) - begin;
        self.from = from - begin as f64;
        self.span = to - from;
    }
}

/// Both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    pub(super) across: Axis,
    pub(super) down: Axis,
    /// How it is resized, if it is; and whether the filter widens where it shrinks.
    pub(super) resize: Option<(Filter, bool)>,
}

/// How many pixels are left at least for each that comes out, where a file is decoded at a fraction of its size.
const LEFT: f64 = 1.0;

impl Geometry {
    /// Of an image of this size, nothing.
    pub fn none(size: Size) -> Self {
        Self {
            across: Axis::whole(size.width),
            down: Axis::whole(size.height),
            resize: None,
        }
    }

    /// The size that comes out.
    pub fn output(&self) -> Size {
        Size::new(self.across.count, self.down.count)
    }

    /// Takes one more step, which fits what comes out; `false` where it is none of these, or one resampling would not be
    /// as good as both. With `exact`, only what changes no value is taken.
    pub fn take(&mut self, step: &Parameters, exact: bool) -> bool {
        let Size { width, height } = self.output();
        match *step {
            Parameters::HorizontalFlip(flip) => self.across.flipped ^= flip.flipped,
            Parameters::VerticalFlip(flip) => self.down.flipped ^= flip.flipped,
            Parameters::RandomCrop(window)
            | Parameters::CenterCrop(window)
            | Parameters::Pad(window) => {
                return self.crop(window);
            }
            Parameters::Resize(resized) | Parameters::ScaleJitter(resized) => {
                let Resized {
                    width: to_width,
                    height: to_height,
                    filter,
                    antialias,
                } = resized;
                let to = Size::new(to_width, to_height);
                return to == Size { width, height } || self.resize(to, filter, antialias, exact);
            }
            Parameters::RandomResizedCrop(window) => {
                let ResizedWindow {
                    left,
                    top,
                    width,
                    height,
                    to_width,
                    to_height,
                    filter,
                    antialias,
                } = window;
                let before = *self;
                self.across.crop(left, width);
                self.down.crop(top, height);
                let to = Size::new(to_width, to_height);
                if to != Size::new(width, height) && !self.resize(to, filter, antialias, exact) {
                    *self = before;
                    return false;
                }
            }
            _ => return false,
        }
        true
    }

    fn crop(&mut self, window: Window) -> bool {
        let Size { width, height } = self.output();
        let inside = |start: isize, count: usize, of: usize| {
            usize::try_from(start).is_ok_and(|start| start + count <= of)
        };
        let fits =
            inside(window.left, window.width, width) && inside(window.top, window.height, height);
        if fits {
            self.across.crop(window.left.unsigned_abs(), window.width);
            self.down.crop(window.top.unsigned_abs(), window.height);
        }
        fits
    }

    fn resize(&mut self, to: Size, filter: Filter, antialias: bool, exact: bool) -> bool {
        let sides = [(self.across, to.width), (self.down, to.height)];
        let allowed = match self.resize {
            // Weights of a mirrored image are the mirrored ones but for their last bits.
            None => !exact || !(self.across.flipped || self.down.flipped),
            // What the first one lost, the second does not bring back.
            Some(before) => {
                let loses = |(axis, to): (Axis, usize)| axis.scale() > 1.0 && to > axis.count;
                !exact
                    && before == (filter, antialias)
                    && filter != Filter::Nearest
                    && antialias
                    && !sides.into_iter().any(loses)
            }
        };
        if allowed {
            self.across.resize(to.width);
            self.down.resize(to.height);
            self.resize = Some((filter, antialias));
        }
        allowed
    }

    /// The part of the input that it depends on, after which it is about that part alone. Where the input is decoded at
    /// one part in `shrink` of its columns and of its rows, it has the size `whole` then.
    pub fn part(&mut self, shrink: [usize; 2], whole: Size) -> Part {
        let [across, down] = shrink;
        if across > 1 {
            self.across.shrunk(across, whole.width);
        }
        if down > 1 {
            self.down.shrunk(down, whole.height);
        }
        let part = Part {
            left: self.across.start,
            top: self.down.start,
            width: self.across.length,
            height: self.down.length,
        };
        (self.across.start, self.down.start) = (0, 0);
        part
    }

    /// At what fraction a file may be decoded for it: where it shrinks with a filter that widens, by at least as much.
    pub fn shrink(&self) -> usize {
        if !self.averages() {
            return 1;
        }
        let scale = self.across.scale().min(self.down.scale()) / LEFT;
        [8, 4, 2]
            .into_iter()
            .find(|&shrink| scale >= shrink as f64)
            .unwrap_or(1)
    }

    /// Whether it resizes with a filter that widens where it shrinks.
    fn averages(&self) -> bool {
        matches!(self.resize, Some((filter, true)) if filter != Filter::Nearest)
    }

    /// Whether planes of a picture may be resampled apart, each from its own resolution, before they become colours: where
    /// fewer pixels come out than go in.
    pub fn takes_planes(&self) -> bool {
        let Size { width, height } = self.output();
        self.averages() && width * height <= self.across.length * self.down.length
    }

    /// Makes the image, of the size that it is about, what it becomes.
    pub fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let nothing = Self::none(Size::new(image.width(), image.height()));
        let Self { across, down, .. } = *self;
        if (across, down) == (nothing.across, nothing.down) {
            return;
        }
        resample::resample(image, self, scratch);
    }
}

/// Makes the image what one step makes of it.
pub(super) fn of(step: &Parameters, image: &mut Image, scratch: &mut Vec<u8>) {
    let mut geometry = Geometry::none(Size::new(image.width(), image.height()));
    let taken = geometry.take(step, true);
    debug_assert!(taken, "a single step changes no value of another");
    geometry.apply(image, scratch);
}
