//! Attention and rotary embedding of the default domain.

use super::heads::{Mask, apart, attend, causal, heads, repeated, together};
use super::rotary::{Turn, rotated};
use super::{GradError, Name, Node, Tape, Values, one};

/// `Y = softmax(mask(cap(scale Q Kᵀ))) V` with past keys and values put before the new ones. Queries may share
/// heads of keys. The last output is what the attribute `qk_matmul_output_mode` says.
pub(crate) fn attention(node: &Node, tape: &mut Tape) -> Values {
    let flat = tape.rank(node.required(0)?) == 3;
    let mut qkv = Vec::new();
    for (slot, count) in ["q_num_heads", "kv_num_heads", "kv_num_heads"].into_iter().enumerate() {
        let x = node.required(slot)?;
        qkv.push(if flat { apart(node, tape, x, heads(node, count)?)? } else { x.clone() });
    }
    for (slot, x) in [(4, 1), (5, 2)] {
        if let Some(past) = node.input(slot) {
            qkv[x] = tape.concat(&[past, &qkv[x]], 2);
        }
    }
    let [q, k, v] = [0, 1, 2].map(|i| qkv[i].clone());
    let count = tape.shape(&q)[1];
    let (present_k, present_v) = (k.clone(), v.clone());
    let (k, v) = (repeated(tape, &k, count), repeated(tape, &v, count));
    let masks = masks(node, tape, &q, &k)?;
    let features = tape.shape(&q)[3] as f64;
    let scale = node.float("scale").map_or(1.0 / features.sqrt(), f64::from);
    let cap = node.float("softcap").unwrap_or(0.0).into();
    let attended = attend(tape, [&q, &k, &v], scale, cap, &masks);
    let y = if flat { together(tape, &attended.y) } else { attended.y };
    let asked = match node.int("qk_matmul_output_mode").unwrap_or(0) {
        0 => Some(attended.scores),
        1 => Some(attended.capped),
        2 => Some(attended.masked),
        3 => Some(attended.weights),
        _ => None,
    };
    Ok(vec![Some(y), Some(present_k), Some(present_v), asked])
}

fn masks(node: &Node, tape: &mut Tape, q: &Name, k: &Name) -> Result<Vec<Mask>, GradError> {
    let (queries, keys) = (tape.shape(q)[2], tape.shape(k)[2]);
    let mut masks = Vec::new();
    if let Some(mask) = node.input(3) {
        if tape.shape(mask).last() != Some(&keys) {
            return Err(GradError::unsupported(node, "its mask is shorter than the keys"));
        }
        masks.push(if tape.dtype(mask).is_float() { Mask::Add(mask.clone()) } else { Mask::Keep(mask.clone()) });
    }
    let is_causal = node.int("is_causal").unwrap_or(0) != 0;
    if let Some(lengths) = node.input(6) {
        if is_causal {
            return Err(GradError::unsupported(node, "it is causal and keys have lengths of their own"));
        }
        let places = tape.constant_integers(&(0..keys as i64).collect::<Vec<_>>());
        let samples = tape.shape(lengths)[0];
        let lengths = tape.reshape(lengths, &[samples, 1, 1, 1]);
        masks.push(Mask::Keep(tape.compare("Less", &places, &lengths)));
    }
    if is_causal {
        let past = node.input(4).map_or(0, |past| tape.shape(past)[2]);
        masks.push(causal(tape, queries, keys, past));
    }
    Ok(masks)
}

/// Pairs of features turned by angles whose cosine and sine are given for each position, or picked from tables by
/// `position_ids`.
pub(crate) fn rotary(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let flat = tape.rank(x) == 3;
    let x = if flat { apart(node, tape, x, heads(node, "num_heads")?)? } else { x.clone() };
    let turn = Turn::new(node, tape, [node.required(1)?, node.required(2)?], node.input(3))?;
    let y = rotated(tape, &x, &turn);
    one(if flat { together(tape, &y) } else { y })
}
