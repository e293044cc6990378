//! Weights that meet the samples late: a value that is the same for all samples is computed from them (a bias from a
//! table of coordinates, positions that are projected), and only then does it meet what belongs to one sample.
//!
//! The gradient of such a value is a contraction, as a weight's is. It is built for each sample, and each sample's goes
//! on to the weights as in a batch of one.

use super::accumulate::{plus, shaped};
use super::apart::Apart;
use super::driver::{Driver, broadcast_axes};
use super::merge::side_by_side;
use super::parts::Part;
use super::{Contraction, Grad, GradError, Reduction, Use};
use crate::graph::{Name, Node};
use crate::specialise::samples::{Layout, SampleAxis};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that gradients of single samples may take in a batch; above that, batches of one are cheaper.
const ROOM: usize = 256 << 20;

/// What waits until everything behind it is differentiated.
#[derive(Default)]
pub(super) struct Late {
    /// The gradients of values that are the same for all samples, for each sample: none of a value between the others
    /// and the weights.
    values: BTreeMap<Name, Vec<Contraction>>,
    /// The nodes that compute them, last first.
    nodes: Vec<Node>,
}

impl Driver {
    /// Whether a gradient of a value that is the same for all samples adds up samples.
    pub(super) fn meets_samples(&self, value: &Name, grad: &Grad) -> bool {
        let facts = &self.tape.facts;
        if self.reduction != Reduction::Sample || facts.batch == 1 || facts.layout(value) != Layout::Shared {
            return false;
        }
        let axis = |value: &Name| facts.sample_axis(value).map(|found| found.axis);
        let summed =
            |dy: &Name, to: &[usize]| axis(dy).is_some_and(|axis| broadcast_axes(facts.shape(dy), to).contains(&axis));
        match grad {
            Grad::Placed { .. } => false,
            Grad::Value(dy) => summed(dy, facts.shape(value)),
            Grad::Reshaped { value: dy, shape } => summed(dy, shape),
            Grad::Product { left, right } => {
                let row = |value: &Name| axis(value).is_some_and(|axis| axis + 1 < facts.shape(value).len());
                row(left) || row(right)
            }
            Grad::Conv { x, dy, .. } => axis(x).or(axis(dy)).is_some(),
            Grad::Rows { indices, dy } => axis(dy).is_some_and(|axis| axis < facts.shape(indices).len()),
        }
    }

    /// Keeps the gradient of such a value for each sample.
    pub(super) fn keep(&mut self, node: &Node, value: &Name, grad: Grad) {
        let contraction = self.contraction(node, value, grad);
        self.late.values.entry(value.clone()).or_default().push(contraction);
    }

    /// Puts off a node whose outputs have gradients that are kept.
    pub(super) fn put_off(&mut self, node: &Node, wanted: &BTreeSet<Name>) -> bool {
        if !node.outputs.iter().flatten().any(|output| self.late.values.contains_key(output)) {
            return false;
        }
        if node.outputs.iter().flatten().any(|output| self.grads.contains_key(output)) {
            self.note_mixed(node);
        }
        for input in node.inputs.iter().flatten().filter(|i| wanted.contains(*i) && !self.views.contains_key(*i)) {
            self.late.values.entry(input.clone()).or_default();
        }
        self.late.nodes.push(node.clone());
        true
    }

    /// Takes the gradients that were kept to the weights, sample by sample.
    pub(super) fn catch_up(&mut self, wanted: &BTreeSet<Name>) -> Result<(), GradError> {
        let Late { values, nodes } = std::mem::take(&mut self.late);
        let Some(last) = nodes.first() else { return Ok(()) };
        let Some(gradients) = self.apart(values) else {
            self.note_mixed(last);
            return Ok(());
        };
        let (batch, uses) = (self.tape.batch(), std::mem::take(&mut self.uses));
        self.tape.facts.batch = 1;
        let mut samples = Vec::new();
        for sample in 0..batch {
            for (value, gradient) in &gradients {
                let shape = self.tape.shape(value);
                let own = self.tape.slice(gradient, 0, sample, sample + 1);
                let own = self.tape.reshape(&own, &shape);
                self.tape.facts.layouts.insert(own.clone(), Layout::Shared);
                self.grads.entry(value.clone()).or_default().push(Part::Whole(own));
            }
            nodes.iter().try_for_each(|node| self.node(node, wanted))?;
            samples.push(std::mem::take(&mut self.uses).into_iter());
        }
        self.tape.facts.batch = batch;
        self.uses = uses;
        while let Some(same) = samples.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
            let name = same[0].0.clone();
            let mut uses: Vec<_> = same.into_iter().map(|(_, uses)| uses.into_iter()).collect();
            while let Some(same) = uses.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
                let together = self.together(same);
                self.uses.entry(name.clone()).or_default().push(together);
            }
        }
        Ok(())
    }

    /// The gradients of values for each sample, `[samples, …]`; none where they cannot be built or are too many.
    fn apart(&mut self, values: BTreeMap<Name, Vec<Contraction>>) -> Option<Vec<(Name, Name)>> {
        let (tape, mut bytes, mut gradients) = (&mut self.tape, 0, Vec::new());
        for (value, contractions) in values {
            let (shape, dtype, batch) = (tape.shape(&value), tape.dtype(&value), tape.batch());
            bytes += contractions.len() * batch * shape.iter().product::<usize>() * dtype.size();
            if bytes > ROOM {
                return None;
            }
            let mut total: Option<Name> = None;
            for contraction in &contractions {
                let own = Apart::new(tape, contraction, dtype)?.gradients(tape, 0..batch);
                let own = shaped(tape, &own, &shape);
                total = Some(plus(tape, total, own));
            }
            gradients.extend(total.map(|total| (value, total)));
        }
        Some(gradients)
    }

    /// One use of a weight by all samples from those by each.
    fn together(&mut self, mut same: Vec<Use>) -> Use {
        let contractions: Vec<Contraction> = same.iter().map(|one| one.contraction.clone()).collect();
        let mut all = same.swap_remove(0);
        let images = matches!(all.contraction, Contraction::Conv { .. });
        for (slot, operand) in all.contraction.operands_mut().into_iter().enumerate() {
            let parts: Vec<Name> = contractions.iter().map(|each| each.operands()[slot].name.clone()).collect();
            // Along a new first axis, or along the one that holds images.
            let inner = if images { operand.shape[0] } else { 1 };
            let shape = if images { operand.shape.clone() } else { [&[1], &operand.shape[..]].concat() };
            let samples = Some(SampleAxis { axis: 0, outer: 1, inner });
            *operand = side_by_side(&mut self.tape, &parts, &shape, samples);
        }
        all
    }
}
