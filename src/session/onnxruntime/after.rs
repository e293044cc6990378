//! What alone reads the result of a convolution of ours, element by element, and is computed with it.

use super::operators::{DOMAIN, Layer, Layers, elements, in_parallel, inputs, missing};
use crate::graph::{Graph, Name, Node};
use crate::kernels::images::{Left, Part};
use crate::session::Kinds;
use ort::Result;
use ort::operator::ComputeContext;

/// What is computed with a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct After {
    /// Whether another image is added.
    adds: bool,
    relu: Relu,
}

/// Whether a ReLU follows, or the gradient of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Relu {
    #[default]
    None,
    Value,
    /// An operand tells where it was positive.
    Gradient,
}

/// A convolution of ours: what it reads after its images belongs to what follows.
pub(super) trait Convolution: Layer {
    fn after(&mut self) -> &mut After;
}

/// The results of a convolution by rows, which its threads share.
pub(super) struct Rows<'a> {
    pub threads: usize,
    /// All rows of all images.
    pub count: usize,
    /// Elements of the images.
    pub read: usize,
    pub bias: &'a [f32],
    pub after: &'a After,
}

impl Rows<'_> {
    /// Has each thread compute its share of an output of this shape; how many elements lie above a row is asked.
    ///
    /// # Errors
    /// An operand is missing, or has another size.
    pub fn compute(
        &self,
        context: &ComputeContext,
        output: &[i64],
        above: impl Fn(usize) -> usize + Sync + Send,
        compute: impl Fn(Part) + Sync + Send,
    ) -> Result<()> {
        let &Rows { threads, count, read, bias, after } = self;
        let values = inputs(context)?;
        let mut values = elements(&values)?.into_iter();
        let x = values.next().filter(|x| x.len() == read).ok_or_else(missing)?;
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, mut rest) = y.try_extract_tensor_mut::<f32>()?;
        if rest.len() != above(count) {
            return Err(missing());
        }
        let (added, left) = after.read(values, rest.len())?;
        let share = count.div_ceil(threads).max(1);
        let mut parts = vec![];
        for start in (0..count).step_by(share) {
            let rows = start..count.min(start + share);
            let own = above(rows.start)..above(rows.end);
            let (y, others) = rest.split_at_mut(own.len());
            let (added, left) = (added.map(|added| &added[own.clone()]), left.of(own));
            parts.push(Part { rows, x, bias, added, left, y });
            rest = others;
        }
        in_parallel(context, parts.into_iter(), |_, part| compute(part))
    }
}

/// Has each convolution of an operator add another image where the next node does, and then take the ReLU after it, or
/// the gradient of one.
pub(super) fn with_convolutions<T: Convolution>(graph: &mut Graph, kinds: &Kinds, layers: &mut Layers<T>) {
    let readers = graph.lone_readers();
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    for index in 0..nodes.len() {
        let Some(layer) = nodes[index].as_ref().and_then(|node| layers.of(node)) else { continue };
        let Some(mut node) = nodes[index].take() else { continue };
        let mut place = index;
        while let Some(&reader) = node.output().ok().and_then(|output| readers.get(output)) {
            let next = nodes[reader].as_ref().and_then(|next| layer.after().takes(&node, next, kinds));
            let Some((operand, output)) = next else { break };
            node.inputs.extend(operand.map(Some));
            node.outputs = vec![Some(output)];
            nodes[reader] = None;
            place = reader;
        }
        nodes[place] = Some(node);
    }
    graph.nodes = nodes.into_iter().flatten().collect();
}

impl After {
    /// Takes over what the next node does with the output of a convolution, where it can; what that reads besides, and
    /// its output.
    fn takes(&mut self, node: &Node, next: &Node, kinds: &Kinds) -> Option<(Option<Name>, Name)> {
        let (own, output) = (node.output().ok()?, next.output().ok()?);
        let alike =
            next.inputs.iter().flatten().all(|name| kinds.get(name) == kinds.get(output)) && kinds.contains_key(output);
        let other = next.inputs.iter().flatten().find(|name| *name != own).cloned();
        match (&*next.domain, &*next.op, self.relu) {
            _ if !alike => return None,
            ("", "Add", Relu::None) if !self.adds => {
                other.as_ref()?;
                self.adds = true;
            }
            ("", "Relu", Relu::None) => self.relu = Relu::Value,
            (DOMAIN, "ReluGradient", Relu::None) if next.input(1) == Some(own) && other.is_some() => {
                self.relu = Relu::Gradient
            }
            _ => return None,
        }
        Some((other, output.clone()))
    }

    /// What is added to so many results, and what is left of them, by what a convolution reads after its images.
    ///
    /// # Errors
    /// An operand is missing, or has another size.
    fn read<'v>(
        &self,
        mut values: impl Iterator<Item = &'v [f32]>,
        size: usize,
    ) -> Result<(Option<&'v [f32]>, Left<'v>)> {
        let mut image = || values.next().filter(|image| image.len() == size).ok_or_else(missing);
        let added = if self.adds { Some(image()?) } else { None };
        let left = match self.relu {
            Relu::None => Left::All,
            Relu::Value => Left::Positive,
            Relu::Gradient => Left::Where(image()?),
        };
        Ok((added, left))
    }
}
