//! Constants rounded to the levels of integers and restored.

use super::Tape;
use super::rules::quantise::range;
use crate::graph::{Name, Node};
use ndarray::IxDyn;

/// The constant that a DequantizeLinear gives back after a QuantizeLinear rounded it, and the output: its
/// straight-through gradient is that of the constant where no element saturates.
pub(super) fn restored(tape: &Tape, nodes: &[Node], node: &Node) -> Option<(Name, Name)> {
    if node.op != "DequantizeLinear" {
        return None;
    }
    let rounds = |n: &&Node| n.op == "QuantizeLinear" && n.outputs.first() == node.inputs.first();
    let rounding = nodes.iter().find(rounds)?;
    let same = rounding.inputs.get(1..) == node.inputs.get(1..) && rounding.int("axis") == node.int("axis");
    let in_blocks = rounding.int("block_size").unwrap_or(0) > 0;
    let source = rounding.input(0)?;
    let found = (source.clone(), node.output().ok()?.clone());
    (same && !in_blocks && none_saturates(tape, rounding, source)?).then_some(found)
}

fn none_saturates(tape: &Tape, rounding: &Node, source: &Name) -> Option<bool> {
    let values = tape.constant_value(source)?.to_f64()?;
    let scale: Vec<f64> = tape.constant_value(rounding.input(1)?)?.to_f64()?.into_iter().collect();
    let zero: Vec<f64> = match rounding.input(2) {
        Some(zero) => tape.constant_value(zero)?.to_i64()?.into_iter().map(|z| z as f64).collect(),
        None => vec![0.0],
    };
    let [low, high] = range(rounding, tape).ok()?;
    let axis = rounding.axis("axis", 1, values.ndim()).ok();
    let of = |list: &[f64], index: &IxDyn| list.get(if list.len() == 1 { 0 } else { index[axis?] }).copied();
    let inside = |(index, x): (IxDyn, &f64)| {
        let level = of(&scale, &index).zip(of(&zero, &index)).map(|(scale, zero)| (x / scale).round() + zero);
        level.is_some_and(|level| (low..=high).contains(&level))
    };
    Some(values.indexed_iter().all(inside))
}
