//! Bounds on operations inside operations. They are checked in a loop, before anything recurs: a
//! file that nests deeply cannot exhaust the stack.

use super::{Operation, Parameters};

/// Levels of operations, the outermost included.
const MOST_LEVELS: usize = 8;
/// Operations on all levels.
const MOST_OPERATIONS: usize = 1000;
/// What a policy draws lies a level below it.
const MOST_DRAWN_LEVELS: usize = MOST_LEVELS + 1;
/// The most that [`MOST_OPERATIONS`] can draw, each being the policy that draws most.
const MOST_DRAWN: usize = MOST_OPERATIONS * 300;

impl Operation {
    /// Checks how deep and how many operations are nested in this one.
    pub(crate) fn check_nesting(&self) -> Result<(), String> {
        check(self, Self::nested, MOST_LEVELS, MOST_OPERATIONS)?;
        // The depth is bounded now.
        fn minds_label(operations: &[Operation]) -> bool {
            operations.iter().any(|operation| {
                let itself = matches!(operation, Operation::LabelAware(_));
                itself || operation.nested().into_iter().any(minds_label)
            })
        }
        match self.nested().into_iter().any(minds_label) {
            true => Err(
                "label_aware: expected it among the pipeline's own steps, found it inside another"
                    .into(),
            ),
            false => Ok(()),
        }
    }
}

impl Parameters {
    /// Checks how deep and how many parameters are nested in these.
    pub(crate) fn check_nesting(&self) -> Result<(), String> {
        check(self, Self::nested, MOST_DRAWN_LEVELS, MOST_DRAWN)
    }
}

fn check<T>(
    outermost: &T,
    nested: impl Fn(&T) -> Vec<&[T]>,
    most_levels: usize,
    most: usize,
) -> Result<(), String> {
    let mut level: Vec<&T> = vec![outermost];
    let (mut levels, mut found) = (0, 0);
    while !level.is_empty() {
        levels += 1;
        found += level.len();
        if levels > most_levels {
            return Err(format!(
                "expected operations nested at most {most_levels} deep, found more"
            ));
        }
        if found > most {
            return Err(format!(
                "expected at most {most} operations, nested ones included, found more"
            ));
        }
        let inner = level.iter().flat_map(|item| nested(item)).flatten();
        level = inner.take(most + 1).collect();
    }
    Ok(())
}
