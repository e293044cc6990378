//! Rotation of pairs of features by angles that depend on the position.

use super::{GradError, Name, Node, Tape};
use crate::graph::attribute;

/// A rotation of `2 · (angles)` features of `[samples, heads, positions, features]`; the others stay.
pub(super) struct Turn {
    /// Both broadcast to `[samples, heads, positions, angles]`.
    cos: Name,
    sin: Name,
    /// Neighbours are a pair; else the two halves are.
    interleaved: bool,
}

impl Turn {
    /// From cosine and sine `[samples, positions, angles]`, or from tables `[…, angles]` and the positions picked.
    ///
    /// # Errors
    /// Values of other ranks.
    pub fn new(node: &Node, tape: &mut Tape, tables: [&Name; 2], positions: Option<&Name>) -> Result<Turn, GradError> {
        let mut aligned = Vec::new();
        for table in tables {
            let picked = match positions {
                None => table.clone(),
                Some(positions) => {
                    let shape = [&tape.shape(positions)[..], &tape.shape(table)[1..]].concat();
                    let kind = (tape.dtype(table), shape);
                    tape.node("Gather", &[table, positions], vec![attribute("axis", 0)], kind)
                }
            };
            let [samples, positions, angles] = tape.shape(&picked)[..] else {
                return Err(GradError::unsupported(node, "its angles are not given for each position"));
            };
            aligned.push(tape.reshape(&picked, &[samples, 1, positions, angles]));
        }
        let interleaved = node.int("interleaved").unwrap_or(0) != 0;
        Ok(Turn { cos: aligned[0].clone(), sin: aligned[1].clone(), interleaved })
    }
}

/// `y₁ = cos x₁ - sin x₂`, `y₂ = sin x₁ + cos x₂` for each pair.
pub(super) fn rotated(tape: &mut Tape, x: &Name, turn: &Turn) -> Name {
    let shape = tape.shape(x);
    let half = tape.shape(&turn.cos)[3];
    let turned = tape.slice(x, 3, 0, 2 * half);
    // Features as pairs on axes of their own.
    let pair = if turn.interleaved { 4 } else { 3 };
    let mut pairs = [shape[0], shape[1], shape[2], half, half];
    pairs[pair] = 2;
    let apart = tape.reshape(&turned, &pairs);
    let flat = [shape[0], shape[1], shape[2], half];
    let [a, b] = [0, 1].map(|i| {
        let part = tape.slice(&apart, pair, i, i + 1);
        tape.reshape(&part, &flat)
    });
    let product = |tape: &mut Tape, x: &Name, y: &Name| tape.mul(x, y);
    let (ca, sb) = (product(tape, &turn.cos, &a), product(tape, &turn.sin, &b));
    let (sa, cb) = (product(tape, &turn.sin, &a), product(tape, &turn.cos, &b));
    let first = tape.sub(&ca, &sb);
    let second = tape.add(&sa, &cb);
    pairs[pair] = 1;
    let [first, second] = [first, second].map(|y| tape.reshape(&y, &pairs));
    let y = tape.concat(&[&first, &second], pair);
    let y = tape.reshape(&y, &[shape[0], shape[1], shape[2], 2 * half]);
    if 2 * half == shape[3] {
        return y;
    }
    let rest = tape.slice(x, 3, 2 * half, shape[3]);
    tape.concat(&[&y, &rest], 3)
}
