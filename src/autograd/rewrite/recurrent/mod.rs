//! Recurrent layers unrolled in time. The inputs of all steps are projected at once; a step costs one matrix product.

mod activation;
mod cell;

use super::{GradError, Name, Node, Tape, Values};
use cell::{Cell, Recipe};

/// Steps that are unrolled at most.
const MOST_STEPS: usize = 2048;

pub(crate) fn lstm(node: &Node, tape: &mut Tape) -> Values {
    unrolled(node, tape, &Recipe { gates: 4, activations: &["Sigmoid", "Tanh", "Tanh"], states: 2, step: Cell::lstm })
}

pub(crate) fn gru(node: &Node, tape: &mut Tape) -> Values {
    unrolled(node, tape, &Recipe { gates: 3, activations: &["Sigmoid", "Tanh"], states: 1, step: Cell::gru })
}

pub(crate) fn rnn(node: &Node, tape: &mut Tape) -> Values {
    unrolled(node, tape, &Recipe { gates: 1, activations: &["Tanh"], states: 1, step: Cell::rnn })
}

/// All outputs `[steps, directions, samples, hidden]`, then the last states `[directions, samples, hidden]`.
fn unrolled(node: &Node, tape: &mut Tape, recipe: &Recipe) -> Values {
    if node.int("layout").unwrap_or(0) != 0 {
        return Err(GradError::unsupported(node, "its layout is 1, which no runtime computes"));
    }
    let x = node.required(0)?;
    let [steps, samples, _] = tape.shape(x)[..] else { return Err(node.bad("input 0").into()) };
    if steps > MOST_STEPS {
        return Err(GradError::unsupported(node, format!("it has {steps} steps, more than {MOST_STEPS}")));
    }
    let hidden = *tape.shape(node.required(2)?).last().unwrap_or(&0);
    let lengths = lengths(node, tape, steps, samples);
    let (mut outputs, mut last) = (Vec::new(), vec![Vec::new(); recipe.states]);
    for (direction, backwards) in directions(node)?.iter().enumerate() {
        let cell = Cell::new(node, tape, recipe, direction)?;
        let projected = cell.project(node, tape, x, direction)?;
        let inputs = tape.split(&projected, 0, &vec![1; steps]);
        let mut states = Vec::new();
        for slot in 5..5 + recipe.states {
            states.push(match node.input(slot) {
                Some(state) => tape.slice(state, 0, direction, direction + 1),
                None => tape.zeros(x, &[1, samples, hidden]),
            });
        }
        let mut hiddens = Vec::new();
        for i in 0..steps {
            let step = if *backwards { steps - 1 - i } else { i };
            let next = (recipe.step)(&cell, tape, &inputs[step], &states)?;
            let (output, next) = kept(tape, lengths.as_ref(), step, &states, next);
            hiddens.push(output);
            states = next;
        }
        if *backwards {
            hiddens.reverse();
        }
        let all = tape.concat(&hiddens.iter().collect::<Vec<_>>(), 0);
        outputs.push(tape.reshape(&all, &[steps, 1, samples, hidden]));
        last.iter_mut().zip(states).for_each(|(last, state)| last.push(state));
    }
    let together = |tape: &mut Tape, parts: &[Name], axis| tape.concat(&parts.iter().collect::<Vec<_>>(), axis);
    let all = together(tape, &outputs, 1);
    let mut values = vec![Some(all)];
    values.extend(last.iter().map(|parts| Some(together(tape, parts, 0))));
    Ok(values)
}

/// For each direction, whether it goes backwards.
fn directions(node: &Node) -> Result<&'static [bool], GradError> {
    match node.string("direction").unwrap_or("forward") {
        "forward" => Ok(&[false]),
        "reverse" => Ok(&[true]),
        "bidirectional" => Ok(&[false, true]),
        _ => Err(node.bad("direction").into()),
    }
}

/// Lengths `[1, samples, 1]` where some sample may be shorter than all steps.
fn lengths(node: &Node, tape: &mut Tape, steps: usize, samples: usize) -> Option<Name> {
    let lengths = node.input(4)?;
    let known = tape.constant_value(lengths).and_then(|t| t.to_i64());
    if known.is_some_and(|known| known.iter().all(|&length| length == steps as i64)) {
        return None;
    }
    let lengths = tape.cast(lengths, crate::tensor::DType::I64);
    Some(tape.reshape(&lengths, &[1, samples, 1]))
}

/// The output of a step and the states after it: beyond its length a sample puts out zeros and keeps its states.
fn kept(tape: &mut Tape, lengths: Option<&Name>, step: usize, before: &[Name], next: Vec<Name>) -> (Name, Vec<Name>) {
    let Some(lengths) = lengths else { return (next[0].clone(), next) };
    let step = tape.constant_integers(&[step as i64]);
    let live = tape.compare("Less", &step, lengths);
    let output = tape.keep_where(&live, &next[0]);
    (output, next.iter().zip(before).map(|(next, before)| tape.select(&live, next, before)).collect())
}
