//! The lowering of contractions in standard operators: a graph that adds the importance of a batch to accumulators,
//! which are its inputs and its outputs, so that they may stay on a device from batch to batch.

use super::apart::{Apart, unseen};
use super::{Backward, Contraction, Power, Tape, Use, Weight, lower};
use crate::graph::{Graph, Name, Node, attribute};
use crate::session::{Carried, Kinds};
use crate::tensor::DType;
use std::collections::BTreeSet;

/// A graph whose outputs are accumulators, then the outputs of the backward graph that no contraction reads.
#[derive(Clone, Debug)]
pub struct Accumulating {
    pub graph: Graph,
    pub kinds: Kinds,
    /// The sum over samples for each weight, in the order of the weights.
    pub accumulators: Vec<Carried>,
}

/// The backward graph with all contractions in it: `out = in + Σ over samples of power(gradient)`. Gradients of samples
/// are held for no more samples at a time than fit into `room` bytes, at least one. None where a contraction has
/// no such form.
pub fn accumulating(backward: &Backward, power: Power, room: usize) -> Option<Accumulating> {
    if backward.weights.is_empty() {
        return None;
    }
    let read: Vec<&Name> = operands(&backward.weights).map(|operand| &operand.name).collect();
    let others: Vec<Name> = backward.graph.outputs.iter().filter(|o| !read.contains(o)).cloned().collect();
    let mut tape = Tape::on(backward.graph.clone(), backward.kinds.clone(), backward.batch);
    let mut accumulators = Vec::new();
    for weight in &backward.weights {
        let double = operands(std::slice::from_ref(weight)).any(|o| tape.dtype(&o.name) == DType::F64);
        let dtype = if double { DType::F64 } else { DType::F32 };
        let input = tape.input(&format!("accumulated/{}", weight.name), dtype, &weight.shape);
        let output = add(&mut tape, &input, weight, power, room)?;
        accumulators.push(Carried { input, output, dtype, shape: weight.shape.clone() });
    }
    let (mut graph, kinds) = tape.into_graph();
    graph.outputs = accumulators.iter().map(|a| a.output.clone()).chain(others).collect();
    graph.prune();
    let within = |node: &Node| node.inputs.iter().flatten().cloned().chain(node.captured()).collect::<Vec<_>>();
    let read: BTreeSet<Name> = graph.nodes.iter().flat_map(within).collect();
    graph.inputs.retain(|input| read.contains(&input.name));
    Some(Accumulating { graph, kinds, accumulators })
}

fn operands(weights: &[Weight]) -> impl Iterator<Item = &super::Operand> {
    weights.iter().flat_map(|w| &w.uses).flat_map(|one| one.contraction.operands())
}

/// The accumulator after a batch.
fn add(tape: &mut Tape, before: &Name, weight: &Weight, power: Power, room: usize) -> Option<Name> {
    let dtype = tape.dtype(before);
    if operands(std::slice::from_ref(weight)).all(|operand| operand.samples.is_none()) {
        let total = together(tape, weight, dtype)?;
        let total = raised(tape, &total, power);
        return Some(tape.add(before, &total));
    }
    if let [Use { contraction: Contraction::Rows { .. }, views }] = &weight.uses[..]
        && views.is_empty()
    {
        let Apart::Rows { indices, dy, .. } = Apart::new(tape, &weight.uses[0].contraction, dtype)? else {
            return None;
        };
        return Some(add_rows(tape, before, [&indices, &dy], power));
    }
    let apart = weight.uses.iter().map(|one| Apart::new(tape, &one.contraction, dtype));
    let apart = apart.collect::<Option<Vec<Apart>>>()?;
    if let [only] = &apart[..]
        && let Some(pair) = only.rank_one(tape).map(|pair| pair.map(Name::clone))
    {
        let pair = pair.map(|value| {
            let shape = tape.shape(&value);
            let rows = tape.reshape(&value, &[shape[0], shape[2]]);
            raised(tape, &rows, power)
        });
        let columns = [&pair[0], &pair[1]].map(|value| tape.shape(value)[1]);
        let sum = tape.node("Gemm", &[&pair[0], &pair[1]], vec![attribute("transA", 1)], (dtype, columns.to_vec()));
        let sum = tape.reshape(&sum, &[1, columns[0], columns[1]]);
        let sum = unseen(tape, &sum, &weight.uses[0].views);
        let sum = tape.reshape(&sum, &weight.shape);
        return Some(tape.add(before, &sum));
    }
    let (batch, bytes) = (tape.batch(), weight.shape.iter().product::<usize>() * dtype.size());
    let at_once = (room / bytes.max(1)).clamp(1, batch);
    let mut sum = before.clone();
    for first in (0..batch).step_by(at_once) {
        let samples = first..batch.min(first + at_once);
        let mut total: Option<Name> = None;
        for (one, apart) in weight.uses.iter().zip(&apart) {
            let seen = apart.gradients(tape, samples.clone());
            let gradients = unseen(tape, &seen, &one.views);
            let gradients = shaped(tape, &gradients, &weight.shape);
            total = Some(plus(tape, total, gradients));
        }
        let part = summed(tape, &total?, power);
        sum = tape.add(&sum, &part);
    }
    Some(sum)
}

/// The gradient of the whole batch, which is one sample.
fn together(tape: &mut Tape, weight: &Weight, dtype: DType) -> Option<Name> {
    let mut total: Option<Name> = None;
    for Use { contraction, views } in &weight.uses {
        let mut cast = |operand: &super::Operand| tape.cast(&operand.name, dtype);
        let seen = match contraction {
            Contraction::Product { left, right } => {
                let shape = [left, right].map(|o| o.shape.last().copied().unwrap_or(1));
                let (left, right) = (cast(left), cast(right));
                lower::product(tape, &left, &right, &shape)
            }
            Contraction::Conv { x, dy, geometry } => {
                let (x, dy) = (cast(x), cast(dy));
                lower::conv(tape, &x, &dy, geometry)
            }
            Contraction::Rows { indices, dy, rows } => {
                let width = dy.shape[indices.shape.len()..].to_vec();
                let dy = cast(dy);
                lower::picked(tape, &indices.name, &dy, &[&[*rows], &width[..]].concat(), 0)
            }
            Contraction::Sum { dy, shape } => {
                let dy = cast(dy);
                tape.reshape(&dy, shape)
            }
        };
        let seen = tape.reshape(&seen, &[&[1], &tape.shape(&seen)[..]].concat());
        let gradient = unseen(tape, &seen, views);
        let gradient = tape.reshape(&gradient, &weight.shape);
        total = Some(plus(tape, total, gradient));
    }
    total
}

/// The sum of what there is so far and one more.
pub(super) fn plus(tape: &mut Tape, total: Option<Name>, next: Name) -> Name {
    total.map_or(next.clone(), |total| tape.add(&total, &next))
}

/// The rows of a table that each sample reads: `Σ |Σ over equal indices of dy|`, each sum counted once.
fn add_rows(tape: &mut Tape, before: &Name, [indices, dy]: [&Name; 2], power: Power) -> Name {
    let (picked, shape, dtype) = (tape.shape(indices), tape.shape(dy), tape.dtype(dy));
    let (down, across) = ([picked[0], picked[1], 1], [picked[0], 1, picked[1]]);
    let (down, across) = (tape.reshape(indices, &down), tape.reshape(indices, &across));
    let equal = tape.compare("Equal", &down, &across);
    let equal = tape.cast(&equal, dtype);
    let sums = tape.matmul(&equal, dy);
    let sums = raised(tape, &sums, power);
    let counts = tape.sum(&equal, &[2]);
    let shares = tape.div(&sums, &counts);
    let count: usize = shape[..2].iter().product();
    let updates = tape.reshape(&shares, &[count, shape[2]]);
    let places = tape.expand(&down, &shape);
    let places = tape.reshape(&places, &[count, shape[2]]);
    let (rows, full) = (tape.shape(before)[0], tape.shape(before));
    let table = tape.reshape(before, &[rows, shape[2]]);
    let kind = (dtype, vec![rows, shape[2]]);
    let attributes = vec![attribute("axis", 0), attribute("reduction", "add")];
    let sum = tape.node("ScatterElements", &[&table, &places, &updates], attributes, kind);
    tape.reshape(&sum, &full)
}

/// `[samples, …]` in the shape of what the gradients are of.
pub(super) fn shaped(tape: &mut Tape, gradients: &Name, shape: &[usize]) -> Name {
    let samples = tape.shape(gradients)[0];
    tape.reshape(gradients, &[&[samples], shape].concat())
}

fn raised(tape: &mut Tape, value: &Name, power: Power) -> Name {
    match power {
        Power::Absolute => tape.unary("Abs", value),
        Power::Square => tape.mul(value, value),
        Power::Signed => value.clone(),
    }
}

/// The sum over samples of the power of the gradients.
fn summed(tape: &mut Tape, gradients: &Name, power: Power) -> Name {
    let shape = tape.shape(gradients)[1..].to_vec();
    let raised = raised(tape, gradients, power);
    tape.sum_to(&raised, &[0], &shape)
}
