//! Operators of our own in a session for gradients.

use super::{
    after, convolutions, depthwise, elementwise, implicit, last, moves, normal, pooling, products, scatter, sums,
};
use crate::graph::{Graph, Input, Made, Name, Node, attribute, to_split_model_proto};
use crate::session::{Kinds, Rough};
use crate::tensor::DType;
use onnx_protobuf::AttributeProto;
use ort::environment::Environment;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::session::Session;
use ort::value::{SymbolicDimensions, TensorElementType, ValueRef, ValueType};
use ort::{Error, Result};
use protobuf::Message;
use pulp::Arch;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(super) const DOMAIN: &str = "onnx_unlearn";
/// The attributes of a node that tell its layer, and the shape of its outputs.
const LAYER: &str = "layer";
pub(super) const SHAPE: &str = "shape";

/// What a node of ours stands for, apart from the values that it reads.
pub(super) trait Layer: Send + Sync + Sized + 'static {
    /// Name of the operator.
    const OPERATOR: &'static str;
    const INPUTS: &'static [TensorElementType];
    const OUTPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];
    /// Whether there may be any number of inputs, all of the one type.
    const ANY_NUMBER: bool = false;

    /// Computes the outputs, all of the shape `output`.
    ///
    /// # Errors
    /// An operand is missing, or of another shape than when the session was made.
    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()>;
}

/// The graph with our operators where they are faster, and these; the graph as it is where there are none. The threads make
/// them; as many share their work later.
pub(super) fn replaced(
    graph: &Graph,
    kinds: &Kinds,
    rough: Rough,
    pool: &ThreadPool,
) -> Result<(Graph, Option<OperatorDomain>)> {
    let mut graph = graph.clone();
    let operators = pool.install(|| put_all(&mut graph, kinds.clone(), rough, pool.current_num_threads()));
    if operators.is_empty() {
        return Ok((graph, None));
    }
    graph.opsets.insert(DOMAIN.into(), 1);
    let domain = operators.into_iter().try_fold(OperatorDomain::new(DOMAIN)?, |domain, add| add(domain))?;
    Ok((graph, Some(domain)))
}

/// Adds an operator to a domain.
type Add = Box<dyn FnOnce(OperatorDomain) -> Result<OperatorDomain> + Send>;

/// Puts our operators into a graph.
fn put_all(graph: &mut Graph, mut kinds: Kinds, rough: Rough, threads: usize) -> Vec<Add> {
    let mut operators = Vec::new();
    add(elementwise::gelus(graph, &kinds), &mut operators);
    add(elementwise::gelu_gradients(graph, &kinds), &mut operators);
    add(elementwise::relu_gradients(graph, &kinds), &mut operators);
    add(normal::gradients(graph, &kinds), &mut operators);
    let mut tiled = convolutions::by_tiles(graph, &kinds, rough, threads);
    let by_channel = depthwise::by_channel(graph, &kinds);
    let mut by_products = implicit::by_products(graph, &kinds, threads);
    last::between_convolutions(graph, &mut kinds);
    after::with_convolutions(graph, &kinds, &mut tiled);
    after::with_convolutions(graph, &kinds, &mut by_products);
    add(tiled, &mut operators);
    add(by_channel, &mut operators);
    add(by_products, &mut operators);
    add(pooling::with_places(graph, &kinds), &mut operators);
    add(scatter::of_rows(graph, &kinds), &mut operators);
    add(sums::of_rows(graph, &kinds), &mut operators);
    products::turn(graph, &kinds);
    add(moves::merged(graph, &kinds), &mut operators);
    operators
}

/// Tells the runtime our domain by a session of its own: it fails where two sessions are the first to do so at once.
pub(super) fn announce(environment: &Environment) -> Result<()> {
    let [x, y] = ["x", "y"].map(Name::from);
    let graph = Graph {
        nodes: vec![plain("Identity", &x, &y, vec![])],
        constants: BTreeMap::new(),
        inputs: vec![Input { name: x, dtype: DType::F32, shape: vec![Some(1)] }],
        outputs: vec![y],
        opsets: [(String::new(), 17)].into(),
        ir_version: 8,
    };
    let kind = |_: &Name| Some((DType::F32, vec![1]));
    let model = to_split_model_proto(&graph, kind, "").0.write_to_bytes().map_err(|e| Error::new(e.to_string()))?;
    let domain = OperatorDomain::new(DOMAIN)?.add(Layers::<elementwise::ReluGradient>::default())?;
    Session::builder(environment)?.with_operators(domain)?.commit_from_memory(&model)?;
    Ok(())
}

/// A node without a name of its own.
pub(super) fn plain(op: &str, from: &Name, to: &Name, attributes: Vec<AttributeProto>) -> Node {
    let (inputs, outputs) = (vec![Some(from.clone())], vec![Some(to.clone())]);
    Node { name: String::new(), domain: String::new(), op: op.into(), inputs, outputs, attributes }
}

/// The operator, where nodes of it are there.
fn add<T: Layer>(layers: Layers<T>, operators: &mut Vec<Add>) {
    if !layers.0.is_empty() {
        operators.push(Box::new(|domain| domain.add(layers)));
    }
}

/// What a node of ours reads, writes or is made of is not there, or of another shape.
pub(super) fn missing() -> Error {
    Error::new("an operand is missing, or has another shape than when the session was made")
}

/// What the nodes of one operator stand for.
pub(super) struct Layers<T>(Vec<Arc<T>>);

/// Puts nodes of our operator in the place of those for which a layer is found, and the values that it reads. Their
/// outputs have the type and shape that they had.
pub(super) fn put<T: Layer>(
    graph: &mut Graph,
    kinds: &Kinds,
    find: impl for<'a> Fn(&'a Node, &Made<'a>) -> Option<(Vec<&'a Name>, T)> + Sync,
) -> Layers<T> {
    let made = Made::new(graph);
    let found = graph.nodes.par_iter().map(|node| {
        let (_, shape) = kinds.get(node.output().ok()?)?;
        let (inputs, layer) = find(node, &made)?;
        Some((inputs.into_iter().cloned().collect(), shape, layer))
    });
    let found: Vec<Option<(Vec<Name>, _, T)>> = found.collect();
    let mut layers = Layers::default();
    for (node, found) in graph.nodes.iter_mut().zip(found) {
        if let Some((inputs, shape, layer)) = found {
            layers.place(node, &inputs, shape, layer);
        }
    }
    if !layers.0.is_empty() {
        // What led to them, and what went into the layers.
        graph.prune();
    }
    layers
}

impl<T> Default for Layers<T> {
    fn default() -> Self {
        Layers(vec![])
    }
}

impl<T: Layer> Layers<T> {
    /// Puts our operator in the place of a node whose output has the given shape.
    pub fn place<'a>(
        &mut self,
        node: &mut Node,
        inputs: impl IntoIterator<Item = &'a Name>,
        shape: &[usize],
        layer: T,
    ) {
        (node.domain, node.op) = (DOMAIN.into(), T::OPERATOR.into());
        node.inputs = inputs.into_iter().cloned().map(Some).collect();
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        node.attributes = vec![attribute(LAYER, self.0.len() as i64), attribute(SHAPE, shape)];
        self.0.push(Arc::new(layer));
    }

    /// What a node of this operator stands for.
    pub fn of(&mut self, node: &Node) -> Option<&mut T> {
        let own = node.domain == DOMAIN && node.op == T::OPERATOR;
        let index = node.int(LAYER).filter(|_| own).and_then(|index| usize::try_from(index).ok())?;
        self.0.get_mut(index).and_then(Arc::get_mut)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|layer| &**layer)
    }
}

impl<T: Layer> Operator for Layers<T> {
    type Kernel<'attr> = Ready<T>;

    fn name(&self) -> &str {
        T::OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let required = |&ty: &TensorElementType| match T::ANY_NUMBER {
            true => OperatorInput::variadic(1).homogenous(ty),
            false => OperatorInput::required(ty),
        };
        T::INPUTS.iter().map(required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        T::OUTPUTS.iter().map(|&ty| OperatorOutput::required(ty))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<Ready<T>> {
        let index = context.get::<i64>(LAYER).and_then(|index| usize::try_from(index).ok());
        let layer = index.and_then(|index| self.0.get(index)).ok_or_else(missing)?.clone();
        // Of no axes the runtime has no list.
        let output = context.get::<Vec<i64>>(SHAPE).unwrap_or_default();
        Ok(Ready { output, layer, arch: Arch::new() })
    }

    /// The runtime does not know the shapes of all inputs.
    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let shape = context.attr::<Vec<i64>>(SHAPE).unwrap_or_default();
        for (output, &ty) in T::OUTPUTS.iter().enumerate() {
            let dimension_symbols = SymbolicDimensions::empty(shape.len());
            let shape = shape.clone().into();
            context.set_output(output, &ValueType::Tensor { ty, shape, dimension_symbols })?;
        }
        Ok(())
    }
}

/// A layer with what it is computed by.
pub(super) struct Ready<T> {
    output: Vec<i64>,
    layer: Arc<T>,
    arch: Arch,
}

impl<T: Layer> Kernel for Ready<T> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        self.layer.compute(context, &self.output, self.arch)
    }
}

/// Shapes of the first input and output of a node, `[images, channels, height, width]` in float32, where padding is told.
pub(super) fn images(node: &Node, kinds: &Kinds) -> Option<[[usize; 4]; 2]> {
    let shape = |name| match kinds.get(name)? {
        (DType::F32, shape) => <[usize; 4]>::try_from(&shape[..]).ok(),
        _ => None,
    };
    let told = node.domain.is_empty() && node.string("auto_pad").is_none_or(|pad| pad == "NOTSET");
    let shapes = [shape(node.input(0)?)?, shape(node.output().ok()?)?];
    told.then_some(shapes)
}

/// An attribute for both axes of images, or for their beginnings, which has this value where it is absent.
pub(super) fn pair(node: &Node, name: &str, default: i64) -> Option<[i64; 2]> {
    match node.ints(name) {
        None => Some([default; 2]),
        Some(&[down, across, ..]) => Some([down, across]),
        Some(_) => None,
    }
}

/// Those shapes of a convolution whose taps and places are one apart, and the zeros above and left of its images.
pub(super) fn neighbouring(node: &Node, kinds: &Kinds) -> Option<([[usize; 4]; 2], [usize; 2])> {
    let ones = |name| node.ints(name).is_none_or(|values| values.iter().all(|&v| v == 1));
    let [above, left] = pair(node, "pads", 0)?;
    let pads = [usize::try_from(above).ok()?, usize::try_from(left).ok()?];
    let own = node.op == "Conv" && ones("strides") && ones("dilations");
    Some((images(node, kinds).filter(|_| own)?, pads))
}

/// All inputs of a node.
pub(super) fn inputs<'c>(context: &'c ComputeContext) -> Result<Vec<ValueRef<'c>>> {
    (0..context.num_inputs()?).map(|i| context.input(i)?.ok_or_else(missing)).collect()
}

/// The elements of values in float32.
pub(super) fn elements<'v>(values: &'v [ValueRef]) -> Result<Vec<&'v [f32]>> {
    values.iter().map(|value| Ok(value.try_extract_tensor::<f32>()?.1)).collect()
}

/// Does all tasks on the threads of the session.
pub(super) fn in_parallel<T: Send>(
    context: &ComputeContext,
    tasks: impl Iterator<Item = T>,
    work: impl Fn(usize, T) + Sync + Send,
) -> Result<()> {
    let tasks: Vec<Mutex<Option<T>>> = tasks.map(|task| Mutex::new(Some(task))).collect();
    context.par_for(tasks.len(), 0, |index| {
        if let Some(task) = tasks[index].lock().ok().and_then(|mut task| task.take()) {
            work(index, task);
        }
    })
}

/// Gradient graphs to find things in.
#[cfg(test)]
pub(super) mod tests {
    use crate::autograd::{Backward, Reduction, differentiate, objective::Objective};
    use crate::graph::{Graph, Input, Name, Node};
    use crate::kernels::numbers;
    use crate::session::{Feed, Kinds, Rough, Runtime, RuntimeChoice, RuntimeOptions};
    use crate::specialise::specialise;
    use crate::tensor::{DType, Tensor};
    use onnx_protobuf::AttributeProto;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// The gradient graph of a node between two products, of an operand `[2, 3]` and parameters of three elements.
    pub fn between_products(op: &str, parameters: &[&str], attributes: Vec<AttributeProto>) -> Backward {
        let name = |name: &&str| Some(Name::from(*name));
        let node = |op: &str, inputs: &[&str], output: &str, attributes| Node {
            name: String::new(),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(name).collect(),
            outputs: vec![name(&output)],
            attributes,
        };
        let ones = |shape: &[usize]| Tensor::F32(ndarray::ArrayD::ones(shape));
        let constant = |name: &str, shape: &[usize]| (Name::from(name), Arc::new(ones(shape)));
        let products = ["v", "w"].map(|name| constant(name, &[3, 3]));
        let constants: BTreeMap<_, _> = parameters.iter().map(|name| constant(name, &[3])).chain(products).collect();
        let names = constants.keys().cloned().collect();
        let graph = Graph {
            nodes: vec![
                node("MatMul", &["x", "v"], "h", vec![]),
                node(op, &[&["h"], parameters].concat(), "g", attributes),
                node("MatMul", &["g", "w"], "y", vec![]),
            ],
            constants,
            inputs: vec![Input { name: "x".into(), dtype: DType::F32, shape: vec![None, Some(3)] }],
            outputs: vec!["y".into()],
            opsets: [(String::new(), 20)].into(),
            ir_version: 9,
        };
        let tract = RuntimeOptions { runtime: RuntimeChoice::Tract, ..RuntimeOptions::default() };
        let runtime = Runtime::open(tract).unwrap();
        let feed = Feed::from([("x".to_string(), ones(&[2, 3]))]);
        let specialised = specialise(&graph, &names, &feed, 2, &runtime).unwrap();
        differentiate(specialised, &names, Objective::SquaredL2, Reduction::Sample).unwrap()
    }

    /// A graph of one input `x`, node by node.
    pub struct Built {
        pub graph: Graph,
        pub kinds: Kinds,
    }

    impl Built {
        pub fn new(shape: &[usize], outputs: &[&str]) -> Built {
            let input = Input { name: "x".into(), dtype: DType::F32, shape: shape.iter().copied().map(Some).collect() };
            let graph = Graph {
                nodes: vec![],
                constants: BTreeMap::new(),
                inputs: vec![input],
                outputs: outputs.iter().map(|name| Name::from(*name)).collect(),
                opsets: [(String::new(), 17)].into(),
                ir_version: 8,
            };
            Built { graph, kinds: [("x".into(), (DType::F32, shape.to_vec()))].into() }
        }

        pub fn node(
            &mut self,
            op: &str,
            inputs: &[&str],
            outputs: &[&str],
            shape: &[usize],
            attributes: Vec<AttributeProto>,
        ) {
            let name = |name: &&str| Some(Name::from(*name));
            let [inputs, outputs] = [inputs, outputs].map(|names| names.iter().map(name).collect::<Vec<_>>());
            let kinds = outputs.iter().flatten().map(|name| (name.clone(), (DType::F32, shape.to_vec())));
            self.kinds.extend(kinds);
            let (op, name, domain) = (op.into(), format!("node {}", self.graph.nodes.len()), String::new());
            self.graph.nodes.push(Node { name, domain, op, inputs, outputs, attributes });
        }

        pub fn integers(&mut self, name: &str, list: &[i64]) {
            let list = Tensor::I64(ndarray::Array1::from(list.to_vec()).into_dyn());
            self.graph.constants.insert(name.into(), Arc::new(list));
        }

        /// A constant of numbers from -1 to 1.
        pub fn constant(&mut self, name: &str, shape: &[usize]) {
            let numbers = numbers(shape.iter().product(), self.graph.constants.len() as u64);
            let tensor = Tensor::new(shape, numbers).unwrap();
            self.graph.constants.insert(name.into(), Arc::new(tensor));
        }

        /// What the runtime gives, and what it gives with operators of ours.
        pub fn run(&self, rough: Rough) -> [Vec<Tensor>; 2] {
            let options = RuntimeOptions { runtime: RuntimeChoice::OnnxRuntime, ..RuntimeOptions::default() };
            let runtime = Runtime::open(options).unwrap();
            let shape = &self.kinds["x"].1;
            let x = Tensor::new(shape, numbers(shape.iter().product(), 0)).unwrap();
            let feed = Feed::from([("x".to_string(), x)]);
            let sessions =
                [runtime.session(&self.graph, &self.kinds), runtime.gradients(&self.graph, &self.kinds, rough)];
            sessions.map(|session| session.unwrap().run(&feed).unwrap())
        }
    }

    pub fn near(found: &Tensor, expected: &Tensor) {
        let [found, expected] = [found, expected].map(|tensor| tensor.to_f64().unwrap());
        let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        assert_eq!(found.shape(), expected.shape());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
    }

    /// Has the runtime hear of our domain from two sessions at once, in processes that are new to it.
    #[test]
    fn sessions_may_be_made_at_once() {
        const INSIDE: &str = "ONNX_UNLEARN_TEST_SESSIONS_AT_ONCE";
        if std::env::var_os(INSIDE).is_none() {
            let name = std::thread::current().name().unwrap().to_string();
            for _ in 0..24 {
                let mut child = std::process::Command::new(std::env::current_exe().unwrap());
                let output = child.args(["--exact", &name]).env(INSIDE, "1").output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            }
            return;
        }
        let mut built = Built::new(&[8, 24, 8, 8], &["y"]);
        built.constant("w", &[32, 24, 3, 3]);
        let pads = vec![crate::graph::attribute("pads", vec![1; 4])];
        built.node("Conv", &["x", "w"], &["y"], &[8, 32, 8, 8], pads);
        let options = RuntimeOptions { runtime: RuntimeChoice::OnnxRuntime, ..RuntimeOptions::default() };
        let runtime = Runtime::open(options).unwrap();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    runtime.gradients(&built.graph, &built.kinds, &|_| true).unwrap();
                });
            }
        });
    }

    /// How often each operator is in a graph.
    pub fn counts(graph: &Graph) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        graph.nodes.iter().for_each(|node| *counts.entry(node.op.clone()).or_insert(0) += 1);
        counts
    }
}
