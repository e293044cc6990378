//! Matrix products.

use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `Y = A B` over the last two axes: `dA = dY Bᵀ`, `dB = Aᵀ dY`. An operand of one axis is a row
/// (left) or a column (right). A right operand of two axes gets the product over all rows at once.
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
    let b_t = tape.swap_last(&matrix_b);
    let da = tape.matmul(&dy, &b_t);
    let da = if shape_a.len() == 1 { Grad::Reshaped { value: da, shape: row(&shape_a) } } else { da.into() };
    if shape_b.len() <= 2 && tape.shape(&matrix_a)[..] == [&full[..full.len() - 1], &shape_b[..1]].concat() {
        let product = Grad::Product { left: matrix_a, right: dy };
        return Ok(vec![Some(da), Some(product)]);
    }
    let a_t = tape.swap_last(&matrix_a);
    let db = tape.matmul(&a_t, &dy);
    let db = if shape_b.len() == 1 { Grad::Reshaped { value: db, shape: column(&shape_b) } } else { db.into() };
    Ok(vec![Some(da), Some(db)])
}

/// `Y = alpha A' B' + beta C`: `dA' = alpha dY B'ᵀ`, `dB' = alpha A'ᵀ dY`, `dC = beta dY`.
pub(super) fn gemm(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    let scaled = tape.scale(&dy, node.float("alpha").unwrap_or(1.0).into());
    let (a_rows, b_cols) = (
        if flag("transA") { tape.swap_last(a) } else { a.clone() },
        if flag("transB") { b.clone() } else { tape.swap_last(b) },
    );
    let da = tape.matmul(&scaled, &b_cols);
    let da = if flag("transA") { tape.swap_last(&da) } else { da };
    let (left, right) = if flag("transB") { (scaled, a_rows) } else { (a_rows, scaled) };
    let dc = tape.scale(&dy, node.float("beta").unwrap_or(1.0).into());
    Ok(vec![Some(da.into()), Some(Grad::Product { left, right }), Some(dc.into())])
}
