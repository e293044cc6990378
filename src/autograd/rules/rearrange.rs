//! Operators that repeat, accumulate, mask or regroup elements.

use super::scatter::Places;
use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::DType;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `dx` is `dy` accumulated from the other end.
pub(super) fn cum_sum(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let exclusive = attribute("exclusive", node.int("exclusive").unwrap_or(0));
    let reverse = attribute("reverse", i64::from(node.int("reverse").unwrap_or(0) == 0));
    let kind = (tape.dtype(&dy), tape.shape(&dy));
    Ok(vec![Some(tape.node("CumSum", &[&dy, node.required(1)?], vec![exclusive, reverse], kind).into()), None])
}

/// `dx` is the sum of `dy` over the copies.
pub(super) fn tile(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (from, to) = (tape.shape(node.required(0)?), tape.shape(&dy));
    let (mut apart, mut shape) = (Vec::new(), Vec::new());
    for (&short, &long) in from.iter().zip(&to) {
        if long != short {
            apart.push(long / short.max(1));
            shape.push(1);
        }
        apart.push(short);
        shape.push(short);
    }
    let value = tape.reshape(&dy, &apart);
    Ok(vec![Some(Grad::Reshaped { value, shape }), None])
}

/// `dx` is the same triangle of `dy`.
pub(super) fn trilu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let upper = vec![attribute("upper", node.int("upper").unwrap_or(1))];
    let kind = (tape.dtype(&dy), tape.shape(&dy));
    let inputs: Vec<&Name> = std::iter::once(&dy).chain(node.input(1)).collect();
    Ok(vec![Some(tape.node("Trilu", &inputs, upper, kind).into()), None])
}

/// Channels were spread over blocks of `b × b` places; they are put together again. Mode DCR takes the
/// place in the block from the slow part of the channels, CRD from the fast one.
pub(super) fn depth_to_space(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let from = tape.shape(node.required(0)?);
    let [n, c, h, w] = from[..] else { return Err(node.bad("input 0").into()) };
    let b = block(node)?;
    let perm = if node.string("mode") == Some("CRD") { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let apart = tape.reshape(&dy, &[n, c / (b * b), h, b, w, b]);
    let moved = tape.transpose(&apart, &perm);
    Ok(vec![Some(tape.reshape(&moved, &from).into())])
}

/// Blocks of `b × b` places were stacked into channels; they are spread again.
pub(super) fn space_to_depth(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let from = tape.shape(node.required(0)?);
    let [n, c, h, w] = from[..] else { return Err(node.bad("input 0").into()) };
    let b = block(node)?;
    let apart = tape.reshape(&dy, &[n, b, b, c, h / b, w / b]);
    let moved = tape.transpose(&apart, &[0, 3, 4, 1, 5, 2]);
    Ok(vec![Some(tape.reshape(&moved, &from).into())])
}

fn block(node: &Node) -> Result<usize, GradError> {
    let size = node.int("blocksize").and_then(|b| usize::try_from(b).ok()).filter(|&b| b > 0);
    size.ok_or_else(|| node.bad("blocksize").into())
}

/// `y = max x` over the spatial axes: `dy` goes to the first of equal elements, as `max_pool` has it.
pub(super) fn global_max(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let from = tape.shape(node.required(0)?);
    let flat = [from[0], from[1], from[2..].iter().product()];
    let x = tape.reshape(node.required(0)?, &flat);
    let attributes = vec![attribute("axis", 2), attribute("keepdims", 1)];
    let place = tape.node("ArgMax", &[&x], attributes, (DType::I64, vec![flat[0], flat[1], 1]));
    let updates = tape.reshape(&dy, &[flat[0], flat[1], 1]);
    let dx = Places { axis: 2, indices: place }.add(tape, &flat, &updates);
    Ok(vec![Some(tape.reshape(&dx, &from).into())])
}
