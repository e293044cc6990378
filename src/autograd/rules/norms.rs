//! Reductions that weigh the elements: norms, extremes, products, sums of exponentials.

use super::reduce::{aligned, axes};
use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = Σ |x|`: `dx = dy sign(x)`; zero at the kink.
pub(super) fn l1(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = aligned(node, &first(node, grads)?, tape)?;
    let sign = tape.unary("Sign", node.required(0)?);
    Ok(vec![Some(tape.mul(&dy, &sign).into()), None])
}

/// `y = √(Σ x²)`: `dx = dy x / y`; zero where `y` is.
pub(super) fn l2(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let (dy, y) = (aligned(node, &first(node, grads)?, tape)?, aligned(node, node.output()?, tape)?);
    let zero = tape.compare_with("Equal", &y, 0.0);
    let one = tape.scalar(&y, 1.0);
    let safe = tape.select(&zero, &one, &y);
    let share = tape.div(&dy, &safe);
    Ok(vec![Some(tape.mul(&share, node.required(0)?).into()), None])
}

/// `y = Σ x²`: `dx = 2 dy x`.
pub(super) fn sum_square(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = aligned(node, &first(node, grads)?, tape)?;
    let twice = tape.scale(&dy, 2.0);
    Ok(vec![Some(tape.mul(&twice, node.required(0)?).into()), None])
}

/// `y = ln Σ x`: `dx = dy / eʸ`.
pub(super) fn log_sum(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let (dy, y) = (aligned(node, &first(node, grads)?, tape)?, aligned(node, node.output()?, tape)?);
    let total = tape.unary("Exp", &y);
    let share = tape.div(&dy, &total);
    let shape = tape.shape(node.required(0)?);
    Ok(vec![Some(tape.expand(&share, &shape).into()), None])
}

/// `y = ln Σ eˣ`: `dx = dy e^(x - y)`.
pub(super) fn log_sum_exp(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let (dy, y) = (aligned(node, &first(node, grads)?, tape)?, aligned(node, node.output()?, tape)?);
    let below = tape.sub(node.required(0)?, &y);
    let share = tape.unary("Exp", &below);
    Ok(vec![Some(tape.mul(&dy, &share).into()), None])
}

/// `y = max x` or `min x`: `dx = dy / n` at the `n` elements equal to `y`, as `torch.amax` has it.
pub(super) fn extreme(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let (dy, y) = (aligned(node, &first(node, grads)?, tape)?, aligned(node, node.output()?, tape)?);
    let x = node.required(0)?;
    let axes = axes(node, tape, tape.rank(x))?;
    Ok(vec![Some(shared(tape, x, &y, &dy, &axes).into()), None])
}

fn shared(tape: &mut Tape, x: &Name, y: &Name, dy: &Name, axes: &[usize]) -> Name {
    let equal = tape.compare("Equal", x, y);
    let dtype = tape.dtype(dy);
    let mask = tape.cast(&equal, dtype);
    let count = tape.sum(&mask, axes);
    let share = tape.div(dy, &count);
    tape.mul(&share, &mask)
}

/// `y = Π x`: `dxᵢ = dy Π over j ≠ i of xⱼ`. With `p` the product of the elements that are not zero, that is
/// `p / xᵢ` where none is zero, `p` at the only zero, and zero besides.
pub(super) fn prod(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = aligned(node, &first(node, grads)?, tape)?;
    let x = node.required(0)?;
    let (dtype, rank) = (tape.dtype(x), tape.rank(x));
    let axes = axes(node, tape, rank)?;
    if axes.is_empty() {
        return Ok(vec![Some(dy.into()), None]);
    }
    let zero = tape.compare_with("Equal", x, 0.0);
    let one = tape.scalar(x, 1.0);
    let safe = tape.select(&zero, &one, x);
    let product = tape.product(&safe, &axes);
    let zeros = tape.cast(&zero, dtype);
    let count = tape.sum(&zeros, &axes);
    let others = tape.sub(&count, &zeros);
    let alone = tape.compare_with("Equal", &others, 0.0);
    let quotient = tape.div(&product, &safe);
    let slope = tape.keep_where(&alone, &quotient);
    Ok(vec![Some(tape.mul(&dy, &slope).into()), None])
}
