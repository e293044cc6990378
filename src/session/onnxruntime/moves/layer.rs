//! A value computed from its pieces.

use super::pieces::{Factor, Pieces};
use crate::kernels::moved::{Steps, copy};
use crate::session::onnxruntime::operators::{Layer, elements, in_parallel, inputs, missing};
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;
use std::ops::Range;

/// The fewest elements that lie side by side in source and result: of fewer the runtime's own Transpose is faster.
const LEAST_LINE: usize = 8;
/// The fewest elements of a result, and places of its first axis, which the threads share.
const LEAST: usize = 1 << 14;
const LEAST_PLACES: usize = 4;
/// Elements of one task.
const TASK: usize = 1 << 14;

/// A value made of pieces of others.
pub(in crate::session::onnxruntime) struct Moved {
    /// Elements of each of the others.
    sources: Vec<usize>,
    /// Places of the first axis of the value, and elements at one.
    places: usize,
    size: usize,
    parts: Vec<Part>,
}

/// A piece at the places of the first axis that it has.
struct Part {
    source: usize,
    places: Range<usize>,
    /// Where it begins in the source, and how far that moves from place to place.
    from: usize,
    step: usize,
    /// Where it begins among the elements at a place.
    to: usize,
    axes: Vec<Steps>,
}

impl Moved {
    /// None where the runtime does it as well.
    pub(super) fn new(pieces: &Pieces, sources: Vec<usize>, elements: usize) -> Option<Moved> {
        let places = pieces.parts.first()?.factors().next()?.size;
        let size = elements / places;
        let mut parts = vec![];
        for part in &pieces.parts {
            let (mut step, mut to, mut axes) = (1, 0, vec![]);
            for factor in part.factors().rev() {
                axes.push((*factor, Steps { len: factor.len, from: factor.stride, to: step }));
                to += factor.start * step;
                step *= factor.size;
            }
            let (first, _) = axes.pop().filter(|(first, _)| first.size == places)?;
            let Factor { start, len, stride, .. } = first;
            let axes = joined(axes.into_iter().rev().map(|(_, steps)| steps));
            axes.last().filter(|line| line.from == 1 && line.to == 1 && line.len >= LEAST_LINE)?;
            parts.push(Part {
                source: part.source,
                places: start..start + len,
                from: part.offset,
                step: stride,
                to: to - start * size,
                axes,
            });
        }
        (elements >= LEAST && places >= LEAST_PLACES).then_some(Moved { sources, places, size, parts })
    }
}

/// Axes whose neighbours go on from one another as one.
fn joined(axes: impl Iterator<Item = Steps>) -> Vec<Steps> {
    let mut joined: Vec<Steps> = vec![];
    for axis in axes.filter(|axis| axis.len > 1) {
        match joined.last_mut() {
            Some(outer) if outer.from == axis.from * axis.len && outer.to == axis.to * axis.len => {
                *outer = Steps { len: outer.len * axis.len, ..axis };
            }
            _ => joined.push(axis),
        }
    }
    joined
}

impl Layer for Moved {
    const OPERATOR: &'static str = "Moved";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];
    const ANY_NUMBER: bool = true;

    fn compute(&self, context: &ComputeContext, output: &[i64], _: Arch) -> Result<()> {
        let Moved { places, size, parts, .. } = self;
        let values = inputs(context)?;
        let sources = elements(&values)?;
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        if y.len() != places * size || !sources.iter().map(|source| source.len()).eq(self.sources.iter().copied()) {
            return Err(missing());
        }
        let at_once = (TASK / size).max(1);
        in_parallel(context, y.chunks_mut(at_once * size), |task, y| {
            for (place, y) in (task * at_once..).zip(y.chunks_exact_mut(*size)) {
                for part in parts.iter().filter(|part| part.places.contains(&place)) {
                    let from = part.from + (place - part.places.start) * part.step;
                    copy(&part.axes, &sources[part.source][from..], &mut y[part.to..]);
                }
            }
        })
    }
}
