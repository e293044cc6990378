//! The gradients that reach a value from its uses, until they are added up.

use super::Tape;
use crate::graph::Name;

/// The gradient from one use.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Whole(Name),
    /// Of the elements from `start` on along an axis; that of all others is zero.
    Placed {
        value: Name,
        axis: usize,
        start: usize,
    },
}

impl Part {
    /// The gradient of a value of the given shape.
    pub fn whole(self, tape: &mut Tape, shape: &[usize]) -> Name {
        match self {
            Part::Whole(value) => value,
            Part::Placed { value, axis, start } => {
                let after = shape[axis] - start - tape.shape(&value)[axis];
                tape.pad(&value, axis, start, after)
            }
        }
    }
}

/// The sum of the gradients of a value of the given shape. Those of its pieces are put side by side where they are all
/// there.
pub(super) fn total(tape: &mut Tape, parts: Vec<Part>, shape: &[usize]) -> Option<Name> {
    if let Some(pieces) = pieces(tape, &parts, shape) {
        let axis = pieces.0;
        return Some(tape.concat(&pieces.1.iter().collect::<Vec<_>>(), axis));
    }
    let wholes: Vec<Name> = parts.into_iter().map(|part| part.whole(tape, shape)).collect();
    wholes.into_iter().reduce(|a, b| tape.add(&a, &b))
}

/// The axis and the gradients of pieces that fill it, in order.
fn pieces(tape: &Tape, parts: &[Part], shape: &[usize]) -> Option<(usize, Vec<Name>)> {
    let placed = |part: &Part| match part {
        Part::Placed { value, axis, start } => Some((*axis, *start, value.clone())),
        Part::Whole(_) => None,
    };
    let mut placed = parts.iter().map(placed).collect::<Option<Vec<_>>>()?;
    placed.sort();
    let axis = placed.first()?.0;
    let mut end = 0;
    for (other, start, value) in &placed {
        if (*other, *start) != (axis, end) {
            return None;
        }
        end += tape.shape(value)[axis];
    }
    (end == shape[axis]).then(|| (axis, placed.into_iter().map(|(_, _, value)| value).collect()))
}
