//! From a case to a graph, its parameters and its data.

use crate::case::{Case, Kind, Operand};
use crate::numbers::{Random, Sampler};
use crate::parse;
use crate::problem::{Problem, floats, node, sample};
use onnx_unlearn::graph::{Graph, Input};
use onnx_unlearn::session::{Feed, Kinds, Runtime};
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Samples in a case's data.
pub const SAMPLES: usize = 3;

impl Problem {
    /// A case in one floating-point type at one opset. Each output is weighed element by element, so that
    /// no rule is hidden by a symmetry of the norm.
    pub fn new(case: &Case, opset: i64, dtype: DType, runtime: &Runtime) -> Result<Problem, String> {
        let mut builder = Builder {
            random: Random::named(&format!("{} {}", case.op, case.what)),
            dtype,
            problem: Problem { graph: empty(opset), parameters: BTreeSet::new(), feed: Feed::new() },
        };
        case.operands.iter().for_each(|operand| builder.operand(operand));
        builder.problem.graph.nodes.extend(parse::nodes(&case.nodes));
        builder.problem.graph.outputs = case.outputs.iter().map(|&o| o.into()).collect();
        builder.weigh(case, runtime)?;
        Ok(builder.problem)
    }
}

fn empty(opset: i64) -> Graph {
    Graph {
        nodes: vec![],
        constants: BTreeMap::new(),
        inputs: vec![],
        outputs: vec![],
        opsets: BTreeMap::from([(String::new(), opset), ("ai.onnx.ml".into(), 1), ("com.microsoft".into(), 1)]),
        ir_version: if opset > 20 { 10 } else { 8 },
    }
}

struct Builder {
    random: Random,
    dtype: DType,
    problem: Problem,
}

impl Builder {
    fn operand(&mut self, operand: &Operand) {
        let Operand { name, shape, kind } = operand;
        let count = shape.iter().product();
        match kind {
            Kind::Activation(sampler) => {
                let (input, parameter) = (format!("{name}_data"), format!("{name}_shift"));
                self.floats_in(*sampler, &input, shape);
                self.constant(&parameter, floats(self.dtype, shape, vec![0.0; count]));
                self.problem.parameters.insert(parameter.as_str().into());
                self.problem.graph.nodes.push(node("Add", &[&input, &parameter], name));
            }
            Kind::Data(sampler) => self.floats_in(*sampler, name, shape),
            Kind::Weight(sampler) | Kind::Constant(sampler) => {
                let values = self.random.draw(*sampler, count);
                self.constant(name, floats(self.dtype, shape, values));
                if matches!(kind, Kind::Weight(_)) {
                    self.problem.parameters.insert((*name).into());
                }
            }
            Kind::Indices { below } => {
                let draw = |random: &mut Random| random.below(2 * below) as i64 - *below as i64;
                let values = (0..SAMPLES * count).map(|_| draw(&mut self.random)).collect::<Vec<i64>>();
                self.input(name, Tensor::new(&batched(shape), values));
            }
            Kind::Choices => {
                let values = (0..SAMPLES * count).map(|_| self.random.below(2) == 1).collect::<Vec<bool>>();
                self.input(name, Tensor::new(&batched(shape), values));
            }
            Kind::Integers(values) => self.constant(name, Tensor::new(shape, values.clone()).expect("integers")),
            Kind::Numbers(values) => self.constant(name, floats(self.dtype, shape, values.clone())),
            Kind::Singles(values) => self.constant(name, Tensor::new(shape, values.clone()).expect("numbers")),
            Kind::Truths(values) => self.constant(name, Tensor::new(shape, values.clone()).expect("truth values")),
        }
    }

    fn floats_in(&mut self, sampler: Sampler, name: &str, shape: &[usize]) {
        let shape = batched(shape);
        let values = self.random.draw(sampler, shape.iter().product());
        self.input(name, Some(floats(self.dtype, &shape, values)));
    }

    fn input(&mut self, name: &str, tensor: Option<Tensor>) {
        let tensor = tensor.expect("as many values as the shape has elements");
        let shape = tensor.shape().iter().enumerate().map(|(i, &d)| (i > 0).then_some(d)).collect();
        self.problem.graph.inputs.push(Input { name: name.into(), dtype: tensor.dtype(), shape });
        self.problem.feed.insert(name.into(), tensor);
    }

    fn constant(&mut self, name: &str, tensor: Tensor) {
        self.problem.graph.constants.insert(name.into(), Arc::new(tensor));
    }

    /// Multiplies each output by numbers from 0.5 to 1.5, the same for all samples: one for each place whose
    /// axis does not grow with the batch.
    fn weigh(&mut self, case: &Case, runtime: &Runtime) -> Result<(), String> {
        let graph = &self.problem.graph;
        let run = |feed: &Feed| {
            let mut session = runtime.session(graph, &Kinds::new()).map_err(|e| e.to_string())?;
            session.run(feed).map_err(|e| e.to_string())
        };
        let (many, one) = (run(&self.problem.feed)?, run(&sample(&self.problem.feed, 0))?);
        for (&output, (many, one)) in case.outputs.iter().zip(many.iter().zip(&one)) {
            let dims = many.shape().iter().zip(one.shape());
            let shape: Vec<usize> = dims.map(|(a, b)| if a == b { *a } else { 1 }).collect();
            let values = self.random.draw(Sampler::Uniform(0.5, 1.5), shape.iter().product());
            let (weight, weighed) = (format!("{output}_weight"), format!("{output}_weighed"));
            self.constant(&weight, floats(many.dtype(), &shape, values));
            self.problem.graph.nodes.push(node("Mul", &[output, &weight], &weighed));
        }
        self.problem.graph.outputs = case.outputs.iter().map(|o| format!("{o}_weighed").into()).collect();
        Ok(())
    }
}

fn batched(shape: &[usize]) -> Vec<usize> {
    [&[SAMPLES], shape].concat()
}
