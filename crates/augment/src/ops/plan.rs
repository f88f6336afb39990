//! What was drawn for one image, compiled: neighbouring crops, resizes and flips are one resampling, neighbouring
//! affine maps one warp, neighbouring operations on colours one pass, and the last of those part of the conversion to
//! numbers.
//!
//! Most of it changes no value and is always done. Where it does, `exact` leaves the steps as they are:
//!
//! | folded | the folded picture |
//! |---|---|
//! | two resizes (not where the first one loses what the second enlarges) | is filtered once, so a little sharper |
//! | a flip, then a resize | differs in the last bits of weights |
//! | affine maps in a row, read alike, filled alike | is read once: sharper, and corners that the first one turns out of the image come back with the second |
//! | a resize by half or less from a baseline JPEG | is decoded at ½, ¼ or ⅛ of its size first |
//! | a resize to fewer pixels from a baseline JPEG | is of luma and colour differences, each from its own resolution; what comes of them becomes RGB |

use super::Parameters;
use super::affine::AffineChain;
use super::colours::Colours;
use super::geometry::Geometry;
use crate::Image;
use crate::size::Size;

/// What is done, in order.
pub(crate) struct Plan<'a> {
    actions: Vec<Action<'a>>,
    /// What the conversion to numbers does first.
    last: Colours,
}

enum Action<'a> {
    Resample(Geometry),
    Warp(AffineChain),
    Colours(Colours),
    Step(&'a Parameters),
}

impl<'a> Plan<'a> {
    /// Of parameters that fit an image of this size.
    pub fn new(parameters: &'a [Parameters], size: Size, channels: usize, exact: bool) -> Self {
        let mut plan = Self {
            actions: Vec::with_capacity(parameters.len()),
            last: Colours::default(),
        };
        let mut size = size;
        plan.add_all(parameters, &mut size, channels, exact);
        match plan.actions.pop() {
            Some(Action::Colours(colours)) => plan.last = colours,
            action => plan.actions.extend(action),
        }
        plan
    }

    fn add_all(
        &mut self,
        parameters: &'a [Parameters],
        size: &mut Size,
        channels: usize,
        exact: bool,
    ) {
        for step in parameters {
            match step.steps() {
                // Their depth is bounded.
                Some(steps) => self.add_all(steps, size, channels, exact),
                None => self.add(step, size, channels, exact),
            }
        }
    }

    fn add(&mut self, step: &'a Parameters, size: &mut Size, channels: usize, exact: bool) {
        if let Some(colour) = step.colour(channels) {
            if !matches!(self.actions.last(), Some(Action::Colours(_))) {
                self.actions.push(Action::Colours(Colours::default()));
            }
            if let Some(Action::Colours(colours)) = self.actions.last_mut() {
                colours.push(colour);
            }
            return;
        }
        if let Some(Action::Resample(geometry)) = self.actions.last_mut()
            && geometry.take(step, exact)
        {
            *size = geometry.output();
            return;
        }
        let mut geometry = Geometry::none(*size);
        if geometry.take(step, exact) {
            *size = geometry.output();
            self.actions.push(Action::Resample(geometry));
            return;
        }
        if let Some(map) = step.affine_map()
            && !exact
        {
            if let Some(Action::Warp(chain)) = self.actions.last_mut()
                && chain.take(map, *size)
            {
                return;
            }
            let chain = AffineChain::new(map, *size);
            self.actions.push(Action::Warp(chain));
            return;
        }
        // What was drawn for an image fits it.
        *size = step.check(*size).unwrap_or(*size);
        self.actions.push(Action::Step(step));
    }

    /// Takes away the resampling that comes first, of the whole image if there is none: a file need only be decoded as
    /// far as it goes.
    pub fn take_first(&mut self, size: Size) -> Geometry {
        match self.actions.first() {
            Some(&Action::Resample(geometry)) => {
                self.actions.remove(0);
                geometry
            }
            _ => Geometry::none(size),
        }
    }

    /// Does all but what the conversion to numbers does, which is what comes back.
    pub fn run(self, image: &mut Image, scratch: &mut Vec<u8>) -> Colours {
        for action in self.actions {
            match action {
                Action::Resample(geometry) => geometry.apply(image, scratch),
                Action::Warp(chain) => chain.apply(image, scratch),
                Action::Colours(colours) => colours.apply(image),
                Action::Step(step) => step.apply(image, scratch),
            }
        }
        self.last
    }
}
