//! Operators that read and write elements at indices along an axis.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::DType;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// Places along an axis of a value.
pub(super) struct Places {
    pub axis: usize,
    pub indices: Name,
}

impl Places {
    fn of(node: &Node, tape: &Tape) -> Result<Places, GradError> {
        let axis = node.axis("axis", 0, tape.rank(node.required(0)?))?;
        Ok(Places { axis, indices: node.required(1)?.clone() })
    }

    /// The elements of `value` at the places.
    fn read(&self, tape: &mut Tape, value: &Name) -> Name {
        let kind = (tape.dtype(value), tape.shape(&self.indices));
        tape.node("GatherElements", &[value, &self.indices], vec![attribute("axis", self.axis as i64)], kind)
    }

    /// `updates` written into `data`, or combined with what is there.
    fn write(&self, tape: &mut Tape, data: &Name, updates: &Name, reduction: &str) -> Name {
        let attributes = vec![attribute("axis", self.axis as i64), attribute("reduction", reduction)];
        let kind = (tape.dtype(data), tape.shape(data));
        tape.node("ScatterElements", &[data, &self.indices, updates], attributes, kind)
    }

    /// `dy` added up in zeros of the given shape.
    pub fn add(&self, tape: &mut Tape, shape: &[usize], dy: &Name) -> Name {
        let zeros = tape.zeros(dy, shape);
        self.write(tape, &zeros, dy, "add")
    }
}

/// `dy` is added at the places that `indices` picked along the axis.
pub(super) fn gather_elements(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let shape = tape.shape(node.required(0)?);
    Ok(vec![Some(Places::of(node, tape)?.add(tape, &shape, &dy).into()), None])
}

/// `dy` is added at the places of the largest (smallest) elements, which the second output tells.
pub(super) fn top_k(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let shape = tape.shape(node.required(0)?);
    let axis = node.axis("axis", -1, shape.len())?;
    let to = tape.shape(&dy);
    let indices = tape.second_output(node, DType::I64, &to);
    Ok(vec![Some(Places { axis, indices }.add(tape, &shape, &dy).into()), None])
}

/// `y = x` with updates `u` written, added, multiplied, or the larger (smaller) taken.
pub(super) fn scatter_elements(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let places = Places::of(node, tape)?;
    let updates = node.required(2)?;
    let (dx, du) = match node.string("reduction").unwrap_or("none") {
        "none" => {
            let shape = tape.shape(updates);
            let zeros = tape.zeros(&dy, &shape);
            (places.write(tape, &dy, &zeros, "none"), places.read(tape, &dy))
        }
        "add" => (dy.clone(), places.read(tape, &dy)),
        "mul" => (places.write(tape, &dy, updates, "mul"), factors(node, &places, &dy, tape)?),
        "max" | "min" => extremes(node, &places, &dy, tape)?,
        other => return Err(GradError::unsupported(node, format!("reduction is {other}"))),
    };
    Ok(vec![Some(dx.into()), None, Some(du.into())])
}

/// `y = x Π u`: `duᵢ = dy x Π over j ≠ i of uⱼ`. With `p` the product of `x` and the updates that are not zero,
/// that is `p / uᵢ` where no other update of the place is zero, and zero besides.
fn factors(node: &Node, places: &Places, dy: &Name, tape: &mut Tape) -> Result<Name, GradError> {
    let (x, updates) = (node.required(0)?, node.required(2)?);
    let (dtype, shape) = (tape.dtype(dy), tape.shape(x));
    let zero = tape.compare_with("Equal", updates, 0.0);
    let one = tape.scalar(updates, 1.0);
    let safe = tape.select(&zero, &one, updates);
    let product = places.write(tape, x, &safe, "mul");
    let product = tape.mul(dy, &product);
    let product = places.read(tape, &product);
    let zeros = tape.cast(&zero, dtype);
    let count = places.add(tape, &shape, &zeros);
    let count = places.read(tape, &count);
    let others = tape.sub(&count, &zeros);
    let alone = tape.compare_with("Equal", &others, 0.0);
    let slope = tape.div(&product, &safe);
    Ok(tape.keep_where(&alone, &slope))
}

/// `dy` goes in even shares to all that are equal to `y`: the element of `x` and updates of its place.
fn extremes(node: &Node, places: &Places, dy: &Name, tape: &mut Tape) -> Result<(Name, Name), GradError> {
    let (x, updates, y) = (node.required(0)?, node.required(2)?, node.output()?);
    let dtype = tape.dtype(dy);
    let mask = |tape: &mut Tape, value: &Name, extreme: &Name| {
        let equal = tape.compare("Equal", value, extreme);
        tape.cast(&equal, dtype)
    };
    let kept = mask(tape, x, y);
    let there = places.read(tape, y);
    let taken = mask(tape, updates, &there);
    let count = places.write(tape, &kept, &taken, "add");
    let share = tape.div(dy, &count);
    let shares = places.read(tape, &share);
    Ok((tape.mul(&share, &kept), tape.mul(&shares, &taken)))
}
