//! Matrix products.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::specialise::samples::SampleAxis;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `Y = A B` over the last two axes: `dA = dY Bᵀ`, `dB = Aᵀ dY`. An operand of one axis is a row
/// (left) or a column (right).
pub(super) fn matmul(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let (shape_a, shape_b) = (tape.shape(a), tape.shape(b));
    let row = |shape: &[usize]| [&[1], shape].concat();
    let column = |shape: &[usize]| [shape, &[1]].concat();
    let matrix_a = if shape_a.len() == 1 { tape.reshape(a, &row(&shape_a)) } else { a.clone() };
    let matrix_b = if shape_b.len() == 1 { tape.reshape(b, &column(&shape_b)) } else { b.clone() };
    // The gradient with the axes that one-dimensional operands dropped.
    let mut full = tape.shape(&dy);
    if shape_a.len() == 1 {
        full.insert(full.len() - (shape_b.len() > 1) as usize, 1);
    }
    if shape_b.len() == 1 {
        full.push(1);
    }
    let dy = tape.reshape(&dy, &full);
    let db = product(tape, b, &matrix_a, &dy);
    let b_t = tape.swap_last(&matrix_b);
    let da = if tape.is_weight(a) {
        let dy_t = tape.swap_last(&dy);
        product(tape, a, &dy_t, &b_t)
    } else {
        tape.matmul(&dy, &b_t).into()
    };
    let reshaped = |grad: Grad, shape: Vec<usize>| match grad {
        Grad::Value(value) => Grad::Reshaped { value, shape },
        other => other,
    };
    let da = if shape_a.len() == 1 { reshaped(da, row(&shape_a)) } else { da };
    let db = if shape_b.len() == 1 { reshaped(db, column(&shape_b)) } else { db };
    Ok(vec![Some(da), Some(db)])
}

/// `leftᵀ right` over the last two axes, the gradient of `of`. An operand of at most two axes gets the product over
/// all rows at once; a stack of weights gets one for each sample, where the samples lie on the rows.
fn product(tape: &mut Tape, of: &Name, left: &Name, right: &Name) -> Grad {
    let rows = |tape: &Tape, value: &Name| tape.shape(value)[..tape.rank(value) - 1].to_vec();
    let aligned = rows(tape, left) == rows(tape, right);
    if tape.rank(of) <= 2 && aligned {
        return Grad::Product { left: left.clone(), right: right.clone() };
    }
    let (mut left, mut right) = (left.clone(), right.clone());
    let found = [&left, &right].map(|v| tape.facts.sample_axis(v));
    if let [Some(found), Some(other)] = found
        && tape.is_weight(of)
        && (aligned && found == other && found.axis == tape.rank(&left) - 2)
    {
        left = samples_first(tape, &left, found);
        right = samples_first(tape, &right, found);
    }
    let left = tape.swap_last(&left);
    tape.matmul(&left, &right).into()
}

/// The samples moved from the rows, the last axis but one, to an axis of their own before all others.
fn samples_first(tape: &mut Tape, value: &Name, found: SampleAxis) -> Name {
    let (shape, batch) = (tape.shape(value), tape.batch());
    let (leading, columns) = (&shape[..found.axis], shape[found.axis + 1]);
    let apart = tape.reshape(value, &[leading, &[found.outer, batch, found.inner, columns]].concat());
    let n = leading.len() + 1;
    let perm: Vec<usize> = std::iter::once(n).chain((0..n + 3).filter(|&i| i != n)).collect();
    let moved = tape.transpose(&apart, &perm);
    tape.reshape(&moved, &[&[batch], leading, &[found.outer * found.inner, columns]].concat())
}

/// `Y = alpha A' B' + beta C`: `dA' = alpha dY B'ᵀ`, `dB' = alpha A'ᵀ dY`, `dC = beta dY`.
pub(super) fn gemm(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    let scaled = tape.scale(&dy, node.float("alpha").unwrap_or(1.0).into());
    let turned = |tape: &mut Tape, value: &Name, turn: bool| if turn { tape.swap_last(value) } else { value.clone() };
    let (trans_a, trans_b) = (flag("transA"), flag("transB"));
    let da = if tape.is_weight(a) {
        let (b_t, dy_t) = (turned(tape, b, !trans_b), tape.swap_last(&scaled));
        if trans_a { Grad::Product { left: b_t, right: dy_t } } else { Grad::Product { left: dy_t, right: b_t } }
    } else {
        let mut operands = [(&scaled, "transA", false), (b, "transB", !trans_b)];
        if trans_a {
            operands = [(b, "transA", trans_b), (&scaled, "transB", true)];
        }
        let attributes = operands.iter().map(|(_, name, turn)| attribute(name, i64::from(*turn))).collect();
        let kind = (tape.dtype(&scaled), tape.shape(a));
        tape.node("Gemm", &operands.map(|(operand, ..)| operand), attributes, kind).into()
    };
    let a_rows = turned(tape, a, trans_a);
    let (left, right) = if trans_b { (scaled, a_rows) } else { (a_rows, scaled) };
    let dc = tape.scale(&dy, node.float("beta").unwrap_or(1.0).into());
    Ok(vec![Some(da), Some(Grad::Product { left, right }), Some(dc.into())])
}
