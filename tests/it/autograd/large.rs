//! A transformer of any number of nodes, as exporters write it, and its backward graph.

use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::autograd::{Backward, Reduction, differentiate};
use onnx_unlearn::graph::{Graph, Input, Name, Node, attribute, to_model_proto};
use onnx_unlearn::session::{Feed, Runtime};
use onnx_unlearn::specialise::{Specialised, specialise};
use onnx_unlearn::tensor::{DType, Tensor};
use protobuf::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Samples, tokens, heads and features of a head.
const SIZES: [usize; 4] = [2, 4, 2, 4];

/// A block; what `{i}` stands for is the block's number, what starts with `w` is a weight.
const BLOCK: &str = "
    n{i} = LayerNormalization x{i} wn{i} wb{i}
    qm{i} = MatMul n{i} wq{i}
    qa{i} = Add qm{i} wqb{i}
    qr{i} = Reshape qa{i} heads
    q{i} = Transpose qr{i}
    km{i} = MatMul n{i} wk{i}
    ka{i} = Add km{i} wkb{i}
    kr{i} = Reshape ka{i} heads
    kt{i} = Transpose kr{i}
    k{i} = Transpose2 kt{i}
    vm{i} = MatMul n{i} wv{i}
    va{i} = Add vm{i} wvb{i}
    vr{i} = Reshape va{i} heads
    v{i} = Transpose vr{i}
    s{i} = MatMul q{i} k{i}
    sc{i} = Mul s{i} scale
    p{i} = Softmax sc{i}
    c{i} = MatMul p{i} v{i}
    ct{i} = Transpose c{i}
    cr{i} = Reshape ct{i} tokens
    o{i} = MatMul cr{i} wo{i}
    oa{i} = Add o{i} wob{i}
    r{i} = Add x{i} oa{i}
    m{i} = LayerNormalization r{i} wmn{i} wmb{i}
    f{i} = MatMul m{i} wf{i}
    fa{i} = Add f{i} wfb{i}
    fd{i} = Mul fa{i} root
    fe{i} = Erf fd{i}
    fp{i} = Add fe{i} one
    fm{i} = Mul fa{i} fp{i}
    fh{i} = Mul fm{i} half
    g{i} = MatMul fh{i} wg{i}
    ga{i} = Add g{i} wgb{i}
    x{j} = Add r{i} ga{i}";

/// A graph of about `nodes` nodes, its weights, and one batch.
pub fn transformer(nodes: usize) -> (Graph, BTreeSet<Name>, Feed) {
    let [batch, tokens, heads, features] = SIZES;
    let width = heads * features;
    let numbers = |shape: &[usize], seed: usize| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| (((i * 31 + seed * 17) % 29) as f32 - 14.0) / 40.0);
        Tensor::new(shape, values.collect()).unwrap()
    };
    let integers = |values: &[i64]| Tensor::new(&[values.len()], values.to_vec()).unwrap();
    let mut constants: BTreeMap<Name, Arc<Tensor>> = BTreeMap::from([
        ("heads".into(), Arc::new(integers(&[0, 0, heads as i64, features as i64]))),
        ("tokens".into(), Arc::new(integers(&[0, 0, width as i64]))),
    ]);
    for (name, value) in [("scale", 0.5f32), ("root", 0.5f32.sqrt()), ("one", 1.0), ("half", 0.5)] {
        constants.insert(name.into(), Arc::new(Tensor::new(&[], vec![value]).unwrap()));
    }
    let (mut list, mut weights) = (Vec::new(), BTreeSet::new());
    for block in 0..nodes / BLOCK.trim().lines().count() {
        let text = BLOCK.replace("{i}", &block.to_string()).replace("{j}", &(block + 1).to_string());
        for line in text.trim().lines() {
            let (output, call) = line.trim().split_once(" = ").unwrap();
            let mut words = call.split(' ');
            let op = words.next().unwrap();
            let inputs: Vec<&str> = words.collect();
            for name in inputs.iter().filter(|name| name.starts_with('w')) {
                let shape = if op == "MatMul" { vec![width, width] } else { vec![width] };
                constants.insert((*name).into(), Arc::new(numbers(&shape, list.len())));
                weights.insert(Name::from(*name));
            }
            list.push(node(op, &inputs, output));
        }
    }
    let output = list.last().and_then(|node: &Node| node.outputs[0].clone()).unwrap();
    let shape = vec![None, Some(tokens), Some(width)];
    let graph = Graph {
        nodes: list,
        constants,
        inputs: vec![Input { name: "x0".into(), dtype: DType::F32, shape }],
        outputs: vec![output],
        opsets: BTreeMap::from([(String::new(), 17)]),
        ir_version: 8,
    };
    (graph, weights, Feed::from([("x0".to_string(), numbers(&[batch, tokens, width], 0))]))
}

fn node(op: &str, inputs: &[&str], output: &str) -> Node {
    let (op, attributes) = match op {
        "Transpose" => ("Transpose", vec![attribute("perm", vec![0, 2, 1, 3])]),
        "Transpose2" => ("Transpose", vec![attribute("perm", vec![0, 1, 3, 2])]),
        op => (op, vec![]),
    };
    Node {
        name: String::new(),
        domain: String::new(),
        op: op.into(),
        inputs: inputs.iter().map(|&i| Some(i.into())).collect(),
        outputs: vec![Some(output.into())],
        attributes,
    }
}

pub fn specialised(graph: &Graph, weights: &BTreeSet<Name>, feed: &Feed, runtime: &Runtime) -> Specialised {
    specialise(graph, weights, feed, SIZES[0], runtime).unwrap()
}

pub fn backward(specialised: Specialised, weights: &BTreeSet<Name>) -> Backward {
    differentiate(specialised, weights, Objective::SquaredL2, Reduction::Sample).unwrap()
}

pub fn bytes(backward: &Backward) -> Vec<u8> {
    let kinds = &backward.kinds;
    to_model_proto(&backward.graph, |name| kinds.get(name).cloned()).write_to_bytes().unwrap()
}
