//! Layouts of operators that repeat, accumulate or mask along given axes.

use super::{Facts, SampleAxis, agree, dependent, first_only};
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

/// The last two axes hold matrices, of which a number each is left.
pub fn determinants(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    first_only(node, facts).filter(|found| found.axis < out.len())
}

/// Values and places, both with the samples on the first axis.
pub fn unpool(node: &Node, facts: &Facts, _out: &[usize]) -> Option<SampleAxis> {
    agree(dependent(node, facts).map(|(_, name)| facts.sample_axis(name))).filter(|found| found.axis == 0)
}

/// Sequences along `time_axis` are reversed, each by its own length given for the places of `batch_axis`.
pub fn reversed(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let (time, batch) = (node.axis("time_axis", 0, out.len()).ok()?, node.axis("batch_axis", 1, out.len()).ok()?);
    let located = |(slot, name): (usize, &_)| {
        let found = facts.sample_axis(name)?;
        Some(SampleAxis { axis: if slot == 1 { batch } else { found.axis }, ..found })
    };
    agree(dependent(node, facts).map(located)).filter(|found| found.axis != time)
}

/// The samples' indices become rows of a new axis, the attribute `axis` of the output.
pub fn one_hot(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let new = node.axis("axis", -1, out.len()).ok()?;
    first_only(node, facts).map(|found| SampleAxis { axis: found.axis + usize::from(found.axis >= new), ..found })
}
