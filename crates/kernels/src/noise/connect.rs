//! DropConnect with a mask for each example: a linear layer whose masked weights are never stored.

use multiversion::multiversion;

use super::mask::Dropout;
use super::words::Words;
use crate::Float;
use crate::output::{Parts, build_parts};
use crate::simd::LaneSums;

/// Weights `[inputs, outputs]` under a mask for each example, over inputs
/// `[examples, positions, inputs]`: element (n, i, o) of the mask, in this order, is of example n.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropConnect {
    /// The mask.
    pub dropout: Dropout,
    /// That have a mask each.
    pub examples: usize,
    /// Of an example, under one mask.
    pub positions: usize,
    /// Features in.
    pub inputs: usize,
    /// Features out.
    pub outputs: usize,
}

impl DropConnect {
    fn check<T>(&self, x: Option<&[T]>, weight: Option<&[T]>, y: Option<&[T]>) {
        let Self {
            examples,
            positions,
            inputs,
            outputs,
            ..
        } = *self;
        let rows = examples * positions;
        for (name, slice, len) in [
            ("x", x, rows * inputs),
            ("weight", weight, inputs * outputs),
            ("dy", y, rows * outputs),
        ] {
            if let Some(slice) = slice {
                assert_eq!(slice.len(), len, "{name}: of the length that {self:?} says");
            }
        }
    }

    /// Operations of one direction, to tell whether threads are worth waking.
    fn work(&self) -> usize {
        [self.positions + 1, self.inputs, self.outputs]
            .into_iter()
            .fold(self.examples, usize::saturating_mul)
    }

    /// Calls `work(input, row)` for each input with the example's masked weights of it, made in `masked`.
    fn for_masked_rows<T: Float>(
        &self,
        weight: &[T],
        example: usize,
        masked: &mut [T],
        mut work: impl FnMut(usize, &[T]),
    ) {
        let mut words = Words::new(self.dropout.key());
        for input in 0..self.inputs {
            let row = &weight[input * self.outputs..][..self.outputs];
            let first = self.row(example, input);
            mask(row, &self.dropout, first, &mut words, masked);
            work(input, masked);
        }
    }

    /// The first element of the mask of this example and input.
    fn row(&self, example: usize, input: usize) -> u64 {
        (example * self.inputs + input) as u64 * self.outputs as u64
    }
}

/// y\[n, t, o\] = Σᵢ x\[n, t, i\]·weight\[i, o\]·m\[n, i, o\].
pub fn drop_connect<T: Float>(x: &[T], weight: &[T], connect: &DropConnect) -> Vec<T> {
    connect.check(Some(x), Some(weight), None);
    let DropConnect {
        examples,
        positions,
        inputs,
        outputs,
        ..
    } = *connect;
    let parts = Parts {
        total: examples * positions * outputs,
        part: positions * outputs,
        scratch: outputs,
        work: connect.work(),
    };
    let (y, _) = build_parts(parts, |example, y, masked| {
        connect.for_masked_rows(weight, example, masked, |input, row| {
            for (position, y) in y.chunks_exact_mut(outputs).enumerate() {
                let x = x[(example * positions + position) * inputs + input];
                add_times(x, row, y);
            }
        });
    });
    y
}

/// dx\[n, t, i\] = Σₒ dy\[n, t, o\]·weight\[i, o\]·m\[n, i, o\].
pub fn drop_connect_input_gradient<T: Float>(
    dy: &[T],
    weight: &[T],
    connect: &DropConnect,
) -> Vec<T> {
    connect.check(None, Some(weight), Some(dy));
    let DropConnect {
        examples,
        positions,
        inputs,
        outputs,
        ..
    } = *connect;
    let parts = Parts {
        total: examples * positions * inputs,
        part: positions * inputs,
        scratch: outputs,
        work: connect.work(),
    };
    let (dx, _) = build_parts(parts, |example, dx, masked| {
        connect.for_masked_rows(weight, example, masked, |input, row| {
            for position in 0..positions {
                let dy = &dy[(example * positions + position) * outputs..][..outputs];
                dx[position * inputs + input] = dot(dy, row);
            }
        });
    });
    dx
}

/// dweight\[i, o\] = Σₙ m\[n, i, o\]·Σₜ x\[n, t, i\]·dy\[n, t, o\].
pub fn drop_connect_weight_gradient<T: Float>(x: &[T], dy: &[T], connect: &DropConnect) -> Vec<T> {
    connect.check(Some(x), None, Some(dy));
    let DropConnect {
        examples,
        positions,
        inputs,
        outputs,
        dropout,
    } = *connect;
    let parts = Parts {
        total: inputs * outputs,
        part: outputs,
        scratch: 2 * outputs,
        work: connect.work(),
    };
    let (dweight, _) = build_parts(parts, |input, dweight, scratch| {
        let mut words = Words::new(dropout.key());
        let (product, masked) = scratch.split_at_mut(outputs);
        for example in 0..examples {
            product.fill(T::ZERO);
            for position in (0..positions).map(|position| example * positions + position) {
                let dy = &dy[position * outputs..][..outputs];
                add_times(x[position * inputs + input], dy, product);
            }
            mask(
                product,
                &dropout,
                connect.row(example, input),
                &mut words,
                masked,
            );
            add_times(T::ONE, masked, dweight);
        }
    });
    dweight
}

/// masked\[o\] = row\[o\] times the factor of element `first` + o of the mask.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mask<T: Float>(row: &[T], dropout: &Dropout, first: u64, words: &mut Words, masked: &mut [T]) {
    let mut done = 0;
    while done < row.len() {
        let words = words.from(first + done as u64);
        let count = words.len().min(row.len() - done);
        let (row, masked) = (&row[done..][..count], &mut masked[done..][..count]);
        for i in 0..count {
            masked[i] = row[i] * dropout.factor(words[i]);
        }
        done += count;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_times<T: Float>(factor: T, x: &[T], sums: &mut [T]) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    let mut sums = LaneSums::<T, 1>::new();
    sums.add_pairs(a, b, |a, b| [a * b]);
    let [total] = sums.totals();
    T::from_f64(total)
}
