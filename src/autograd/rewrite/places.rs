//! Reading and writing at coordinates, as reading and writing along one axis.

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::{DType, Tensor};

/// `y[b, i] = x[b, indices[b, i]]`, the indices being coordinates in the axes that follow the batch axes: those
/// axes merged into one, from which is gathered.
pub(crate) fn gather(node: &Node, tape: &mut Tape) -> Values {
    let (x, indices) = (node.required(0)?, node.required(1)?);
    let given = node.int("batch_dims").unwrap_or(0).max(0) as usize;
    let rest = if given == 0 { own_rows(tape, x, indices) } else { None };
    let (batch, indices) = rest.map_or((given, indices.clone()), |rest| (1, rest));
    let merged = Merged::new(node, tape, x, &indices, batch)?;
    let to = tape.shape(node.output()?);
    if batch == 0 {
        let table = tape.reshape(x, &[&[merged.places], &tape.shape(x)[merged.depth..]].concat());
        let shape = &to[..tape.rank(&indices) - 1];
        let known = tape.constant_value(&merged.positions).and_then(|t| Tensor::new(shape, t.to_i64()?));
        let picked = match known {
            Some(known) => tape.constant(known),
            None => tape.reshape(&merged.positions, shape),
        };
        let kind = (tape.dtype(x), to);
        return one(tape.node("Gather", &[&table, &picked], vec![], kind));
    }
    let Merged { groups, places, count, width, .. } = merged;
    let table = tape.reshape(x, &[groups, places, width]);
    let picked = merged.spread(tape);
    let kind = (tape.dtype(x), vec![groups, count, width]);
    let y = tape.node("GatherElements", &[&table, &picked], vec![attribute("axis", 1)], kind);
    one(tape.reshape(&y, &to))
}

/// The other coordinates where the first one is the number of the row of indices that it stands in, as in
/// `x[arange(n), places]`: the first axis is then a batch axis.
fn own_rows(tape: &mut Tape, x: &Name, indices: &Name) -> Option<Name> {
    let [rows, _] = tape.shape(indices)[..] else { return None };
    let join = tape.graph.nodes.iter().rev().find(|n| n.outputs.contains(&Some(indices.clone())))?;
    if join.op != "Concat" || join.axis("axis", 0, 2).ok()? != 1 || tape.shape(x).first() != Some(&rows) {
        return None;
    }
    let parts = join.inputs.iter().flatten().cloned().collect::<Vec<_>>();
    let numbered = tape.constant_value(parts.first()?)?.to_i64()?.into_iter().eq(0..rows as i64);
    if !numbered || parts.len() < 2 {
        return None;
    }
    Some(tape.concat(&parts[1..].iter().collect::<Vec<_>>(), 1))
}

/// `y = x` with updates written at coordinates in the leading axes, which are merged into one.
pub(crate) fn scatter(node: &Node, tape: &mut Tape) -> Values {
    let (x, indices, updates) = (node.required(0)?, node.required(1)?, node.required(2)?);
    let merged = Merged::new(node, tape, x, indices, 0)?;
    let Merged { places, count, width, .. } = merged;
    let (from, picked) = (tape.shape(x), merged.spread(tape));
    let picked = tape.reshape(&picked, &[count, width]);
    let data = tape.reshape(x, &[places, width]);
    let updates = tape.reshape(updates, &[count, width]);
    let attributes = node.attributes.iter().filter(|a| a.name == "reduction").cloned().collect();
    let kind = (tape.dtype(x), vec![places, width]);
    let y = tape.node("ScatterElements", &[&data, &picked, &updates], attributes, kind);
    one(tape.reshape(&y, &from))
}

/// `y = past` with updates written along an axis, from each sample's own place on, or from the first; beyond the end they go
/// on from the front where that is circular.
pub(crate) fn into_cache(node: &Node, tape: &mut Tape) -> Values {
    let (past, update) = (node.required(0)?, node.required(1)?);
    let (kind, picked) = ((tape.dtype(past), tape.shape(past)), tape.shape(update));
    let axis = node.axis("axis", -2, picked.len())?;
    let ones = |at: usize| (0..picked.len()).map(|i| if i == at { picked[i] } else { 1 }).collect::<Vec<_>>();
    let steps: Vec<i64> = (0..picked[axis] as i64).collect();
    let steps = Tensor::new(&ones(axis), steps).ok_or_else(|| node.bad("input 1"))?;
    let mut places = tape.constant(steps);
    if let Some(first) = node.input(2) {
        let first = tape.reshape(first, &ones(0));
        places = tape.add(&first, &places);
        if node.string("mode") == Some("circular") {
            let (length, kind) = (tape.constant_integers(&[kind.1[axis] as i64]), (DType::I64, tape.shape(&places)));
            places = tape.node("Mod", &[&places, &length], vec![], kind);
        }
    }
    let places = tape.expand(&places, &picked);
    one(tape.node("ScatterElements", &[past, &places, update], vec![attribute("axis", axis as i64)], kind))
}

/// A value as `groups × places × width`, and indices into its places: `groups × count`.
struct Merged {
    groups: usize,
    places: usize,
    width: usize,
    count: usize,
    /// Axes of the value that are merged.
    depth: usize,
    /// Shape `[…, 1]`.
    positions: Name,
}

impl Merged {
    fn new(node: &Node, tape: &mut Tape, x: &Name, indices: &Name, batch: usize) -> Result<Merged, GradError> {
        let (from, picked) = (tape.shape(x), tape.shape(indices));
        let (&depth, leading) = picked.split_last().ok_or_else(|| node.bad("input 1"))?;
        if batch + depth > from.len() || batch > leading.len() {
            return Err(node.bad("input 1").into());
        }
        let size = |axes: &[usize]| axes.iter().product::<usize>();
        let positions = positions(tape, indices, &from[batch..batch + depth]);
        Ok(Merged {
            groups: size(&from[..batch]),
            places: size(&from[batch..batch + depth]),
            width: size(&from[batch + depth..]),
            count: size(&leading[batch..]),
            depth,
            positions,
        })
    }

    /// The positions for each element of `groups × count × width`.
    fn spread(&self, tape: &mut Tape) -> Name {
        let positions = tape.reshape(&self.positions, &[self.groups, self.count, 1]);
        tape.expand(&positions, &[self.groups, self.count, self.width])
    }
}

/// Coordinates on the last axis, possibly counted from the back, as positions in the axes merged.
fn positions(tape: &mut Tape, indices: &Name, axes: &[usize]) -> Name {
    let lengths: Vec<i64> = axes.iter().map(|&d| d as i64).collect();
    let strides: Vec<i64> = (0..axes.len()).map(|i| lengths[i + 1..].iter().product()).collect();
    if let Some(known) = known_positions(tape, indices, &lengths, &strides) {
        return tape.constant(known);
    }
    let strides = tape.constant_integers(&strides);
    let forward = tape.from_front(indices, axes);
    let terms = tape.mul(&forward, &strides);
    let last = tape.rank(&terms) - 1;
    tape.sum(&terms, &[last])
}

/// The positions where the coordinates are constants: what reads them can tell whose samples they pick.
fn known_positions(tape: &Tape, indices: &Name, lengths: &[i64], strides: &[i64]) -> Option<Tensor> {
    let coordinates = tape.constant_value(indices)?.to_i64()?;
    let position = |place: &[i64]| {
        let terms = place.iter().zip(lengths.iter().zip(strides));
        let terms = terms
            .map(|(&at, (length, stride))| if at < 0 { at.wrapping_add(*length) } else { at }.wrapping_mul(*stride));
        terms.fold(0i64, i64::wrapping_add)
    };
    let positions: Vec<i64> = coordinates.chunks_exact(lengths.len().max(1)).map(position).collect();
    let mut shape = tape.shape(indices);
    *shape.last_mut()? = 1;
    Tensor::new(&shape, positions)
}
