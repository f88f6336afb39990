//! A residual addition and the activation that follows it, in one pass over memory.

use multiversion::multiversion;

use crate::Float;
use crate::activation::{Activate, Activation, with_activation};
use crate::output::{Grid, Writer, build};

/// Elements of a part.
const CHUNK: usize = 1 << 14;

/// y\[i\] = activation(x\[i\] + residual\[i\]).
///
/// # Panics
/// If the residual is not as long as `x`.
pub fn add_activated<T: Float>(x: &[T], residual: &[T], activation: Activation) -> Vec<T> {
    assert_eq!(x.len(), residual.len(), "residual: as long as x");
    with_activation!(activation, |activation| {
        let (y, _) = build(Grid::chunks(x.len(), CHUNK), |_, elements, writer| {
            let (x, residual) = (&x[elements.clone()], &residual[elements]);
            add(x, residual, activation, writer);
        });
        y
    })
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add<T: Float, A: Activate>(x: &[T], residual: &[T], activation: A, writer: &mut Writer<'_, T>) {
    writer.append_of([x, residual], |[x, residual]| {
        activation.forward(x + residual)
    });
}

/// The gradient by x, and by the residual, given `dy` and what [`add_activated`] returned: an activation's output tells
/// its slope.
///
/// # Panics
/// If `dy` is not as long as `y`.
pub fn add_activated_backward<T: Float>(dy: &[T], y: &[T], activation: Activation) -> Vec<T> {
    assert_eq!(dy.len(), y.len(), "dy: as long as y");
    with_activation!(activation, |activation| {
        let (dx, _) = build(Grid::chunks(y.len(), CHUNK), |_, elements, writer| {
            backward(&dy[elements.clone()], &y[elements], activation, writer);
        });
        dx
    })
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward<T: Float, A: Activate>(dy: &[T], y: &[T], activation: A, writer: &mut Writer<'_, T>) {
    writer.append_of([y, dy], |[y, dy]| activation.backward(y, dy));
}
