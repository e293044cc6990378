//! One step of a recurrent layer.

use super::super::{GradError, Name, Node, Tape};
use super::activation::{self, Activation};

/// What tells one kind of recurrent layer from another.
pub(super) struct Recipe {
    /// Parts that the weights have for each hidden unit.
    pub gates: usize,
    /// The activation functions where the node names none.
    pub activations: &'static [&'static str],
    pub states: usize,
    pub step: Step,
}

/// The states `[1, samples, hidden]` after a step from its projected input and the states before.
pub(super) type Step = fn(&Cell, &mut Tape, &Name, &[Name]) -> Result<Vec<Name>, GradError>;

/// A recurrent layer in one direction.
pub(super) struct Cell {
    /// `Rᵀ`, for the gates and for a candidate that needs a product of its own.
    recurrent: Vec<Name>,
    /// The bias of the state where it is not part of the projected input.
    bias: Option<Name>,
    /// Weights of the cell state in the input, output and forget gate.
    peepholes: Vec<Name>,
    activations: Vec<Activation>,
    /// `f = 1 - i`
    coupled: bool,
    /// Largest size of what goes into an activation; none where it is not limited.
    clip: Option<f64>,
    hidden: usize,
}

/// The part of a weight for one direction.
fn part(tape: &mut Tape, weight: &Name, direction: usize) -> Name {
    let one = tape.slice(weight, 0, direction, direction + 1);
    let shape = tape.shape(&one)[1..].to_vec();
    tape.reshape(&one, &shape)
}

/// The biases of the input and of the state, for one direction.
fn biases(node: &Node, tape: &mut Tape, direction: usize) -> Vec<Name> {
    let Some(bias) = node.input(3) else { return vec![] };
    let both = part(tape, bias, direction);
    let half = tape.shape(&both)[0] / 2;
    tape.split(&both, 0, &[half, half])
}

/// The state's part of the candidate is computed before it is reset, with its own bias.
fn resets_last(node: &Node) -> bool {
    node.int("linear_before_reset").unwrap_or(0) != 0
}

impl Cell {
    pub fn new(node: &Node, tape: &mut Tape, recipe: &Recipe, direction: usize) -> Result<Cell, GradError> {
        let recurrent = part(tape, node.required(2)?, direction);
        let recurrent = tape.transpose(&recurrent, &[1, 0]);
        let [hidden, width] = tape.shape(&recurrent)[..] else { return Err(node.bad("input 2").into()) };
        if width != recipe.gates * hidden {
            return Err(node.bad("input 2").into());
        }
        let resets_last = resets_last(node);
        let recurrent = match recipe.gates == 3 && !resets_last {
            true => tape.split(&recurrent, 1, &[2 * hidden, hidden]),
            false => vec![recurrent],
        };
        let bias = if resets_last { biases(node, tape, direction).pop() } else { None };
        let peepholes = node.input(7).map(|p| part(tape, p, direction)).map(|p| tape.split(&p, 0, &[hidden; 3]));
        Ok(Cell {
            recurrent,
            bias,
            peepholes: peepholes.unwrap_or_default(),
            activations: activation::all(node, recipe.activations, direction)?,
            coupled: node.int("input_forget").unwrap_or(0) != 0,
            clip: node.float("clip").map(f64::from).filter(|&clip| clip > 0.0),
            hidden,
        })
    }

    /// `X Wᵀ + b` for all steps.
    pub fn project(&self, node: &Node, tape: &mut Tape, x: &Name, direction: usize) -> Result<Name, GradError> {
        let weight = part(tape, node.required(1)?, direction);
        let weight = tape.transpose(&weight, &[1, 0]);
        let mut projected = tape.matmul(x, &weight);
        let own = usize::from(self.bias.is_some());
        for bias in biases(node, tape, direction).iter().rev().skip(own) {
            projected = tape.add(&projected, bias);
        }
        Ok(projected)
    }

    /// `f(x)` of a clipped `x`, the activation by its place in the node's list.
    fn activate(&self, tape: &mut Tape, which: usize, x: &Name) -> Name {
        let mut x = x.clone();
        if let Some(clip) = self.clip {
            let (low, high, kind) = (tape.scalar(&x, -clip), tape.scalar(&x, clip), (tape.dtype(&x), tape.shape(&x)));
            x = tape.node("Clip", &[&x, &low, &high], vec![], kind);
        }
        self.activations[which].of(tape, &x)
    }

    /// `H = f(x + H Rᵀ)`.
    pub fn rnn(&self, tape: &mut Tape, x: &Name, states: &[Name]) -> Result<Vec<Name>, GradError> {
        let product = tape.matmul(&states[0], &self.recurrent[0]);
        let sum = tape.add(x, &product);
        Ok(vec![self.activate(tape, 0, &sum)])
    }

    /// `z, r = f(x + H Rᵀ)`, `h = g(x + (r H) Rᵀ)` or `g(x + r (H Rᵀ + b))`, `H = (1 - z) h + z H`.
    pub fn gru(&self, tape: &mut Tape, x: &Name, states: &[Name]) -> Result<Vec<Name>, GradError> {
        let (before, sizes) = (&states[0], [2 * self.hidden, self.hidden]);
        let inputs = tape.split(x, 2, &sizes);
        let mut product = tape.matmul(before, &self.recurrent[0]);
        let mut candidate = None;
        if self.recurrent.len() == 1 {
            if let Some(bias) = &self.bias {
                product = tape.add(&product, bias);
            }
            let parts = tape.split(&product, 2, &sizes);
            product = parts[0].clone();
            candidate = Some(parts[1].clone());
        }
        let open = tape.add(&inputs[0], &product);
        let open = self.activate(tape, 0, &open);
        let open = tape.split(&open, 2, &[self.hidden; 2]);
        let (update, reset) = (&open[0], &open[1]);
        let inner = match candidate {
            Some(candidate) => tape.mul(reset, &candidate),
            None => {
                let kept = tape.mul(reset, before);
                tape.matmul(&kept, &self.recurrent[1])
            }
        };
        let inner = tape.add(&inputs[1], &inner);
        let fresh = self.activate(tape, 1, &inner);
        let difference = tape.sub(before, &fresh);
        let moved = tape.mul(update, &difference);
        Ok(vec![tape.add(&fresh, &moved)])
    }

    /// `i, o, f = f(x + H Rᵀ + P C)`, `C = f C + i g(x + H Rᵀ)`, `H = o h(C)`; the output gate sees the new `C`.
    pub fn lstm(&self, tape: &mut Tape, x: &Name, states: &[Name]) -> Result<Vec<Name>, GradError> {
        let (hidden, before) = (self.hidden, &states[1]);
        let product = tape.matmul(&states[0], &self.recurrent[0]);
        let gates = tape.add(x, &product);
        let parts = tape.split(&gates, 2, &[3 * hidden, hidden]);
        let fresh = self.activate(tape, 1, &parts[1]);
        let looks = !self.peepholes.is_empty();
        let open = if looks { parts[0].clone() } else { self.activate(tape, 0, &parts[0]) };
        let mut open = tape.split(&open, 2, &[hidden; 3]);
        if looks {
            open[0] = self.looking(tape, 0, &open[0], before);
            open[2] = self.looking(tape, 2, &open[2], before);
        }
        if self.coupled {
            let one = tape.scalar(x, 1.0);
            open[2] = tape.sub(&one, &open[0]);
        }
        let old = tape.mul(&open[2], before);
        let new = tape.mul(&open[0], &fresh);
        let cell = tape.add(&old, &new);
        if looks {
            open[1] = self.looking(tape, 1, &open[1], &cell);
        }
        let shown = self.activations[2].of(tape, &cell);
        Ok(vec![tape.mul(&open[1], &shown), cell])
    }

    /// A gate that also sees the cell state.
    fn looking(&self, tape: &mut Tape, gate: usize, sum: &Name, cell: &Name) -> Name {
        let seen = tape.mul(cell, &self.peepholes[gate]);
        let sum = tape.add(sum, &seen);
        self.activate(tape, 0, &sum)
    }
}
