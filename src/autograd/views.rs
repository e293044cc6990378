//! Which values are a parameter with its elements moved or picked.

use super::levels::restored;
use super::{Tape, View};
use crate::graph::{Name, Node, normalise};
use ndarray::{ArrayD, Axis, IxDyn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Values that are a parameter with its elements moved or picked at constant places, with the steps.
pub(super) fn views(tape: &Tape, nodes: &[Node], parameters: &BTreeSet<Name>) -> BTreeMap<Name, (Name, Vec<View>)> {
    let mut views: BTreeMap<Name, (Name, Vec<View>)> =
        parameters.iter().map(|p| (p.clone(), (p.clone(), Vec::new()))).collect();
    let numbered: Vec<&Name> = parameters.iter().collect();
    let mut blends: BTreeMap<Name, Blend> = BTreeMap::new();
    for node in nodes.iter().filter(|n| n.domain.is_empty()) {
        if let Some((source, output)) = restored(tape, nodes, node)
            && let Some(view) = views.get(&source).cloned()
        {
            views.insert(output, view);
            continue;
        }
        let mut made = joined(tape, node, &numbered, &views, &blends).into_iter().collect::<Vec<_>>();
        let Some(input) = node.input(0) else { continue };
        if let Some((parameter, steps)) = views.get(input).cloned() {
            for (output, step) in seen(tape, node).unwrap_or_default() {
                let steps = steps.iter().cloned().chain(step).collect();
                views.insert(output, (parameter.clone(), steps));
            }
        } else if let Some(blend) = blends.get(input) {
            let steps = seen(tape, node).unwrap_or_default().into_iter();
            made.extend(steps.map(|(output, step)| (output, step.iter().fold(blend.clone(), stepped))));
        }
        for (output, blend) in made {
            match only(tape, &output, &blend, &numbered) {
                Some(view) => drop(views.insert(output, view)),
                None => drop(blends.insert(output, blend)),
            }
        }
    }
    views
}

/// Elements of parameters put together: for each, the number of the parameter and its flat position there.
type Blend = ArrayD<(usize, usize)>;

/// Parameters, or pieces of them, put together.
fn joined(
    tape: &Tape,
    node: &Node,
    numbered: &[&Name],
    views: &BTreeMap<Name, (Name, Vec<View>)>,
    blends: &BTreeMap<Name, Blend>,
) -> Option<(Name, Blend)> {
    if node.op != "Concat" {
        return None;
    }
    let blend = |input: &Option<Name>| match views.get(input.as_ref()?) {
        Some((parameter, steps)) => {
            let number = numbered.binary_search(&parameter).ok()?;
            Some(places(&tape.shape(parameter), steps).mapv(|position| (number, position)))
        }
        None => blends.get(input.as_ref()?).cloned(),
    };
    let pieces = node.inputs.iter().map(blend).collect::<Option<Vec<_>>>()?;
    let output = node.output().ok()?;
    let axis = node.axis("axis", 0, tape.rank(output)).ok()?;
    let parts: Vec<_> = pieces.iter().map(|piece| piece.view()).collect();
    Some((output.clone(), ndarray::concatenate(Axis(axis), &parts).ok()?))
}

/// The view of one parameter that elements of parameters are where they are all of that one.
fn only(tape: &Tape, value: &Name, blend: &Blend, numbered: &[&Name]) -> Option<(Name, Vec<View>)> {
    let &(number, _) = blend.first()?;
    let positions = blend.iter().map(|&(other, position)| (other == number).then_some(position));
    let positions = positions.collect::<Option<Arc<[usize]>>>()?;
    let parameter = Name::clone(numbered.get(number)?);
    let (from, to) = (tape.shape(&parameter), tape.shape(value));
    let whole = positions.iter().copied().eq(0..from.iter().product());
    Some((parameter, vec![if whole { View::Reshape { from, to } } else { View::Pick { from, to, positions } }]))
}

/// The outputs of a node that only moves or picks the elements of its first input, each with its step.
fn seen(tape: &Tape, node: &Node) -> Option<Vec<(Name, Option<View>)>> {
    let (from, output) = (tape.shape(node.input(0)?), node.output().ok()?);
    let step = match node.op.as_str() {
        "Identity" => None,
        "Cast" if tape.dtype(output).is_float() => None,
        _ if node.reshapes() => Some(View::Reshape { from, to: tape.shape(output) }),
        "Transpose" => Some(View::Permute(node.order(from.len()))),
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
    let mut picked = numbered(from);
    for taken in tape.taken(node, from).ok()? {
        let places: Vec<usize> = taken.places().collect();
        if places.iter().any(|&place| place >= from[taken.axis]) {
            return None;
        }
        picked = picked.select(Axis(taken.axis), &places);
    }
    Some(picked)
}

/// For each element that is seen of a parameter of this shape, its flat position in the parameter.
pub fn places(parameter: &[usize], views: &[View]) -> ArrayD<usize> {
    views.iter().fold(numbered(parameter), stepped)
}

/// The elements after a step.
fn stepped<T: Clone>(seen: ArrayD<T>, view: &View) -> ArrayD<T> {
    let shaped = |elements: Vec<T>, shape: &[usize]| ArrayD::from_shape_vec(IxDyn(shape), elements).ok();
    let next = match view {
        View::Reshape { to, .. } => shaped(seen.iter().cloned().collect(), to),
        View::Permute(perm) => return seen.permuted_axes(IxDyn(perm)),
        View::Pick { to, positions, .. } => {
            let flat: Vec<&T> = seen.iter().collect();
            let picked = positions.iter().filter_map(|&position| flat.get(position).copied().cloned());
            shaped(picked.collect(), to)
        }
    };
    next.unwrap_or(seen)
}

fn numbered(shape: &[usize]) -> ArrayD<usize> {
    let mut next = 0..;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || next.next().unwrap_or_default())
}

fn pick(from: &[usize], to: Vec<usize>, positions: ArrayD<usize>) -> View {
    View::Pick { from: from.to_vec(), to, positions: positions.iter().copied().collect() }
}
