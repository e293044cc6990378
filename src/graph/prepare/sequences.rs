//! Sequences whose elements are known, read at known places: what is taken out of them is written in terms of the
//! tensors that were put in. The nodes that make sequences stay, and fall away where nothing reads them any more.

use super::writer::{Writer, rewrite};
use super::{Graph, GraphError, Node};
use crate::graph::{Name, attribute};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of a sequence.
#[derive(Clone)]
enum Sequence {
    Elements(Vec<Name>),
    /// A tensor cut along an axis.
    Pieces(Pieces),
}

#[derive(Clone)]
struct Pieces {
    of: Name,
    axis: i64,
    sizes: Sizes,
    /// Whether pieces keep the axis.
    keep: bool,
}

#[derive(Clone)]
enum Sizes {
    Each(Vec<i64>),
    /// As many of this size as there are, the last perhaps smaller.
    All(i64),
}

#[derive(Default)]
struct Known {
    constants: BTreeMap<Name, Arc<Tensor>>,
    sequences: BTreeMap<Name, Sequence>,
    /// What optional values hold.
    held: BTreeMap<Name, Name>,
}

/// Rewrites all reads of known sequences. What is not known stays as it is.
pub(super) fn flatten(graph: &mut Graph) -> Result<(), GraphError> {
    let mut known = Known { constants: graph.constants.clone(), ..Known::default() };
    rewrite(graph, "sequence", &mut |node, writer| {
        if !node.domain.is_empty() {
            writer.nodes.push(node);
            return Ok(());
        }
        if let (Some(sequence), Ok(output)) = (known.made(&node), node.output()) {
            known.sequences.insert(output.clone(), sequence);
        }
        if let ("Optional", Some(value), Ok(output)) = (node.op.as_str(), node.input(0), node.output()) {
            known.held.insert(output.clone(), value.clone());
        }
        if known.read(&node, writer).is_none() {
            writer.nodes.push(node);
        }
        Ok(())
    })
}

/// `position`, perhaps counted from the back, in a list of this length.
fn place(position: i64, length: usize) -> Option<usize> {
    let position = if position < 0 { position + length as i64 } else { position };
    usize::try_from(position).ok().filter(|&p| p <= length)
}

impl Known {
    fn integers(&self, name: &Name) -> Option<Vec<i64>> {
        self.constants.get(name)?.to_i64()
    }

    fn integer(&self, name: &Name) -> Option<i64> {
        self.integers(name)?.first().copied()
    }

    fn elements(&self, name: Option<&Name>) -> Option<Vec<Name>> {
        match self.sequences.get(name?)? {
            Sequence::Elements(elements) => Some(elements.clone()),
            Sequence::Pieces(_) => None,
        }
    }

    /// The sequence that a node gives.
    fn made(&self, node: &Node) -> Option<Sequence> {
        match node.op.as_str() {
            "SequenceConstruct" => Some(Sequence::Elements(node.inputs.iter().flatten().cloned().collect())),
            "SequenceEmpty" => Some(Sequence::Elements(vec![])),
            "SequenceInsert" => {
                let mut elements = self.elements(node.input(0))?;
                let position = node.input(2).map_or(Some(elements.len() as i64), |at| self.integer(at))?;
                elements.insert(place(position, elements.len())?, node.input(1)?.clone());
                Some(Sequence::Elements(elements))
            }
            "SequenceErase" => {
                let mut elements = self.elements(node.input(0))?;
                let position = node.input(1).map_or(Some(-1), |at| self.integer(at))?;
                let at = place(position, elements.len()).filter(|&at| at < elements.len())?;
                elements.remove(at);
                Some(Sequence::Elements(elements))
            }
            "SplitToSequence" => {
                let sizes = match node.input(1) {
                    Some(split) => match self.integers(split)?[..] {
                        [size] if self.constants.get(split)?.shape().is_empty() => Sizes::All(size),
                        ref sizes => Sizes::Each(sizes.to_vec()),
                    },
                    None => Sizes::All(1),
                };
                let keep = node.input(1).is_some() || node.int("keepdims").unwrap_or(1) != 0;
                let (of, axis) = (node.input(0)?.clone(), node.int("axis").unwrap_or(0));
                Some(Sequence::Pieces(Pieces { of, axis, sizes, keep }))
            }
            "Identity" | "Optional" | "OptionalGetElement" => self.sequences.get(node.input(0)?).cloned(),
            _ => None,
        }
    }

    /// Writes what a node takes from a sequence.
    fn read(&self, node: &Node, writer: &mut Writer) -> Option<()> {
        let output = node.output().ok()?;
        match node.op.as_str() {
            "SequenceAt" => {
                let position = self.integer(node.input(1)?)?;
                match self.sequences.get(node.input(0)?)? {
                    Sequence::Elements(elements) => {
                        let element = elements.get(place(position, elements.len())?)?;
                        writer.write(output, "Identity", vec![Some(element.clone())], vec![]);
                    }
                    Sequence::Pieces(pieces) => pieces.take(position, output, writer)?,
                }
            }
            "ConcatFromSequence" => self.concat(node, output, writer)?,
            "SequenceLength" => {
                let length = match self.sequences.get(node.input(0)?)? {
                    Sequence::Elements(elements) => elements.len(),
                    Sequence::Pieces(Pieces { sizes: Sizes::Each(sizes), .. }) => sizes.len(),
                    Sequence::Pieces(_) => return None,
                };
                writer.give(output, Tensor::new(&[], vec![length as i64])?);
            }
            "OptionalGetElement" => {
                let value = self.held.get(node.input(0)?).filter(|value| !self.sequences.contains_key(*value))?;
                writer.write(output, "Identity", vec![Some(value.clone())], vec![]);
            }
            "OptionalHasElement" => {
                let holds = match node.input(0) {
                    Some(value) => self.held.contains_key(value).then_some(true)?,
                    None => false,
                };
                writer.give(output, Tensor::new(&[], vec![holds])?);
            }
            _ => return None,
        }
        Some(())
    }

    fn concat(&self, node: &Node, output: &Name, writer: &mut Writer) -> Option<()> {
        let (axis, new) = (node.int("axis")?, node.int("new_axis").unwrap_or(0) != 0);
        let along = || vec![attribute("axis", axis)];
        match self.sequences.get(node.input(0)?)? {
            Sequence::Pieces(pieces) if pieces.axis == axis && pieces.keep != new => {
                writer.write(output, "Identity", vec![Some(pieces.of.clone())], vec![]);
            }
            Sequence::Elements(elements) if !elements.is_empty() => {
                let parts: Vec<Name> = match new {
                    false => elements.clone(),
                    true => {
                        let axes = writer.integers(&[axis]);
                        elements.iter().map(|e| writer.node("Unsqueeze", &[e, &axes], vec![])).collect()
                    }
                };
                writer.write(output, "Concat", parts.into_iter().map(Some).collect(), along());
            }
            _ => return None,
        }
        Some(())
    }
}

impl Pieces {
    /// Writes one piece.
    fn take(&self, position: i64, output: &Name, writer: &mut Writer) -> Option<()> {
        let (start, end) = match &self.sizes {
            Sizes::Each(sizes) => {
                let at = place(position, sizes.len()).filter(|&at| at < sizes.len())?;
                let start: i64 = sizes[..at].iter().sum();
                (start, start + sizes[at])
            }
            Sizes::All(1) if position == -1 => (-1, i64::MAX),
            // Where the last piece is smaller, places from the back depend on the length.
            Sizes::All(size) if position >= 0 || *size == 1 => (position * size, (position + 1) * size),
            Sizes::All(_) => return None,
        };
        if self.keep {
            let bounds = [start, end, self.axis].map(|bound| Some(writer.integers(&[bound])));
            let [start, end, axes] = bounds;
            writer.write(output, "Slice", vec![Some(self.of.clone()), start, end, axes], vec![]);
        } else {
            let at = writer.integer(start);
            writer.write(output, "Gather", vec![Some(self.of.clone()), Some(at)], vec![attribute("axis", self.axis)]);
        }
        Some(())
    }
}
