//! One graph for every batch size, from two graphs for one batch size each.
//!
//! The two have the same nodes; what differs is constants. Those are drawn as functions of the batch size `n`, which
//! the graph then reads off its first input: integers and lengths of axes as `a + b n`, factors as `a + b n` or its
//! reciprocal, positions as arithmetic progressions. Two points make a line; whether the third lies on it
//! is for the caller to try.

use crate::autograd::PREFIX;
use crate::error::printable;
use crate::graph::{Graph, Input, Name, Node, attribute};
use crate::session::Kinds;
use crate::tensor::{DType, Tensor};
use ndarray::{Axis, IxDyn, arr0, arr1};
use onnx_protobuf::AttributeProto;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Types and shapes of the inputs and outputs of `graph`; none for a dimension that is not the same in both.
pub(super) fn ports(kinds: [&Kinds; 2], graph: &Graph) -> BTreeMap<Name, (DType, Vec<Option<usize>>)> {
    let port = |name: &Name| {
        let ((dtype, a), (_, b)) = (kinds[0].get(name)?, kinds[1].get(name)?);
        Some((name.clone(), (*dtype, common(a.iter().copied().zip(b.iter().copied())))))
    };
    graph.outputs.iter().chain(graph.inputs.iter().map(|i| &i.name)).filter_map(port).collect()
}

fn common<T: PartialEq>(pairs: impl Iterator<Item = (T, T)>) -> Vec<Option<T>> {
    pairs.map(|(a, b)| (a == b).then_some(a)).collect()
}

/// The graph that is both, each with its batch size.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn through(graphs: [(usize, &Graph); 2]) -> Result<Graph, String> {
    let [(n0, first), (n1, second)] = graphs;
    let differs = |node: &Node| format!("{} depends on the batch size", node.describe());
    if first.nodes.len() != second.nodes.len() {
        return Err("the number of nodes depends on the batch size".into());
    }
    if let Some((node, _)) = first.nodes.iter().zip(&second.nodes).find(|(a, b)| a != b) {
        return Err(differs(node));
    }
    let mut inputs = Vec::new();
    for (a, b) in first.inputs.iter().zip(&second.inputs) {
        inputs.push(Input {
            shape: common(a.shape.iter().zip(&b.shape)).into_iter().map(|d| d.copied().flatten()).collect(),
            ..a.clone()
        });
    }
    let batch = inputs.iter().find_map(|i| (i.shape.first() == Some(&None)).then(|| i.name.clone()));
    let batch = batch.ok_or("no input holds samples on its first axis")?;
    let graph = Graph { nodes: vec![], inputs, ..first.clone() };
    let mut builder = Builder { graph, sizes: [n0, n1], batch, count: None, lines: BTreeMap::new(), made: 0 };
    let mut drawn = BTreeMap::new();
    for (name, a) in &first.constants {
        let b = second.constants.get(name).filter(|b| a.dtype() == b.dtype());
        if b == Some(a) {
            continue;
        }
        let readers: Vec<&Node> = first.nodes.iter().filter(|n| n.inputs.iter().flatten().any(|i| i == name)).collect();
        let value = b.and_then(|b| match readers.iter().all(|n| is_target(n, name)) {
            true => builder.target([a, b]).or_else(|| builder.constant([a, b])),
            false => builder.constant([a, b]),
        });
        let refused = || {
            readers.first().map_or_else(|| format!("'{}' depends on the batch size", printable(name)), |n| differs(n))
        };
        drawn.insert(name, value.ok_or_else(refused)?);
    }
    let mut nodes = first.nodes.clone();
    for input in nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()) {
        if let Some(value) = drawn.get(input) {
            *input = value.clone();
        }
    }
    builder.graph.nodes.extend(nodes);
    builder.graph.prune();
    Ok(builder.graph)
}

/// Whether a node reads a value as the shape to reshape to, in which one entry may be left open.
fn is_target(node: &Node, value: &Name) -> bool {
    let alone = node.input(1) == Some(value) && node.input(0) != Some(value);
    node.op == "Reshape" && node.domain.is_empty() && alone && node.int("allowzero").unwrap_or(0) == 0
}

/// `a + b n` for each element.
struct Line {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Line {
    fn through(sizes: [usize; 2], at: [&[f64]; 2]) -> Line {
        let step = sizes[1] as f64 - sizes[0] as f64;
        let b: Vec<f64> = at[0].iter().zip(at[1]).map(|(y0, y1)| (y1 - y0) / step).collect();
        let a = at[0].iter().zip(&b).map(|(y0, b)| y0 - b * sizes[0] as f64).collect();
        Line { a, b }
    }

    /// Integers on the line for every batch size.
    fn integers(self) -> Option<[Vec<i64>; 2]> {
        let whole =
            |v: Vec<f64>| v.into_iter().map(|x| (x.fract() == 0.0).then_some(x as i64)).collect::<Option<Vec<_>>>();
        Some([whole(self.a)?, whole(self.b)?])
    }
}

/// Writes constants as values that follow the batch size.
struct Builder {
    graph: Graph,
    sizes: [usize; 2],
    /// The input whose first axis is the batch.
    batch: Name,
    /// The batch size, shape `[1]`, once it was asked for.
    count: Option<Name>,
    /// What `a + b n` is called, by `a` and `b`.
    lines: BTreeMap<[Vec<i64>; 2], Name>,
    made: usize,
}

impl Builder {
    /// The shape to reshape to, its one entry that follows the batch size left open.
    fn target(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        let [a, b] = at.map(|t| t.slice::<i64>());
        let (a, b) = (a?, b?);
        let mut differ = (0..a.len()).filter(|&i| a.get(i) != b.get(i));
        let (open, None) = (differ.next()?, differ.next()) else { return None };
        let known = a.iter().enumerate().all(|(i, &d)| i == open || d > 0);
        let left_open = a.iter().enumerate().map(|(i, &d)| if i == open { -1 } else { d }).collect();
        (known && a.len() == b.len()).then(|| self.integers(left_open))
    }

    /// A value that is `at` for the two sizes; none where no rule draws it.
    fn constant(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        match at[0].shape() == at[1].shape() {
            true => self.same_shape(at),
            false => self.progression(at).or_else(|| self.repeated(at)),
        }
    }

    /// Elements that follow the batch size, their number does not.
    fn same_shape(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        let shape = at[0].shape();
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let flat = match at[0].dtype() {
            DType::I64 => {
                let numbers =
                    at.map(|t| t.to_i64().unwrap_or_default().into_iter().map(|v| v as f64).collect::<Vec<_>>());
                self.line(Line::through(self.sizes, [&numbers[0], &numbers[1]]).integers()?)
            }
            dtype if dtype.is_float() => self.factors(at, dtype)?,
            _ => return None,
        };
        if dims.len() == 1 {
            return Some(flat);
        }
        let dims = self.integers(dims);
        Some(self.node("Reshape", &[&flat, &dims], vec![]))
    }

    /// Flat floating-point elements on a line, or those whose reciprocals are.
    fn factors(&mut self, at: [&Arc<Tensor>; 2], dtype: DType) -> Option<Name> {
        let [a, b] = at.map(|t| t.to_f64().unwrap_or_default().into_iter().collect::<Vec<_>>());
        let reciprocals = |v: &[f64]| v.iter().map(|x| 1.0 / x).collect::<Vec<_>>();
        let rounded = |line: Line| {
            // Constants are rounded to their type; a line of whole numbers is what the graph's formulas have.
            let near = |v: &f64| (v - v.round()).abs() < 1e-3 * v.abs().max(1.0);
            let whole = line.a.iter().chain(&line.b).all(near);
            whole.then(|| [line.a, line.b].map(|v| v.into_iter().map(|x| x.round() as i64).collect::<Vec<_>>()))
        };
        let cast = |builder: &mut Builder, x: &Name, to: DType| {
            builder.node("Cast", &[x], vec![attribute("to", i64::from(to.to_onnx()))])
        };
        let (line, invert) = match rounded(Line::through(self.sizes, [&reciprocals(&a), &reciprocals(&b)])) {
            Some(line) => (line, true),
            None => (rounded(Line::through(self.sizes, [&a, &b]))?, false),
        };
        // Float32 holds the numbers of batch sizes exactly; float16 does not.
        let wide = if dtype == DType::F32 { DType::F32 } else { DType::F64 };
        let line = self.line(line);
        let line = cast(self, &line, wide);
        let value = if invert { self.node("Reciprocal", &[&line], vec![]) } else { line };
        Some(if dtype == wide { value } else { cast(self, &value, dtype) })
    }

    /// `start, start + step, …`: as many as the batch size asks for.
    fn progression(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        let [a, b] = [at[0].slice::<i64>()?, at[1].slice::<i64>()?];
        let longer = if a.len() > b.len() { a } else { b };
        let (&start, step) = (longer.first()?, longer.get(1)?.checked_sub(*longer.first()?)?);
        let regular = |v: &[i64]| {
            v.iter()
                .enumerate()
                .all(|(i, &x)| Some(x) == (i as i64).checked_mul(step).and_then(|d| d.checked_add(start)))
        };
        if step == 0 || !regular(a) || !regular(b) {
            return None;
        }
        let shape = self.shape(at)?;
        let count = self.node("ReduceProd", &[&shape], vec![attribute("keepdims", 0)]);
        let [zero, one] = [0, 1].map(|v| self.number(v));
        let positions = self.node("Range", &[&zero, &count, &one], vec![]);
        let (step, start) = (self.number(step), self.number(start));
        let scaled = self.node("Mul", &[&positions, &step], vec![]);
        let moved = self.node("Add", &[&scaled, &start], vec![]);
        Some(self.node("Reshape", &[&moved, &shape], vec![]))
    }

    /// The same along every axis whose length follows the batch size.
    fn repeated(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        let shape = self.shape(at)?;
        let axes = |t: &Tensor, other: &Tensor| -> Vec<usize> {
            (0..t.shape().len()).filter(|&i| t.shape()[i] != other.shape()[i]).collect()
        };
        let [a, b] = [once(at[0], &axes(at[0], at[1]))?, once(at[1], &axes(at[1], at[0]))?];
        let slice = if a == b { self.keep(a) } else { self.same_shape([&Arc::new(a), &Arc::new(b)])? };
        Some(self.node("Expand", &[&slice, &shape], vec![]))
    }

    /// The shape of a constant as a value.
    fn shape(&mut self, at: [&Arc<Tensor>; 2]) -> Option<Name> {
        let dims = at.map(|t| t.shape().iter().map(|&d| d as f64).collect::<Vec<_>>());
        if dims[0].len() != dims[1].len() {
            return None;
        }
        Some(self.line(Line::through(self.sizes, [&dims[0], &dims[1]]).integers()?))
    }

    /// `a + b n`, one-dimensional.
    fn line(&mut self, line: [Vec<i64>; 2]) -> Name {
        if let Some(known) = self.lines.get(&line) {
            return known.clone();
        }
        let mut sum = self.count();
        if line[1] != [1] {
            let b = self.integers(line[1].clone());
            sum = self.node("Mul", &[&sum, &b], vec![]);
        }
        if line[0].iter().any(|&a| a != 0) {
            let a = self.integers(line[0].clone());
            sum = self.node("Add", &[&sum, &a], vec![]);
        }
        self.lines.entry(line).or_insert(sum).clone()
    }

    fn count(&mut self) -> Name {
        if let Some(count) = &self.count {
            return count.clone();
        }
        let batch = self.batch.clone();
        let shape = self.node("Shape", &[&batch], vec![]);
        let first = self.integers(vec![0]);
        let count = self.node("Gather", &[&shape, &first], vec![]);
        self.count.insert(count).clone()
    }

    fn integers(&mut self, values: Vec<i64>) -> Name {
        self.keep(Tensor::I64(arr1(&values).into_dyn()))
    }

    fn number(&mut self, value: i64) -> Name {
        self.keep(Tensor::I64(arr0(value).into_dyn()))
    }

    fn keep(&mut self, tensor: Tensor) -> Name {
        let name = self.fresh("constant");
        self.graph.constants.insert(name.clone(), Arc::new(tensor));
        name
    }

    fn fresh(&mut self, op: &str) -> Name {
        self.made += 1;
        format!("{PREFIX}batch/{}_{op}", self.made).into()
    }

    fn node(&mut self, op: &str, inputs: &[&Name], attributes: Vec<AttributeProto>) -> Name {
        let output = self.fresh(op);
        self.graph.nodes.push(Node {
            name: format!("{PREFIX}batch/{output}"),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(|&i| Some(i.clone())).collect(),
            outputs: vec![Some(output.clone())],
            attributes,
        });
        output
    }
}

/// What a tensor repeats along each of `axes`, with length 1 there; none where it repeats nothing.
fn once(tensor: &Tensor, axes: &[usize]) -> Option<Tensor> {
    crate::with_array!(tensor, a => {
        let mut slice = a.view();
        for &axis in axes {
            if slice.shape()[axis] == 0 {
                return None;
            }
            slice = slice.slice_axis_move(Axis(axis), ndarray::Slice::from(0..1));
        }
        let same = slice.broadcast(IxDyn(a.shape())).is_some_and(|whole| whole == a.view());
        same.then(|| slice.into_owned().into())
    })
}
