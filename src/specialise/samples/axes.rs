//! Layouts of operators that repeat, accumulate or mask along given axes.

use super::{Facts, SampleAxis, first_only};
use crate::graph::{Node, normalise};

/// Everything along the axis given by the second input is mixed, the shape stays.
pub fn mixes_axis_input(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let axis = *facts.integers(node.input(1)?)?.first()?;
    let mixed = normalise(axis, out.len())?;
    first_only(node, facts).filter(|found| found.axis != mixed)
}

/// Axes other than the samples' are repeated.
pub fn tile(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let shape = facts.shape(node.input(0)?);
    first_only(node, facts).filter(|found| shape.len() == out.len() && shape[found.axis] == out[found.axis])
}

/// The last two axes hold matrices that are treated alike; the shape stays.
pub fn matrices(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    first_only(node, facts).filter(|found| found.axis + 2 < out.len())
}

/// Axes other than the samples' are resized; one of scale 1 is copied.
pub fn resize(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let found = first_only(node, facts)?;
    let scale = match node.input(2).and_then(|scales| facts.constants.get(scales)?.to_f64()) {
        Some(scales) if !scales.is_empty() => {
            let axes = node.ints("axes").filter(|axes| !axes.is_empty());
            let named = |a: &i64| normalise(*a, out.len()) == Some(found.axis);
            let at = axes.map_or(Some(found.axis), |axes| axes.iter().position(named));
            at.map_or(Some(1.0), |at| scales.iter().nth(at).copied())?
        }
        _ => 1.0,
    };
    let kept = facts.shape(node.input(0)?)[found.axis] == out[found.axis];
    (kept && scale == 1.0).then_some(found)
}
