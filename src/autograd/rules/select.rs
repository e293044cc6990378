//! Operators that put values together, cut them or pick from them.

use super::along::multiplied;
use super::{Grad, GradError, Name, Node, Tape, first};
use crate::autograd::lower;
use crate::graph::{Taken, attribute, normalise};
use crate::tensor::{DType, Tensor};
use ndarray::Array2;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// Each input gets its part of `dy`.
pub(super) fn concat(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let axis = node.axis("axis", 0, tape.rank(&dy))?;
    let length = |input: &Option<Name>| input.as_ref().map_or(0, |i| tape.shape(i)[axis]);
    let lengths: Vec<usize> = node.inputs.iter().map(length).collect();
    if let [_] = lengths[..] {
        return Ok(vec![Some(dy.into())]);
    }
    Ok(tape.split(&dy, axis, &lengths).into_iter().map(|part| Some(part.into())).collect())
}

/// The gradients of the parts side by side, zeros for a part that has none.
pub(super) fn split(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let x = node.required(0)?;
    let axis = node.axis("axis", 0, tape.rank(x))?;
    let mut parts = Vec::new();
    for (output, grad) in node.outputs.iter().zip(grads) {
        match (grad, output) {
            (Some(grad), _) => parts.push(grad.clone()),
            (None, Some(output)) => {
                let shape = tape.shape(output);
                parts.push(tape.zeros(x, &shape));
            }
            (None, None) => return Err(GradError::unsupported(node, "an output has no name")),
        }
    }
    let parts: Vec<&Name> = parts.iter().collect();
    Ok(vec![Some(tape.concat(&parts, axis).into()), None])
}

/// `dy` put back where it was cut, zeros elsewhere; with a step `s`, `s - 1` zeros between.
pub(super) fn slice(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let mut dx = first(node, grads)?;
    let from = tape.shape(node.required(0)?);
    let taken = tape.taken(node, &from)?;
    if let [Taken { axis, first: start, step: 1, .. }] = taken[..] {
        return Ok(vec![Some(Grad::Placed { value: dx, axis, start }), None, None, None, None]);
    }
    for one in taken {
        let Taken { axis, step, .. } = one;
        let (length, lowest) = (from[axis] as i64, one.lowest() as i64);
        if step < 0 {
            dx = tape.reverse(&dx, axis);
        }
        dx = spread(tape, &dx, axis, step.unsigned_abs() as usize);
        let covered = tape.shape(&dx)[axis] as i64;
        // Spreading leaves zeros after the last element, which may reach beyond the end.
        let (before, room) = (lowest, length - lowest);
        dx = tape.slice(&dx, axis, 0, covered.min(room) as usize);
        dx = tape.pad(&dx, axis, before as usize, (room - covered).max(0) as usize);
    }
    Ok(vec![Some(dx.into()), None, None, None, None])
}

/// `step - 1` zeros after each element along an axis.
pub(super) fn spread(tape: &mut Tape, x: &Name, axis: usize, step: usize) -> Name {
    if step == 1 {
        return x.clone();
    }
    let shape = tape.shape(x);
    let mut apart = shape.clone();
    apart.insert(axis + 1, 1);
    let mut together = shape;
    together[axis] *= step;
    let x = tape.reshape(x, &apart);
    let x = tape.pad(&x, axis + 1, 0, step - 1);
    tape.reshape(&x, &together)
}

/// `dy` is added at the picked entries of the axis. Rows of a table (axis 0) are handed out whole.
pub(super) fn gather(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (data, indices) = (node.required(0)?, node.required(1)?);
    let (from, picked) = (tape.shape(data), tape.shape(indices));
    let axis = node.axis("axis", 0, from.len())?;
    if let Some(start) = run(tape, indices, from[axis]) {
        let count: usize = picked.iter().product();
        let shape = [&from[..axis], &[count], &from[axis + 1..]].concat();
        let value = tape.reshape(&dy, &shape);
        return Ok(vec![Some(Grad::Placed { value, axis, start }), None]);
    }
    if axis == 0
        && tape.keeps_samples_apart()
        && let Some((_, entries)) = tape.facts.own_entries(data, indices)
    {
        // An axis for the samples and one for the entries of each, from which it picks.
        let (batch, width) = (tape.batch(), from[1..].iter().product());
        let firsts = Array2::from_shape_fn((batch, 1), |(sample, _)| (sample * entries) as i64);
        let firsts = tape.constant(Tensor::I64(firsts.into_dyn()));
        let count = picked.iter().product::<usize>() / batch;
        let places = tape.cast(indices, DType::I64);
        let places = tape.reshape(&places, &[batch, count]);
        let places = tape.sub(&places, &firsts);
        let places = tape.reshape(&places, &[batch, count, 1]);
        let dx = tape.scattered(&[batch, entries, width], 1, &places, &dy);
        return Ok(vec![Some(tape.reshape(&dx, &from).into()), None]);
    }
    if axis == 0 {
        return Ok(vec![Some(Grad::Rows { indices: indices.clone(), dy }), None]);
    }
    Ok(vec![Some(lower::picked(tape, indices, &dy, &from, axis).into()), None])
}

/// Where known indices along an axis of this length begin that follow one another.
fn run(tape: &Tape, indices: &Name, length: usize) -> Option<usize> {
    let known = tape.constant_value(indices)?.to_i64()?;
    let known = known.into_iter().map(|index| normalise(index, length)).collect::<Option<Vec<_>>>()?;
    let start = *known.first()?;
    known.iter().enumerate().all(|(place, &index)| index == start + place).then_some(start)
}

/// `y = a` where `c`, else `b`: each gets `dy` where it was taken.
pub(super) fn select(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let condition = node.required(0)?;
    let zero = tape.scalar(&dy, 0.0);
    let da = tape.select(condition, &dy, &zero);
    let db = tape.select(condition, &zero, &dy);
    Ok(vec![None, Some(da.into()), Some(db.into())])
}

/// `dx` is `dy` without the border, for a constant border; each element of another border adds its `dy` to the
/// element that it repeats.
pub(super) fn pad(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let mut dx = dy.clone();
    let from = tape.shape(node.required(0)?);
    let pads = tape.integers(node, node.required(1)?)?;
    let axes = match node.input(3) {
        Some(axes) => tape.integers(node, axes)?,
        None => (0..from.len() as i64).collect(),
    };
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalise(axis, from.len()).ok_or_else(|| node.bad("axes"))?;
        let (before, after) = (pads[i], *pads.get(axes.len() + i).ok_or_else(|| node.bad("pads"))?);
        if (before, after) == (0, 0) {
            continue;
        }
        match node.string("mode").unwrap_or("constant") {
            "constant" => {
                // A negative border cut elements off; they get zeros.
                dx = tape.pad(&dx, axis, (-before).max(0) as usize, (-after).max(0) as usize);
                let start = before.max(0) as usize;
                dx = tape.slice(&dx, axis, start, start + from[axis]);
            }
            _ if before < 0 || after < 0 => {
                return Err(GradError::unsupported(node, "a border that repeats elements is negative"));
            }
            mode => {
                let repeated = repeated(mode, from[axis] as i64).ok_or_else(|| node.bad("mode"))?;
                let mut matrix = Array2::zeros((tape.shape(&dx)[axis], from[axis]));
                for row in 0..matrix.nrows() {
                    matrix[[row, repeated(row as i64 - before) as usize]] = 1.0;
                }
                dx = multiplied(tape, &dx, axis, &matrix);
            }
        }
    }
    let dvalue = border(node, &dy, &dx, tape);
    Ok(vec![Some(dx.into()), None, dvalue, None])
}

/// What of `dy` belongs to the value that fills a border: all but `dx`.
fn border(node: &Node, dy: &Name, dx: &Name, tape: &mut Tape) -> Option<Grad> {
    node.input(2).filter(|_| node.string("mode").unwrap_or("constant") == "constant")?;
    let zero = tape.scalar(dx, 0.0);
    let operands: Vec<&Name> = [dx, node.input(1)?, &zero].into_iter().chain(node.input(3)).collect();
    let inside = tape.node("Pad", &operands, vec![], (tape.dtype(dy), tape.shape(dy)));
    Some(tape.sub(dy, &inside).into())
}

/// `y = values[1]` at the index, `values[0]` elsewhere: each value gets `dy` where it was taken.
pub(super) fn one_hot(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let shape = tape.shape(&dy);
    let axis = node.axis("axis", -1, shape.len())?;
    let indices = tape.cast(node.required(0)?, DType::I64);
    let (depth, bounds) = (tape.constant_integers(&[shape[axis] as i64]), tape.constant_integers(&[0, 1]));
    let attributes = vec![attribute("axis", axis as i64)];
    let hot = tape.node("OneHot", &[&indices, &depth, &bounds], attributes, (DType::I64, shape.clone()));
    let hot = tape.cast(&hot, tape.dtype(&dy));
    let on = tape.mul(&dy, &hot);
    let off = tape.sub(&dy, &on);
    let apart = [&shape[..], &[1]].concat();
    let parts = [off, on].map(|part| tape.reshape(&part, &apart));
    let both = tape.concat(&[&parts[0], &parts[1]], shape.len());
    Ok(vec![None, None, Some(both.into())])
}

/// The place within an axis that a place outside repeats.
fn repeated(mode: &str, length: i64) -> Option<impl Fn(i64) -> i64> {
    let mode = ["edge", "wrap", "reflect"].into_iter().position(|m| m == mode)?;
    let period = (2 * length - 2).max(1);
    Some(move |place: i64| match mode {
        0 => place.clamp(0, length - 1),
        1 => place.rem_euclid(length),
        _ => (length - 1) - (place.rem_euclid(period) - (length - 1)).abs(),
    })
}
