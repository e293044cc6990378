//! The reverse pass: reachability, sums of gradients, broadcasting, types. Rules know none of it.

use super::backward::{Backward, Weight};
use super::late::Late;
use super::lower;
use super::merge::merged;
use super::missing::check_rules;
use super::objective::{self, Objective};
use super::parts::{Part, total};
use super::rules::{self, Gradient};
use super::tape::broadcast;
use super::views::views;
use super::whole::whole;
use super::{Contraction, Grad, GradError, Operand, Tape, Use, View};
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
    let views = views(&tape, &tape.graph.nodes, parameters);
    tape.weights = views.keys().cloned().collect();
    let forward = whole(&tape.graph, parameters);
    let mut driver = Driver::new(tape, views, reduction);
    let weight = objective::weights(&mut driver.tape);
    let seeds = objective::seeds(&mut driver.tape, &outputs, objective, &weight)?;
    driver.reverse(&forward, parameters, seeds)?;
    Ok(driver.finish(&forward))
}

/// What enters the backward pass where the gradient is a value of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// The gradient of the mean of an objective over the batch.
    Mean(Objective),
    /// Inputs of the graph, one for each output and of its shape: a vector-Jacobian product.
    Input,
}

/// A graph that computes gradients as values of its own.
#[derive(Clone, Debug)]
pub struct Explicit {
    /// Outputs are those of the graph that was differentiated.
    pub graph: Graph,
    pub kinds: Kinds,
    /// The gradients of constants and inputs, by their names; none for what no output depends on.
    pub gradients: BTreeMap<Name, Name>,
    /// The seed inputs, by the names of the outputs; empty where an objective is the seed.
    pub seeds: BTreeMap<Name, Name>,
}

/// Differentiates with respect to constants or inputs of the graph; the gradients are values of the graph,
/// summed over the batch.
///
/// # Errors
/// As [`differentiate`].
pub fn gradients(specialised: Specialised, wrt: &BTreeSet<Name>, seed: Seed) -> Result<Explicit, GradError> {
    check_rules(&specialised.graph, wrt)?;
    let outputs = specialised.graph.outputs.clone();
    let tape = Tape::new(specialised, wrt)?.with_parameters_kept();
    let (views, reduction) = (BTreeMap::new(), Reduction::Batch);
    let forward = whole(&tape.graph, wrt);
    let mut driver = Driver::new(tape, views, reduction);
    let (seeds, given) = match seed {
        Seed::Mean(objective) => {
            let weight = objective::mean_weight(&mut driver.tape, &outputs);
            (objective::seeds(&mut driver.tape, &outputs, objective, &weight)?, BTreeMap::new())
        }
        Seed::Input => {
            let seeds = objective::inputs(&mut driver.tape, &outputs)?;
            (seeds.clone(), seeds.into_iter().collect())
        }
    };
    driver.reverse(&forward, wrt, seeds)?;
    let gradients = wrt.iter().filter_map(|name| Some((name.clone(), driver.total(name)?))).collect();
    let Tape { graph, facts, .. } = driver.tape;
    Ok(Explicit { graph, kinds: facts.kinds, gradients, seeds: given })
}

pub(super) struct Driver {
    pub(super) tape: Tape,
    /// Values that are a parameter moved about.
    pub(super) views: BTreeMap<Name, (Name, Vec<View>)>,
    pub(super) reduction: Reduction,
    /// Gradients of values, not yet added up.
    pub(super) grads: BTreeMap<Name, Vec<Part>>,
    pub(super) uses: BTreeMap<Name, Vec<Use>>,
    pub(super) late: Late,
    mixed: Option<String>,
}

impl Driver {
    fn new(tape: Tape, views: BTreeMap<Name, (Name, Vec<View>)>, reduction: Reduction) -> Driver {
        let (grads, uses, late) = (BTreeMap::new(), BTreeMap::new(), Late::default());
        Driver { tape, views, reduction, grads, uses, late, mixed: None }
    }

    /// Takes the gradients of the outputs, `seeds`, back to what is differentiated, `wrt`.
    fn reverse(&mut self, forward: &[Node], wrt: &BTreeSet<Name>, seeds: Vec<(Name, Name)>) -> Result<(), GradError> {
        let wanted = self.wanted(forward, wrt);
        for (output, seed) in seeds {
            self.grads.entry(output).or_default().push(Part::Whole(seed));
        }
        forward.iter().rev().try_for_each(|node| self.node(node, &wanted))?;
        self.catch_up(&wanted)
    }

    /// Values that depend on what is differentiated in a way that has a gradient.
    fn wanted(&self, nodes: &[Node], wrt: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut wanted: BTreeSet<Name> = self.views.keys().chain(wrt).cloned().collect();
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
    pub(super) fn node(&mut self, node: &Node, wanted: &BTreeSet<Name>) -> Result<(), GradError> {
        let is_view = node.outputs.iter().flatten().any(|o| self.views.contains_key(o));
        let is_wanted = |name: &Option<Name>| name.as_ref().is_some_and(|n| wanted.contains(n));
        if is_view || !node.inputs.iter().any(is_wanted) {
            return Ok(());
        }
        if self.put_off(node, wanted) {
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
        let shape = self.tape.shape(value);
        total(&mut self.tape, parts, &shape)
    }

    fn contribute(&mut self, node: &Node, input: &Name, grad: Grad) {
        if let Some((parameter, views)) = self.views.get(input).cloned() {
            let contraction = self.contraction(node, input, grad);
            self.uses.entry(parameter).or_default().push(Use { contraction, views });
            return;
        }
        if self.meets_samples(input, &grad) {
            return self.keep(node, input, grad);
        }
        let shape = self.tape.shape(input);
        let value = match grad {
            Grad::Placed { value, axis, start } => {
                self.grads.entry(input.clone()).or_default().push(Part::Placed { value, axis, start });
                return;
            }
            Grad::Value(value) => self.unbroadcast(&value, &shape, &shape),
            Grad::Reshaped { value, shape: aligned } => self.unbroadcast(&value, &aligned, &shape),
            Grad::Product { left, right } => lower::product(&mut self.tape, &left, &right, &shape),
            Grad::Conv { x, dy, geometry } => lower::conv(&mut self.tape, &x, &dy, &geometry),
            Grad::Rows { indices, dy } => lower::picked(&mut self.tape, &indices, &dy, &shape, 0),
        };
        self.grads.entry(input.clone()).or_default().push(Part::Whole(value));
    }

    /// The gradient of a value of the given shape from that of the value seen with the shape `aligned` and broadcast.
    fn unbroadcast(&mut self, value: &Name, aligned: &[usize], shape: &[usize]) -> Name {
        let from = self.tape.shape(value);
        self.tape.sum_to(value, &broadcast_axes(&from, aligned), shape)
    }

    pub(super) fn contraction(&mut self, node: &Node, input: &Name, grad: Grad) -> Contraction {
        let shape = self.tape.shape(input);
        match grad {
            Grad::Placed { value, axis, start } => {
                let value = Part::Placed { value, axis, start }.whole(&mut self.tape, &shape);
                self.sum(node, &value, &shape, shape.clone())
            }
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

    pub(super) fn note_mixed(&mut self, node: &Node) {
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

/// Axes along which a value of shape `to` was repeated to reach shape `from`.
pub(super) fn broadcast_axes(from: &[usize], to: &[usize]) -> Vec<usize> {
    debug_assert_eq!(broadcast(from, to), from);
    let missing = from.len() - to.len().min(from.len());
    (0..from.len()).filter(|&i| i < missing || (to[i - missing] == 1 && from[i] != 1)).collect()
}
