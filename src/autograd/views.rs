//! Which values are a parameter with its elements moved or picked.

use super::levels::restored;
use super::{Tape, View};
use crate::graph::{Name, Node, normalise};
use ndarray::{ArrayD, Axis, IxDyn};
use std::collections::{BTreeMap, BTreeSet};

/// Values that are a parameter with its elements moved or picked at constant places, with the steps.
pub(super) fn views(tape: &Tape, nodes: &[Node], parameters: &BTreeSet<Name>) -> BTreeMap<Name, (Name, Vec<View>)> {
    let mut views: BTreeMap<Name, (Name, Vec<View>)> =
        parameters.iter().map(|p| (p.clone(), (p.clone(), Vec::new()))).collect();
    for node in nodes.iter().filter(|n| n.domain.is_empty()) {
        if let Some((source, output)) = restored(tape, nodes, node)
            && let Some(view) = views.get(&source).cloned()
        {
            views.insert(output, view);
            continue;
        }
        if let Some((parameter, step)) = joined(tape, node, &views) {
            views.insert(node.outputs[0].clone().unwrap_or_else(|| parameter.clone()), (parameter, vec![step]));
            continue;
        }
        let Some((parameter, steps)) = node.input(0).and_then(|input| views.get(input)).cloned() else { continue };
        for (output, step) in seen(tape, node).unwrap_or_default() {
            let steps = steps.iter().cloned().chain(step).collect();
            views.insert(output, (parameter.clone(), steps));
        }
    }
    views
}

/// The outputs of a node that only moves or picks the elements of its first input, each with its step.
fn seen(tape: &Tape, node: &Node) -> Option<Vec<(Name, Option<View>)>> {
    let (from, output) = (tape.shape(node.input(0)?), node.output().ok()?);
    let step = match node.op.as_str() {
        "Identity" => None,
        "Cast" if tape.dtype(output).is_float() => None,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => Some(View::Reshape { from, to: tape.shape(output) }),
        "Transpose" => {
            let reversed = || (0..from.len()).rev().collect();
            let perm = node.ints("perm").map(|p| p.iter().map(|&p| p as usize).collect());
            Some(View::Permute(perm.unwrap_or_else(reversed)))
        }
        "Gather" => {
            let indices = tape.constant_value(node.input(1)?)?;
            // Rows picked for each sample on its own: the rule keeps the samples apart.
            if tape.batch() > 1 && indices.shape().len() > 1 && indices.shape()[0] == tape.batch() {
                return None;
            }
            let indices = indices.to_i64()?;
            let axis = node.axis("axis", 0, from.len()).ok()?;
            let indices = indices.into_iter().map(|i| normalise(i, from[axis])).collect::<Option<Vec<usize>>>()?;
            Some(pick(&from, tape.shape(output), numbered(&from).select(Axis(axis), &indices)))
        }
        "Slice" => {
            let picked = sliced(tape, node, &from)?;
            Some(pick(&from, tape.shape(output), picked))
        }
        "Split" => return split(tape, node, &from),
        _ => return None,
    };
    Some(vec![(output.clone(), step)])
}

/// Pieces of one parameter put together again, perhaps in another order.
fn joined(tape: &Tape, node: &Node, views: &BTreeMap<Name, (Name, Vec<View>)>) -> Option<(Name, View)> {
    if node.op != "Concat" || node.inputs.len() < 2 {
        return None;
    }
    let seen = |input: &Option<Name>| views.get(input.as_ref()?);
    let pieces = node.inputs.iter().map(seen).collect::<Option<Vec<_>>>()?;
    let parameter = &pieces[0].0;
    if pieces.iter().any(|(other, _)| other != parameter) {
        return None;
    }
    let from = tape.shape(parameter);
    let pieces: Vec<ArrayD<usize>> = pieces.iter().map(|(_, steps)| places(&from, steps)).collect();
    let to = tape.shape(node.output().ok()?);
    let axis = node.axis("axis", 0, to.len()).ok()?;
    let parts: Vec<_> = pieces.iter().map(|piece| piece.view()).collect();
    let positions = ndarray::concatenate(Axis(axis), &parts).ok()?;
    Some((parameter.clone(), pick(&from, to, positions)))
}

/// The parts of a value along the attribute `axis`.
fn split(tape: &Tape, node: &Node, from: &[usize]) -> Option<Vec<(Name, Option<View>)>> {
    let axis = node.axis("axis", 0, from.len()).ok()?;
    let (mut start, mut parts) = (0, Vec::new());
    for output in &node.outputs {
        let output = output.as_ref()?;
        let to = tape.shape(output);
        let indices: Vec<usize> = (start..start + to[axis]).collect();
        start += to[axis];
        parts.push((output.clone(), Some(pick(from, to, numbered(from).select(Axis(axis), &indices)))));
    }
    (start == from[axis]).then_some(parts)
}

/// The positions that constant starts and steps leave.
fn sliced(tape: &Tape, node: &Node, from: &[usize]) -> Option<ArrayD<usize>> {
    let constant = |slot: usize| tape.constant_value(node.input(slot)?)?.to_i64();
    let (starts, to) = (constant(1)?, tape.shape(node.output().ok()?));
    let axes = if node.input(3).is_some() { constant(3)? } else { (0..starts.len() as i64).collect() };
    let steps = if node.input(4).is_some() { constant(4)? } else { vec![1; starts.len()] };
    let mut picked = numbered(from);
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let axis = normalise(axis, from.len())?;
        let length = from[axis] as i64;
        let start = if start < 0 { start.saturating_add(length) } else { start };
        let start = start.clamp(0, if step > 0 { length } else { length - 1 });
        let at = |i: usize| usize::try_from(start + step * i as i64).ok().filter(|&at| at < from[axis]);
        picked = picked.select(Axis(axis), &(0..to[axis]).map(at).collect::<Option<Vec<usize>>>()?);
    }
    Some(picked)
}

/// For each element that is seen of a parameter of this shape, its flat position in the parameter.
pub fn places(parameter: &[usize], views: &[View]) -> ArrayD<usize> {
    let mut seen = numbered(parameter);
    for view in views {
        seen = match view {
            View::Reshape { to, .. } => shaped(seen.iter().copied().collect(), to),
            View::Permute(perm) => seen.permuted_axes(IxDyn(perm)),
            View::Pick { to, positions, .. } => {
                let flat: Vec<usize> = seen.iter().copied().collect();
                shaped(positions.iter().filter_map(|&position| flat.get(position).copied()).collect(), to)
            }
        };
    }
    seen
}

fn shaped(elements: Vec<usize>, shape: &[usize]) -> ArrayD<usize> {
    ArrayD::from_shape_vec(IxDyn(shape), elements).unwrap_or_else(|_| ArrayD::zeros(IxDyn(shape)))
}

fn numbered(shape: &[usize]) -> ArrayD<usize> {
    let mut next = 0..;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || next.next().unwrap_or_default())
}

fn pick(from: &[usize], to: Vec<usize>, positions: ArrayD<usize>) -> View {
    View::Pick { from: from.to_vec(), to, positions: positions.iter().copied().collect() }
}
