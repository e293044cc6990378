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

/// The samples' indices become rows of a new axis, the attribute `axis` of the output.
pub fn one_hot(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let new = node.axis("axis", -1, out.len()).ok()?;
    first_only(node, facts).map(|found| SampleAxis { axis: found.axis + usize::from(found.axis >= new), ..found })
}
