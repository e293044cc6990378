//! What a Slice takes.

use super::{GraphError, Name, Node, normalise};

/// What a Slice takes of an axis: `count` elements from `first` on, `step` apart, which may be negative.
#[derive(Clone, Copy)]
pub struct Taken {
    pub axis: usize,
    pub first: usize,
    pub step: i64,
    pub count: usize,
}

impl Taken {
    /// The lowest of the places that are taken, 0 where there are none.
    pub fn lowest(&self) -> usize {
        self.places().min().unwrap_or(0)
    }

    /// The places in the order in which they are taken.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.count as i64).map(move |i| (self.first as i64 + self.step * i) as usize)
    }
}

/// What a Slice whose output has the shape `to` takes of an operand of the shape `from`, along each axis that it names.
/// `integers` gives the values of its other operands.
///
/// # Errors
/// Those of `integers`; an operand is missing; an axis is out of range.
pub fn taken<E: From<GraphError>>(
    node: &Node,
    from: &[usize],
    to: &[usize],
    integers: impl Fn(&Name) -> Result<Vec<i64>, E>,
) -> Result<Vec<Taken>, E> {
    let starts = integers(node.required(1)?)?;
    let given = |slot: usize| node.input(slot).map(&integers).transpose();
    let axes = given(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = given(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let taken = |((&start, &axis), &step): ((&i64, &i64), &i64)| {
        let axis = normalise(axis, from.len()).ok_or_else(|| node.bad("axes"))?;
        let length = from[axis] as i64;
        let start = if start < 0 { start.saturating_add(length) } else { start };
        // Forwards nothing may be left to take; backwards the first element is the highest.
        let first = start.clamp(0, if step > 0 { length } else { (length - 1).max(0) }) as usize;
        Ok(Taken { axis, first, step, count: to[axis] })
    };
    starts.iter().zip(&axes).zip(&steps).map(taken).collect()
}
