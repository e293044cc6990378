//! Embedding and attention that ONNX Runtime's optimiser fuses in transformers.

use super::fused::scaled;
use super::heads::{Mask, apart, attend, causal, heads, together};
use super::normal::{epsilon, standardised};
use super::rotary::{Turn, rotated};
use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::{DType, Tensor};
use ndarray::Array2;

/// The rows of a table that `indices` pick.
fn picked(tape: &mut Tape, table: &Name, indices: &Name) -> Name {
    let shape = [&tape.shape(indices)[..], &tape.shape(table)[1..]].concat();
    let kind = (tape.dtype(table), shape);
    tape.node("Gather", &[table, indices], vec![attribute("axis", 0)], kind)
}

/// `y = gamma x̂ + beta` of `x = words + positions + segments`; then the number of unmasked words, and `x`.
pub(crate) fn embed_layer(node: &Node, tape: &mut Tape) -> Values {
    let ids = node.required(0)?;
    let positions = match node.input(8) {
        Some(positions) => positions.clone(),
        None => {
            let length = tape.shape(ids).last().copied().unwrap_or(0) as i64;
            tape.constant_integers(&(0..length).collect::<Vec<_>>())
        }
    };
    let words = picked(tape, node.required(2)?, ids);
    let positions = picked(tape, node.required(3)?, &positions);
    let mut sum = tape.add(&words, &positions);
    if let (Some(ids), Some(table)) = (node.input(1), node.input(4)) {
        let segments = picked(tape, table, ids);
        sum = tape.add(&sum, &segments);
    }
    let axis = tape.rank(&sum) - 1;
    let normal = standardised(tape, &sum, &[axis], epsilon(node, 1e-12));
    let y = scaled(tape, &normal, node.required(5)?, node.input(6));
    let counted = node.input(7).map(|mask| {
        let count = tape.sum(mask, &[1]);
        let samples = tape.shape(mask)[0];
        tape.reshape(&count, &[samples])
    });
    Ok(vec![Some(y), counted, Some(sum)])
}

/// Attention of `X W + b`, whose columns are the queries, keys and values.
pub(crate) fn attention(node: &Node, tape: &mut Tape) -> Values {
    if node.input(4).is_some() || node.input(6).is_some() {
        return Err(GradError::unsupported(node, "it has past keys"));
    }
    if node.int("do_rotary").unwrap_or(0) != 0 {
        return Err(GradError::unsupported(node, "do_rotary is 1"));
    }
    let mut product = tape.matmul(node.required(0)?, node.required(1)?);
    if let Some(bias) = node.input(2) {
        product = tape.add(&product, bias);
    }
    let count = heads(node, "num_heads")?;
    let widths = match node.ints("qkv_hidden_sizes") {
        Some(widths) => widths.iter().map(|&w| w.max(0) as usize).collect(),
        None => vec![tape.shape(&product)[2] / 3; 3],
    };
    let parts = tape.split(&product, 2, &widths);
    let [q, k, v] = &parts[..] else { return Err(node.bad("qkv_hidden_sizes").into()) };
    let (q, k, v) = (apart(node, tape, q, count)?, apart(node, tape, k, count)?, apart(node, tape, v, count)?);
    let y = merged(node, tape, [&q, &k, &v], node.input(3), node.input(5))?;
    one(y)
}

/// Attention of queries, keys and values to which a bias may be added. Keys and values may come with their heads
/// apart; past ones are put before them.
pub(crate) fn multi_head(node: &Node, tape: &mut Tape) -> Values {
    if node.input(8).is_some() || node.input(9).is_some() {
        return Err(GradError::unsupported(node, "past keys lie in a buffer"));
    }
    let count = heads(node, "num_heads")?;
    let operands = [node.required(0)?, node.required(1)?, node.required(2)?];
    if operands.iter().any(|x| tape.rank(x) == 5) {
        return Err(GradError::unsupported(node, "queries, keys and values are packed"));
    }
    let biases = match node.input(3) {
        None => vec![],
        Some(_) if operands.iter().any(|x| tape.rank(x) != 3) => {
            return Err(GradError::unsupported(node, "heads of keys lie apart and there is a bias"));
        }
        Some(bias) => tape.split(bias, 0, &operands.map(|x| tape.shape(x)[2])),
    };
    let mut qkv = Vec::new();
    for (i, x) in operands.into_iter().enumerate() {
        let x = biases.get(i).map_or_else(|| x.clone(), |bias| tape.add(x, bias));
        let mut x = if tape.rank(&x) == 3 { apart(node, tape, &x, count)? } else { x };
        if let Some(past) = i.checked_sub(1).and_then(|i| node.input(6 + i)) {
            x = tape.concat(&[past, &x], 2);
        }
        qkv.push(x);
    }
    let y = merged(node, tape, [&qkv[0], &qkv[1], &qkv[2]], node.input(4), node.input(5))?;
    Ok([vec![Some(y)], qkv.into_iter().skip(1).map(Some).collect()].concat())
}

/// Attention with a padding mask and numbers added to the scores, heads put together.
fn merged(
    node: &Node,
    tape: &mut Tape,
    qkv: [&Name; 3],
    padding: Option<&Name>,
    bias: Option<&Name>,
) -> Result<Name, GradError> {
    let (shape, keys) = (tape.shape(qkv[0]), tape.shape(qkv[1])[2]);
    let mut masks: Vec<Mask> = bias.map(|bias| Mask::Add(bias.clone())).into_iter().collect();
    if let Some(padding) = padding {
        masks.extend(self::padding(node, tape, padding, shape[0], keys)?);
    }
    if node.int("unidirectional").unwrap_or(0) != 0 {
        masks.push(causal(tape, shape[2], keys, keys.saturating_sub(shape[2])));
    }
    let scale = node.float("scale").filter(|&s| s != 0.0).map_or(1.0 / (shape[3] as f64).sqrt(), f64::from);
    let attended = attend(tape, qkv, scale, 0.0, &masks);
    Ok(together(tape, &attended.y))
}

/// A low number added to the scores of keys that are padding: beyond the length of each sample, or where a mask
/// `[samples, keys]` or `[samples, queries, keys]` is zero.
fn padding(node: &Node, tape: &mut Tape, mask: &Name, samples: usize, keys: usize) -> Result<Option<Mask>, GradError> {
    let keep = match tape.shape(mask)[..] {
        [lengths] if lengths == samples => {
            let lengths = tape.cast(mask, DType::I64);
            let lengths = tape.reshape(&lengths, &[samples, 1, 1, 1]);
            let places = tape.constant_integers(&(0..keys as i64).collect::<Vec<_>>());
            tape.compare("Less", &places, &lengths)
        }
        [_, 1] if keys != 1 => return Ok(None),
        [rows, width] if width == keys => {
            let keep = tape.cast(mask, DType::Bool);
            tape.reshape(&keep, &[rows, 1, 1, width])
        }
        [rows, queries, width] if width == keys => {
            let keep = tape.cast(mask, DType::Bool);
            tape.reshape(&keep, &[rows, 1, queries, width])
        }
        ref shape => return Err(GradError::unsupported(node, format!("its mask has shape {shape:?}"))),
    };
    let low = node.float("mask_filter_value").unwrap_or(-10000.0);
    let dtype = tape.dtype(node.required(0)?);
    let [zero, low] = [0.0, low.into()].map(|x| tape.constant_floats(dtype, ndarray::arr0(x).into_dyn()));
    Ok(Some(Mask::Add(tape.select(&keep, &zero, &low))))
}

/// Pairs of features turned by the angles of their positions, which are given or count from a first one.
pub(crate) fn rotary(node: &Node, tape: &mut Tape) -> Values {
    if node.int("is_packed_batching").unwrap_or(0) != 0 {
        return Err(GradError::unsupported(node, "is_packed_batching is 1"));
    }
    let (x, given, tables) = (node.required(0)?, node.required(1)?, [node.required(2)?, node.required(3)?]);
    let flat = tape.rank(x) == 3;
    let x = match (flat, node.int("num_heads").unwrap_or(0)) {
        (false, _) => x.clone(),
        (true, 0) => {
            let features = 2 * tape.shape(tables[0]).last().copied().unwrap_or(1);
            let count = tape.shape(x)[2] / features.max(1);
            apart(node, tape, x, count)?
        }
        (true, _) => apart(node, tape, x, heads(node, "num_heads")?)?,
    };
    let positions = match tape.rank(given) {
        1 => {
            let length = tape.shape(&x)[2];
            let counted = Array2::from_shape_fn((1, length), |(_, i)| i as i64);
            let counted = tape.constant(Tensor::I64(counted.into_dyn()));
            tape.add(&counted, given)
        }
        _ => given.clone(),
    };
    let turn = Turn::new(node, tape, tables, Some(&positions))?;
    let y = rotated(tape, &x, &turn);
    one(if flat { together(tape, &y) } else { y })
}
