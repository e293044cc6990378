//! Reductions.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::normalise;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = Σ x`: `dx = dy` at every element summed.
pub(super) fn sum(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    spread(node, grads, tape, |_| 1.0)
}

/// `y = Σ x / n`: `dx = dy / n` at every element summed.
pub(super) fn mean(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    spread(node, grads, tape, |count| 1.0 / count as f64)
}

fn spread(node: &Node, grads: &[Option<Name>], tape: &mut Tape, by: impl Fn(usize) -> f64) -> Grads {
    let dy = first(node, grads)?;
    let from = tape.shape(node.required(0)?);
    let axes = axes(node, tape, from.len())?;
    let count = axes.iter().map(|&a| from[a]).product();
    let scaled = tape.scale(&dy, by(count));
    let reshaped = aligned(node, &scaled, tape)?;
    Ok(vec![Some(tape.expand(&reshaped, &from).into()), None])
}

/// A value of the output's shape with the reduced axes put back as axes of length 1.
pub(super) fn aligned(node: &Node, value: &Name, tape: &mut Tape) -> Result<Name, GradError> {
    let from = tape.shape(node.required(0)?);
    let axes = axes(node, tape, from.len())?;
    let kept: Vec<usize> = from.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
    Ok(tape.reshape(value, &kept))
}

/// The reduced axes, from the attribute (older opsets) or the second input.
pub(super) fn axes(node: &Node, tape: &Tape, rank: usize) -> Result<Vec<usize>, GradError> {
    let given = match (node.ints("axes"), node.input(1)) {
        (Some(axes), _) => axes.to_vec(),
        (None, Some(input)) => tape.integers(node, input)?,
        (None, None) => vec![],
    };
    if given.is_empty() && node.int("noop_with_empty_axes").unwrap_or(0) == 0 {
        return Ok((0..rank).collect());
    }
    given.into_iter().map(|a| normalise(a, rank).ok_or_else(|| node.bad("axes").into())).collect()
}
