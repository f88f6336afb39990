//! A residual addition and the activation that follows it, in one pass over memory.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use crate::Float;
use crate::activation::{Activate, Activation, with_activation};
use crate::output::{Grid, Source, Writer, build_over};

/// Elements of a part.
const CHUNK: usize = 1 << 14;

/// y\[i\] = activation(x\[i\] + residual\[i\]).
///
/// # Panics
/// If the residual is not as long as `x`.
pub fn add_activated<'a, T: Float>(
    x: impl Into<Cow<'a, [T]>>,
    residual: &[T],
    activation: Activation,
) -> Vec<T> {
    let x = x.into();
    assert_eq!(x.len(), residual.len(), "residual: as long as x");
    with_activation!(activation, |activation| {
        map(x, residual, move |x, residual| {
            activation.forward(x + residual)
        })
    })
}

/// The gradient by x, and by the residual, given `dy` and what [`add_activated`] returned: an activation's output tells
/// its slope.
///
/// # Panics
/// If `dy` is not as long as `y`.
pub fn add_activated_backward<'a, T: Float>(
    dy: impl Into<Cow<'a, [T]>>,
    y: &[T],
    activation: Activation,
) -> Vec<T> {
    let dy = dy.into();
    assert_eq!(dy.len(), y.len(), "dy: as long as y");
    with_activation!(activation, |activation| {
        map(dy, y, move |dy, y| activation.backward(y, dy))
    })
}

fn map<T: Float>(x: Cow<'_, [T]>, other: &[T], value: impl Fn(T, T) -> T + Copy + Sync) -> Vec<T> {
    let grid = Grid::chunks(x.len(), CHUNK);
    let (output, _) = build_over(x, grid, |elements, x, writer| {
        write(x, elements, other, value, writer);
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn write<T: Float>(
    x: Source<'_, T>,
    elements: Range<usize>,
    other: &[T],
    value: impl Fn(T, T) -> T,
    writer: &mut Writer<'_, T>,
) {
    let other = &other[elements.clone()];
    writer.map_with(x, elements, [other], |x, [other]| value(x, other));
}
