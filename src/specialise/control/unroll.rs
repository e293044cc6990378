//! The nodes that take the place of one branch or loop.

use super::super::SpecialiseError;
use super::trips::counted;
use super::{Choice, Known, MOST_NODES, Scalar, body, goes_on, refused, value};
use crate::graph::{Graph, Inlined, Name, Node, attribute, inlined, normalise};
use crate::tensor::Tensor;
use onnx_protobuf::{AttributeProto, GraphProto};
use std::sync::Arc;

/// Nodes and constants that take the place of control flow.
#[derive(Default)]
pub(super) struct Expansion {
    pub nodes: Vec<Node>,
    pub constants: Vec<(Name, Arc<Tensor>)>,
}

/// Names under which the values of a node are put: its first output, and a number.
fn prefix(node: &Node) -> String {
    node.outputs.iter().flatten().next().map(|o| o.to_string()).unwrap_or_default()
}

/// Whether something that a node reads will be known once other control flow is replaced.
fn waits(node: &Node, graph: &Graph, known: &Known) -> bool {
    let later = |name: &Name| known.fixed.contains(name) && !graph.constants.contains_key(name);
    node.inputs.iter().flatten().chain(&node.captured()).any(later)
}

impl Expansion {
    fn node(&mut self, op: &str, inputs: &[&Name], outputs: &[Name], attributes: Vec<AttributeProto>) {
        self.nodes.push(Node {
            name: outputs.first().map(|o| o.to_string()).unwrap_or_default(),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(|&i| Some(i.clone())).collect(),
            outputs: outputs.iter().map(|o| Some(o.clone())).collect(),
            attributes,
        });
    }

    fn constant(&mut self, name: String, tensor: impl Into<Tensor>) -> Name {
        let name: Name = name.into();
        self.constants.push((name.clone(), Arc::new(tensor.into())));
        name
    }

    fn integers(&mut self, name: String, values: Vec<i64>) -> Name {
        self.constant(name, ndarray::Array1::from_vec(values).into_dyn())
    }

    fn run(&mut self, body: &GraphProto, prefix: &str, given: &[Name]) -> Vec<Name> {
        let Inlined { nodes, outputs } = inlined(body, prefix, given);
        self.nodes.extend(nodes);
        outputs
    }

    fn give(&mut self, node: &Node, values: &[Name]) {
        for (output, value) in node.outputs.iter().zip(values) {
            if let Some(output) = output {
                self.node("Identity", &[value], std::slice::from_ref(output), vec![]);
            }
        }
    }

    /// The branch that is taken; both where data tells which, with a choice between their outputs.
    pub fn branch(
        &mut self,
        node: &Node,
        graph: &Graph,
        known: &Known,
        choices: &mut Vec<Choice>,
    ) -> Result<bool, SpecialiseError> {
        let (base, Some(condition)) = (prefix(node), node.input(0)) else {
            return refused(node, "it has no condition");
        };
        let (yes, no) = (body(node, "then_branch")?, body(node, "else_branch")?);
        match value(graph, known, condition) {
            Scalar::Later => return Ok(false),
            Scalar::Known(taken) => {
                let values = self.run(if taken != 0 { yes } else { no }, &base, &[]);
                self.give(node, &values);
            }
            Scalar::OfData => {
                let (yes, no) =
                    (self.run(yes, &format!("{base}/then"), &[]), self.run(no, &format!("{base}/else"), &[]));
                let single: Name = format!("{base}/condition").into();
                self.node("Squeeze", &[condition], std::slice::from_ref(&single), vec![]);
                for (output, (a, b)) in node.outputs.iter().zip(yes.into_iter().zip(no)) {
                    let Some(output) = output else { continue };
                    self.node("Where", &[&single, &a, &b], std::slice::from_ref(output), vec![]);
                    choices.push((node.describe(), [a, b]));
                }
            }
        }
        Ok(true)
    }

    /// All iterations one after another.
    pub fn iterate(&mut self, node: &Node, graph: &Graph, known: &Known) -> Result<bool, SpecialiseError> {
        let (base, body) = (prefix(node), body(node, "body")?);
        let trips = match node.input(0).map(|trips| value(graph, known, trips)) {
            Some(Scalar::Known(trips)) => Some(usize::try_from(trips).unwrap_or(0)),
            Some(Scalar::Later) => return Ok(false),
            Some(Scalar::OfData) => return refused(node, "its trip count depends on data"),
            None => None,
        };
        let starts = match node.input(1).map(|condition| value(graph, known, condition)) {
            Some(Scalar::Later) => return Ok(false),
            Some(Scalar::OfData) => return refused(node, "its condition depends on data"),
            Some(Scalar::Known(on)) => on != 0,
            None => true,
        };
        let trips = match (starts, goes_on(body, graph), trips) {
            (false, _, _) => 0,
            (true, true, Some(trips)) => trips,
            (true, true, None) => return refused(node, "it has no trip count"),
            (true, false, _) if waits(node, graph, known) => return Ok(false),
            (true, false, most) => match counted(node, body, graph, known, most)? {
                Some(trips) => trips,
                None => return refused(node, "data or weights may end it early"),
            },
        };
        let mut carried: Vec<Name> = node.inputs.iter().skip(2).flatten().cloned().collect();
        let on = self.constant(format!("{base}/on"), ndarray::arr0(true).into_dyn());
        let mut collected = vec![Vec::new(); node.outputs.len().saturating_sub(carried.len())];
        self.fits(trips, body)?;
        for trip in 0..trips {
            let number = self.constant(format!("{base}/{trip}/number"), ndarray::arr0(trip as i64).into_dyn());
            let given: Vec<Name> = [number, on.clone()].into_iter().chain(carried.iter().cloned()).collect();
            let mut outputs = self.run(body, &format!("{base}/{trip}"), &given).into_iter().skip(1);
            carried = outputs.by_ref().take(carried.len()).collect();
            collected.iter_mut().zip(outputs).for_each(|(all, output)| all.push(output));
        }
        self.finish(node, &carried, &collected, &[], &[])
    }

    /// All steps along the scanned axes.
    pub fn scan(&mut self, node: &Node, known: &Known) -> Result<bool, SpecialiseError> {
        let (base, body) = (prefix(node), body(node, "body")?);
        let scanned = node.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let inputs: Vec<Name> = node.inputs.iter().flatten().cloned().collect();
        let Some(states) = inputs.len().checked_sub(scanned) else { return refused(node, "it lacks inputs") };
        let mut carried = inputs[..states].to_vec();
        let mut steps = Vec::new();
        for (i, input) in inputs[states..].iter().enumerate() {
            let at = |name: &str| node.ints(name).and_then(|list| list.get(i)).copied().unwrap_or(0);
            let Some(shape) = known.shapes.get(input) else { return Ok(false) };
            let axis = normalise(at("scan_input_axes"), shape.len());
            let Some(axis) = axis else { return refused(node, "it scans an axis that is not there") };
            self.fits(shape[axis], body)?;
            let mut parts = self.steps(&format!("{base}/input{i}"), input, axis, shape[axis]);
            if at("scan_input_directions") != 0 {
                parts.reverse();
            }
            steps.push(parts);
        }
        let mut collected = vec![Vec::new(); node.outputs.len().saturating_sub(states)];
        for step in 0..steps.first().map_or(0, Vec::len) {
            let given: Vec<Name> =
                carried.iter().cloned().chain(steps.iter().filter_map(|s| s.get(step).cloned())).collect();
            let mut outputs = self.run(body, &format!("{base}/{step}"), &given).into_iter();
            carried = outputs.by_ref().take(states).collect();
            collected.iter_mut().zip(outputs).for_each(|(all, output)| all.push(output));
        }
        let list = |name: &str| node.ints(name).unwrap_or_default();
        self.finish(node, &carried, &collected, list("scan_output_axes"), list("scan_output_directions"))
    }

    fn fits(&self, trips: usize, body: &GraphProto) -> Result<(), SpecialiseError> {
        match trips.saturating_mul(body.node.len().max(1)).saturating_add(self.nodes.len()) > MOST_NODES {
            true => Err(SpecialiseError::Unrolled { limit: MOST_NODES }),
            false => Ok(()),
        }
    }

    /// The slices of a value along an axis, which they lose.
    fn steps(&mut self, base: &str, x: &Name, axis: usize, count: usize) -> Vec<Name> {
        let lengths = self.integers(format!("{base}/lengths"), vec![1; count]);
        let axes = self.integers(format!("{base}/axes"), vec![axis as i64]);
        let parts: Vec<Name> = (0..count).map(|i| format!("{base}/part{i}").into()).collect();
        self.node("Split", &[x, &lengths], &parts, vec![attribute("axis", axis as i64)]);
        let slice = |(i, part)| {
            let slice: Name = format!("{base}/slice{i}").into();
            self.node("Squeeze", &[part, &axes], std::slice::from_ref(&slice), vec![]);
            slice
        };
        parts.iter().enumerate().map(slice).collect()
    }

    /// The last states, then what the iterations put out, side by side along new axes.
    fn finish(
        &mut self,
        node: &Node,
        carried: &[Name],
        collected: &[Vec<Name>],
        axes: &[i64],
        directions: &[i64],
    ) -> Result<bool, SpecialiseError> {
        let base = prefix(node);
        self.give(node, carried);
        for (i, parts) in collected.iter().enumerate() {
            let Some(output) = node.outputs.get(carried.len() + i).cloned().flatten() else { continue };
            if parts.is_empty() {
                return refused(node, "it has no iteration");
            }
            let axis = axes.get(i).copied().unwrap_or(0);
            let at = self.integers(format!("{base}/output{i}/axes"), vec![axis]);
            let mut rows: Vec<Name> = (0..parts.len()).map(|k| format!("{base}/output{i}/{k}").into()).collect();
            for (row, part) in rows.iter().zip(parts) {
                self.node("Unsqueeze", &[part, &at], std::slice::from_ref(row), vec![]);
            }
            if directions.get(i).is_some_and(|&d| d != 0) {
                rows.reverse();
            }
            self.node("Concat", &rows.iter().collect::<Vec<_>>(), &[output], vec![attribute("axis", axis)]);
        }
        Ok(true)
    }
}
