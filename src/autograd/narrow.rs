//! Only those entries of an axis are computed that are read in the end.
//!
//! A classifier on one token reads one row of the last layer. What picks the row is moved towards the inputs, through
//! every node that treats the entries of the axis apart, so that neither the other rows nor their gradients, which are
//! zero, are computed. That entries are treated apart is what the rules of samples prove: the entries are taken for
//! samples.

mod plan;

use super::Tape;
use crate::graph::{Name, Node, normalise};
use crate::tensor::Tensor;
use plan::{Narrowed, cuts, picked, plan};
use std::collections::BTreeMap;

/// What was left of a value: its shape before, and the first entry of it that it still has.
struct Kept {
    shape: Vec<usize>,
    start: usize,
}

/// Narrows the nodes of the graph whose outputs are read in part.
pub(super) fn narrow(tape: &mut Tape) {
    let plan = plan(tape);
    if plan.is_empty() {
        return;
    }
    tape.forget();
    let mut kept = BTreeMap::new();
    for (index, mut node) in std::mem::take(&mut tape.graph.nodes).into_iter().enumerate() {
        match plan.get(&index) {
            Some(narrowed) => apply(tape, &mut node, narrowed, &mut kept),
            None => pick_again(tape, &mut node, &kept),
        }
        tape.push(node);
    }
}

/// Lets a node compute its entries from those of its inputs.
fn apply(tape: &mut Tape, node: &mut Node, narrowed: &Narrowed, kept: &mut BTreeMap<Name, Kept>) {
    let Narrowed { entries, output, inputs } = narrowed;
    for (slot, place) in inputs {
        let Some(input) = node.inputs[*slot].as_mut() else { continue };
        let base = kept.get(input).map_or(0, |kept: &Kept| kept.start);
        let at = |entry: usize| (entry - base) * place.inner;
        *input = tape.slice(input, place.axis, at(entries.start), at(entries.end));
    }
    let Some(Some(name)) = node.outputs.first() else { return };
    if let Some((_, shape)) = tape.facts.kinds.get_mut(name) {
        kept.insert(name.clone(), Kept { shape: shape.clone(), start: entries.start });
        shape[output.axis] = entries.len() * output.inner;
    }
    if node.reshapes() {
        let (target, attributes) = tape.target(&tape.shape(name));
        (node.op, node.attributes) = ("Reshape".into(), attributes);
        node.inputs.truncate(1);
        node.inputs.push(Some(target));
    }
}

/// Lets a node that picks from a narrowed value pick the same entries there.
fn pick_again(tape: &mut Tape, node: &mut Node, kept: &BTreeMap<Name, Kept>) {
    let Some(Kept { shape, start }) = node.input(0).and_then(|input| kept.get(input)) else { return };
    let Some((picked, _)) = picked(tape, node, shape) else { return };
    if node.op == "Gather" {
        let Some(indices) = node.input(1).and_then(|indices| tape.constant_value(indices)) else { return };
        let own = |index| Some((normalise(index, shape[picked])? - start) as i64);
        let picks = indices.to_i64().unwrap_or_default().into_iter().map(own).collect::<Option<Vec<i64>>>();
        let Some(indices) = picks.and_then(|picks| Tensor::new(indices.shape(), picks)) else { return };
        node.inputs[1] = Some(tape.constant(indices));
        return;
    }
    let mut cuts = cuts(tape, node, shape).unwrap_or_default();
    for cut in cuts.iter_mut().filter(|cut| cut.axis == picked) {
        (cut.start, cut.end) = (cut.start - start, cut.end - start);
    }
    let bounds = tape.bounds(&cuts).into_iter().map(Some);
    node.inputs.splice(1.., bounds);
}
