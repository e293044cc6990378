//! The reverse pass: reachability, sums of gradients, broadcasting, types. Rules know none of it.

use super::lower;
use super::merge::merged;
use super::objective::{self, Objective};
use super::rules::{self, Gradient};
use super::tape::broadcast;
use super::views::views;
use super::{Contraction, Grad, GradError, Operand, Tape, Use, View};
use crate::error::printable;
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use crate::specialise::Specialised;
use crate::specialise::samples::{Layout, SampleAxis};
use std::collections::{BTreeMap, BTreeSet};

/// What happens to per-sample gradients within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Absolute value for each sample, then the mean over samples: the paper's equation.
    Sample,
    /// The mean over a batch, then its absolute value, then the mean over batches: the authors' code.
    Batch,
}

/// A parameter and what its gradient is made of.
#[derive(Clone, Debug)]
pub struct Weight {
    pub name: Name,
    pub shape: Vec<usize>,
    pub uses: Vec<Use>,
}

/// A graph that computes, for one batch, everything that the gradients of the parameters are made of.
#[derive(Clone, Debug)]
pub struct Backward {
    /// Outputs are the operands of all contractions.
    pub graph: Graph,
    pub kinds: Kinds,
    /// In the order of the parameters' names.
    pub weights: Vec<Weight>,
    pub batch: usize,
    /// Why samples cannot be told apart, where they cannot; the contractions then give sums over the batch.
    pub mixed: Option<String>,
}

/// Every operator between the parameters and the outputs that has no gradient rule, with its number of nodes.
pub fn missing_rules(graph: &Graph, parameters: &BTreeSet<Name>) -> BTreeMap<String, usize> {
    let mut graph = graph.clone();
    graph.prune();
    let mut reached: BTreeSet<&Name> = parameters.iter().collect();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    for node in &graph.nodes {
        if !node.inputs.iter().flatten().any(|i| reached.contains(i)) {
            continue;
        }
        match rules::find(node, graph.opset()).map(|row| &row.gradient) {
            Some(Gradient::Zero(_)) => continue,
            Some(Gradient::Rule(_) | Gradient::Rewrite(_)) => {}
            other => {
                let reason = match other {
                    Some(Gradient::Refused(reason)) => format!(": {reason}"),
                    _ => String::new(),
                };
                let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
                *missing.entry(printable(&format!("{domain}{}{reason}", node.op))).or_default() += 1;
            }
        }
        reached.extend(node.outputs.iter().flatten());
    }
    missing
}

/// Checks that every operator between the parameters and the outputs has a gradient rule.
///
/// # Errors
/// All that have none in one message, each with its number of nodes.
pub fn check_rules(graph: &Graph, parameters: &BTreeSet<Name>) -> Result<(), GradError> {
    let missing = missing_rules(graph, parameters);
    if missing.is_empty() {
        return Ok(());
    }
    let nodes = |n: usize| if n == 1 { "1 node".to_string() } else { format!("{n} nodes") };
    let list = missing.iter().map(|(op, n)| format!("{op} ({})", nodes(*n))).collect::<Vec<_>>().join(", ");
    Err(GradError::MissingRules { list })
}

/// The graph that is differentiated: operators that have no rule of their own written as others.
///
/// # Errors
/// A node between the parameters and the outputs cannot be rewritten.
pub fn rewritten(specialised: Specialised, parameters: &BTreeSet<Name>) -> Result<Graph, GradError> {
    Ok(Tape::new(specialised, parameters)?.graph)
}

/// Differentiates the objective with respect to the parameters.
///
/// # Errors
/// A missing rule, an operand or attribute that a rule does not support, an output without gradient.
pub fn differentiate(
    specialised: Specialised,
    parameters: &BTreeSet<Name>,
    objective: Objective,
    reduction: Reduction,
) -> Result<Backward, GradError> {
    check_rules(&specialised.graph, parameters)?;
    let outputs = specialised.graph.outputs.clone();
    let mut tape = Tape::new(specialised, parameters)?;
    let forward = tape.graph.nodes.clone();
    let views = views(&tape, &forward, parameters);
    tape.weights = views.keys().cloned().collect();
    let mut driver = Driver { tape, views, reduction, grads: BTreeMap::new(), uses: BTreeMap::new(), mixed: None };
    let wanted = driver.wanted(&forward);
    for (output, seed) in objective::seeds(&mut driver.tape, &outputs, objective)? {
        driver.grads.entry(output).or_default().push(seed);
    }
    for node in forward.iter().rev() {
        driver.node(node, &wanted)?;
    }
    Ok(driver.finish(&forward))
}

struct Driver {
    tape: Tape,
    /// Values that are a parameter moved about.
    views: BTreeMap<Name, (Name, Vec<View>)>,
    reduction: Reduction,
    /// Gradients of values, not yet added up.
    grads: BTreeMap<Name, Vec<Name>>,
    uses: BTreeMap<Name, Vec<Use>>,
    mixed: Option<String>,
}

impl Driver {
    /// Values that depend on a parameter in a way that has a gradient.
    fn wanted(&self, nodes: &[Node]) -> BTreeSet<Name> {
        let mut wanted: BTreeSet<Name> = self.views.keys().cloned().collect();
        for node in nodes {
            let row = rules::find(node, self.tape.graph.opset());
            let flows = matches!(row.map(|r| &r.gradient), Some(Gradient::Rule(_)));
            if flows && node.inputs.iter().flatten().any(|i| wanted.contains(i)) {
                let carries = self.carries_integers(node, &wanted);
                let carriers = node.outputs.iter().flatten().filter(|o| carries || self.tape.dtype(o).is_float());
                wanted.extend(carriers.cloned());
            }
        }
        wanted
    }

    /// Whether the integers that a node gives stand for numbers with a gradient: quantised ones, and those moved on.
    fn carries_integers(&self, node: &Node, wanted: &BTreeSet<Name>) -> bool {
        let carried = |i: &Name| wanted.contains(i) && !self.tape.dtype(i).is_float();
        node.op == "QuantizeLinear" || (node.op != "Cast" && node.inputs.iter().flatten().any(carried))
    }

    /// Takes a node's gradients from its outputs to its inputs.
    fn node(&mut self, node: &Node, wanted: &BTreeSet<Name>) -> Result<(), GradError> {
        let is_view = node.outputs.iter().flatten().any(|o| self.views.contains_key(o));
        let is_wanted = |name: &Option<Name>| name.as_ref().is_some_and(|n| wanted.contains(n));
        if is_view || !node.inputs.iter().any(is_wanted) {
            return Ok(());
        }
        let grads: Vec<Option<Name>> = node.outputs.iter().map(|o| o.as_ref().and_then(|o| self.total(o))).collect();
        let Some(row) = rules::find(node, self.tape.graph.opset()) else { return Ok(()) };
        let Gradient::Rule(rule) = &row.gradient else { return Ok(()) };
        if grads.iter().all(Option::is_none) {
            return Ok(());
        }
        let contributions = rule(node, &grads, &mut self.tape)?;
        for (input, grad) in node.inputs.iter().zip(contributions) {
            if let (Some(input), Some(grad)) = (input, grad)
                && wanted.contains(input)
            {
                self.contribute(node, input, grad);
            }
        }
        Ok(())
    }

    /// The sum of the gradients of a value, where it has any.
    fn total(&mut self, value: &Name) -> Option<Name> {
        let parts = self.grads.remove(value)?;
        parts.into_iter().reduce(|a, b| self.tape.add(&a, &b))
    }

    fn contribute(&mut self, node: &Node, input: &Name, grad: Grad) {
        if let Some((parameter, views)) = self.views.get(input).cloned() {
            let contraction = self.contraction(node, input, grad);
            self.uses.entry(parameter).or_default().push(Use { contraction, views });
            return;
        }
        let shape = self.tape.shape(input);
        let value = match grad {
            Grad::Value(value) => self.unbroadcast(&value, &shape),
            Grad::Reshaped { value, shape: aligned } => {
                let value = self.unbroadcast(&value, &aligned);
                self.tape.reshape(&value, &shape)
            }
            Grad::Product { left, right } => {
                let flat = |tape: &mut Tape, x: &Name| {
                    let columns = *tape.shape(x).last().unwrap_or(&1);
                    let rows = tape.shape(x).iter().product::<usize>() / columns.max(1);
                    tape.reshape(x, &[rows, columns])
                };
                let (left, right) = (flat(&mut self.tape, &left), flat(&mut self.tape, &right));
                let left = self.tape.transpose(&left, &[1, 0]);
                let product = self.tape.matmul(&left, &right);
                self.tape.reshape(&product, &shape)
            }
            Grad::Conv { x, dy, geometry } => lower::conv(&mut self.tape, &x, &dy, &geometry),
            Grad::Rows { indices, dy } => lower::rows(&mut self.tape, &indices, &dy, &shape),
        };
        self.grads.entry(input.clone()).or_default().push(value);
    }

    /// The gradient of a value of the given shape from that of the value broadcast.
    fn unbroadcast(&mut self, value: &Name, shape: &[usize]) -> Name {
        let from = self.tape.shape(value);
        let value = self.tape.sum(value, &broadcast_axes(&from, shape));
        self.tape.reshape(&value, shape)
    }

    fn contraction(&mut self, node: &Node, input: &Name, grad: Grad) -> Contraction {
        let shape = self.tape.shape(input);
        match grad {
            Grad::Value(value) => self.sum(node, &value, &shape, shape.clone()),
            Grad::Reshaped { value, shape: aligned } => self.sum(node, &value, &aligned, shape),
            Grad::Product { left, right } => {
                let (left, right) = self.pair(node, &left, &right);
                Contraction::Product { left, right }
            }
            Grad::Conv { x, dy, geometry } => {
                let (x, dy) = self.pair(node, &x, &dy);
                Contraction::Conv { x, dy, geometry }
            }
            Grad::Rows { indices, dy } => {
                let (indices, dy) = self.pair(node, &indices, &dy);
                Contraction::Rows { indices, dy, rows: shape[0] }
            }
        }
    }

    /// The contraction of a weight that was broadcast: everything is summed in the graph but the samples.
    fn sum(&mut self, node: &Node, value: &Name, aligned: &[usize], shape: Vec<usize>) -> Contraction {
        let from = self.tape.shape(value);
        let mut axes = broadcast_axes(&from, aligned);
        let samples = self.samples(node, value);
        if let Some(found) = samples {
            if !axes.contains(&found.axis) {
                self.note_mixed(node);
            }
            axes.retain(|&a| a != found.axis);
        }
        let value = self.tape.sum(value, &axes);
        Contraction::Sum { dy: Operand { shape: self.tape.shape(&value), name: value, samples }, shape }
    }

    /// Two operands that share their samples; one that is the same for all samples takes the other's axis.
    fn pair(&mut self, node: &Node, a: &Name, b: &Name) -> (Operand, Operand) {
        let found = [a, b].map(|v| match self.tape.facts.layout(v) {
            Layout::Shared => None,
            _ => self.samples(node, v),
        });
        let samples = found[0].or(found[1]);
        if let [Some(x), Some(y)] = found
            && x != y
        {
            self.note_mixed(node);
        }
        let operand = |name: &Name| Operand { name: name.clone(), shape: self.tape.shape(name), samples };
        (operand(a), operand(b))
    }

    /// The samples' axis of an operand; none where the samples need not be told apart, or cannot be.
    fn samples(&mut self, node: &Node, value: &Name) -> Option<SampleAxis> {
        if self.tape.batch() == 1 {
            return None;
        }
        let found = self.tape.facts.sample_axis(value);
        if found.is_none() {
            self.note_mixed(node);
        }
        found.filter(|_| self.reduction == Reduction::Sample)
    }

    fn note_mixed(&mut self, node: &Node) {
        self.mixed.get_or_insert_with(|| node.describe());
    }

    fn finish(mut self, forward: &[Node]) -> Backward {
        if self.mixed.is_some() {
            // The node that first mixes tells more than the weight at which it shows.
            let facts = &self.tape.facts;
            let mixes = |n: &&Node| {
                let mixed = |v: &Name| facts.layout(v) == Layout::Mixed;
                n.outputs.iter().flatten().any(mixed) && !n.inputs.iter().flatten().any(mixed)
            };
            self.mixed = forward.iter().find(mixes).map(Node::describe).or(self.mixed);
        }
        let (uses, tape) = (std::mem::take(&mut self.uses), &mut self.tape);
        self.uses = uses.into_iter().map(|(name, uses)| (name, merged(tape, uses))).collect();
        let mut outputs = BTreeSet::new();
        for operand in self.uses.values().flatten().flat_map(|u| u.contraction.operands()) {
            let given = self.tape.graph.constants.contains_key(&operand.name)
                || self.tape.graph.inputs.iter().any(|i| i.name == operand.name);
            if !given {
                outputs.insert(operand.name.clone());
            }
        }
        let Tape { mut graph, facts, .. } = self.tape;
        graph.outputs = outputs.into_iter().collect();
        let shape = |name: &Name| facts.shape(name).to_vec();
        let weights: Vec<Weight> =
            self.uses.into_iter().map(|(name, uses)| Weight { shape: shape(&name), name, uses }).collect();
        let mut backward = Backward { graph, kinds: facts.kinds, weights, batch: facts.batch, mixed: self.mixed };
        backward.prune();
        backward
    }
}

impl Backward {
    /// Removes what no contraction needs, but keeps constants that contractions read directly.
    fn prune(&mut self) {
        let direct: BTreeSet<Name> = self
            .weights
            .iter()
            .flat_map(|w| &w.uses)
            .flat_map(|u| u.contraction.operands())
            .map(|o| o.name.clone())
            .collect();
        let kept: Vec<_> = self
            .graph
            .constants
            .iter()
            .filter(|(name, _)| direct.contains(*name))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        self.graph.prune();
        self.graph.constants.extend(kept);
        let read: BTreeSet<&Name> = self.graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).collect();
        let read = |name: &Name| read.contains(name);
        let unused: Vec<Name> =
            self.graph.inputs.iter().map(|i| i.name.clone()).filter(|n| !read(n) && !direct.contains(n)).collect();
        self.graph.inputs.retain(|i| !unused.contains(&i.name));
    }
}

/// Axes along which a value of shape `to` was repeated to reach shape `from`.
fn broadcast_axes(from: &[usize], to: &[usize]) -> Vec<usize> {
    debug_assert_eq!(broadcast(from, to), from);
    let missing = from.len() - to.len().min(from.len());
    (0..from.len()).filter(|&i| i < missing || (to[i - missing] == 1 && from[i] != 1)).collect()
}
