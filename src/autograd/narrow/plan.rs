//! Which nodes are computed for some entries of an axis alone.

use crate::autograd::tape::Cut;
use crate::autograd::{Tape, rules};
use crate::graph::{Graph, Name, Node, Taken, normalise};
use crate::specialise::is_random;
use crate::specialise::samples::{Facts, Layout, locate, stride};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Entries that are read of an axis, which is told by the distance of its neighbours and their number: a flat position
/// `p` belongs to entry `(p / stride) % count`.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    stride: usize,
    count: usize,
    entries: Range<usize>,
}

/// Where the entries lie in a value, `stride` apart: on one axis, `inner` neighbours of which belong to one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    stride: usize,
    pub axis: usize,
    pub inner: usize,
}

/// A node that is computed for some entries alone.
pub(super) struct Narrowed {
    pub entries: Range<usize>,
    pub output: Place,
    /// The inputs of which only those entries are read.
    pub inputs: Vec<(usize, Place)>,
}

/// Operators whose operands name lengths of axes or belong to places along them.
const BOUND: [&str; 5] = ["DequantizeLinear", "Expand", "MaxUnpool", "QuantizeLinear", "Resize"];

/// The nodes to narrow, by their numbers.
pub(super) fn plan(tape: &Tape) -> BTreeMap<usize, Narrowed> {
    let computed = computed(&tape.graph);
    // What is read of a value; none where it is read whole.
    let mut needs: BTreeMap<Name, Option<Span>> = BTreeMap::new();
    needs.extend(tape.graph.outputs.iter().map(|output| (output.clone(), None)));
    let mut plan = BTreeMap::new();
    for (index, node) in tape.graph.nodes.iter().enumerate().rev() {
        let need = match &node.outputs[..] {
            [Some(output)] if computed.contains(output) => needs.get(output).cloned().flatten(),
            _ => None,
        };
        let need = need.filter(|span| is_part(&span.entries, span.count));
        let narrowed = need.and_then(|span| Some((narrowed(tape, node, &span)?, span)));
        let read: Vec<(usize, Span)> = match &narrowed {
            Some((narrowed, span)) => {
                let own = |&(slot, Place { stride, .. }): &_| (slot, Span { stride, ..span.clone() });
                narrowed.inputs.iter().map(own).collect()
            }
            None => span(tape, node).map(|span| (0, span)).into_iter().collect(),
        };
        for (slot, input) in node.inputs.iter().enumerate().filter_map(|(slot, input)| Some((slot, input.as_ref()?))) {
            let span = read.iter().find(|(at, _)| *at == slot).map(|(_, span)| span.clone());
            let merged = match needs.get(input) {
                Some(known) => together(known.as_ref(), span.as_ref()),
                None => span,
            };
            needs.insert(input.clone(), merged);
        }
        needs.extend(node.captured().into_iter().map(|name| (name, None)));
        plan.extend(narrowed.map(|(narrowed, _)| (index, narrowed)));
    }
    plan
}

/// The values that are computed from inputs.
fn computed(graph: &Graph) -> BTreeSet<&Name> {
    let mut computed: BTreeSet<&Name> = graph.inputs.iter().map(|input| &input.name).collect();
    for node in &graph.nodes {
        if node.inputs.iter().flatten().any(|input| computed.contains(input)) {
            computed.extend(node.outputs.iter().flatten());
        }
    }
    computed
}

/// What two readers need; none where that is the whole.
fn together(a: Option<&Span>, b: Option<&Span>) -> Option<Span> {
    let (a, b) = (a?, b?);
    let entries = a.entries.start.min(b.entries.start)..a.entries.end.max(b.entries.end);
    ((a.stride, a.count) == (b.stride, b.count)).then(|| Span { entries, ..a.clone() })
}

/// Whether so much of an axis is left out that it is worth it.
fn is_part(entries: &Range<usize>, count: usize) -> bool {
    !entries.is_empty() && 2 * entries.len() <= count
}

/// What a node picks of its first input.
fn span(tape: &Tape, node: &Node) -> Option<Span> {
    let shape = tape.facts.shape(node.input(0)?);
    let (axis, entries) = picked(tape, node, shape)?;
    Some(Span { stride: stride(shape, axis), count: shape[axis], entries })
}

/// The axis of its first input, of the given shape, along which a node picks a part, and the entries there.
pub(super) fn picked(tape: &Tape, node: &Node, shape: &[usize]) -> Option<(usize, Range<usize>)> {
    let (axis, entries) = match node.op.as_str() {
        "Gather" => {
            let axis = node.axis("axis", 0, shape.len()).ok()?;
            let indices = tape.constant_value(node.input(1)?)?.to_i64()?;
            let indices = indices.into_iter().map(|i| normalise(i, shape[axis])).collect::<Option<Vec<_>>>()?;
            (axis, *indices.iter().min()?..indices.iter().max()? + 1)
        }
        "Slice" => {
            let smaller =
                |a: &Cut, b: &Cut| ((a.end - a.start) * shape[b.axis]).cmp(&((b.end - b.start) * shape[a.axis]));
            let cut = cuts(tape, node, shape)?.into_iter().min_by(smaller)?;
            (cut.axis, cut.start..cut.end)
        }
        _ => return None,
    };
    let part = node.domain.is_empty() && is_part(&entries, shape[axis]);
    part.then_some((axis, entries))
}

/// What a slice takes of each axis, where it goes forwards and takes anything.
pub(super) fn cuts(tape: &Tape, node: &Node, shape: &[usize]) -> Option<Vec<Cut>> {
    let cut = |taken: Taken| {
        let step = usize::try_from(taken.step).ok()?;
        let end = taken.places().last()? + 1;
        Some(Cut { axis: taken.axis, start: taken.first, end, step })
    };
    tape.taken(node, shape).ok()?.into_iter().map(cut).collect()
}

/// How a node is computed for some entries of its output alone.
fn narrowed(tape: &Tape, node: &Node, span: &Span) -> Option<Narrowed> {
    if BOUND.contains(&node.op.as_str()) || is_random(node) || !node.captured().is_empty() {
        return None;
    }
    let rule = rules::find(node, tape.graph.opset())?.samples;
    let output = node.output().ok()?;
    let place = place(tape.facts.shape(output), span.stride, span.count)?;
    let mut facts = Facts { batch: span.count, ..Facts::default() };
    for name in node.inputs.iter().flatten().chain([output]) {
        facts.kinds.extend(tape.facts.kinds.get(name).map(|kind| (name.clone(), kind.clone())));
        facts.constants.extend(tape.constant_value(name).map(|value| (name.clone(), value.clone())));
        facts.layouts.insert(name.clone(), Layout::Shared);
    }
    let reached = |facts: &Facts| facts.propagate(node, output, Some(rule)) == Layout::Samples { stride: span.stride };
    let mut inputs: BTreeMap<&Name, Place> = BTreeMap::new();
    for name in node.inputs.iter().flatten() {
        let shape = facts.shape(name).to_vec();
        let on = |axis: usize| place.inner * stride(&shape, axis);
        let strides = std::iter::once(span.stride).chain((0..shape.len()).map(on));
        let found = strides.filter_map(|stride| self::place(&shape, stride, span.count)).find(|place| {
            facts.layouts.insert(name.clone(), Layout::Samples { stride: place.stride });
            reached(&facts)
        });
        facts.layouts.insert(name.clone(), Layout::Shared);
        inputs.extend(found.map(|found| (name, found)));
    }
    let together = inputs.iter().map(|(&name, place)| (name.clone(), Layout::Samples { stride: place.stride }));
    facts.layouts.extend(together);
    if inputs.is_empty() || !reached(&facts) {
        return None;
    }
    let places = |(slot, input): (usize, &Option<Name>)| Some((slot, *inputs.get(input.as_ref()?)?));
    let inputs = node.inputs.iter().enumerate().filter_map(places).collect();
    Some(Narrowed { entries: span.entries.clone(), output: place, inputs })
}

/// Where entries lie next to each other, once.
fn place(shape: &[usize], stride: usize, count: usize) -> Option<Place> {
    let found = locate(shape, stride, count).filter(|found| found.outer == 1)?;
    Some(Place { stride, axis: found.axis, inner: found.inner })
}
