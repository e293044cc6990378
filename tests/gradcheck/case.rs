//! One gradient check as data.

use crate::numbers::Sampler;

/// Why a case is computed in float32.
pub const NO_F64: &str = "no float64 kernel in ONNX Runtime";

/// What a name in the nodes' text stands for.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An input `[samples, shape…]` with a parameter of this shape added, so that the gradient of the
    /// parameter is that of the operand.
    Activation(Sampler),
    /// An input `[samples, shape…]`, not differentiated.
    Data(Sampler),
    /// A parameter.
    Weight(Sampler),
    /// A constant that is not differentiated.
    Constant(Sampler),
    /// An input `[samples, shape…]` of integers from `-below` to `below - 1`.
    Indices {
        below: usize,
    },
    /// An input `[samples, shape…]` of truth values.
    Choices,
    Integers(Vec<i64>),
    /// A constant of these numbers in the type that the case is computed in.
    Numbers(Vec<f64>),
    /// A one-dimensional constant of these numbers in float32, whatever the case is computed in.
    Singles(Vec<f32>),
    Truths(Vec<bool>),
}

#[derive(Clone, Debug)]
pub struct Operand {
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub kind: Kind,
}

/// Nodes around one operator, their operands, and what is expected of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// The operator whose rule is checked.
    pub op: &'static str,
    /// What this case varies.
    pub what: String,
    pub nodes: String,
    pub operands: Vec<Operand>,
    pub opsets: &'static [i64],
    pub outputs: &'static [&'static str],
    /// Computed in float32 for this reason; in float64 where there is none.
    pub single: Option<&'static str>,
    /// `y` is a polynomial of degree at most two in all parameters together: differences are exact with any step.
    pub polynomial: bool,
    /// Samples cannot be told apart, for this reason: the importance falls back to a batch of one.
    pub mixes: Option<&'static str>,
    /// The embedded runtime cannot run the case, for this reason.
    pub not_in_tract: Option<&'static str>,
}

/// A case at opset 17 in float64 with the output `y`.
pub fn case(op: &'static str, what: impl Into<String>, nodes: impl Into<String>) -> Case {
    Case {
        op,
        what: what.into(),
        nodes: nodes.into(),
        operands: vec![],
        opsets: &[17],
        outputs: &["y"],
        single: None,
        polynomial: false,
        mixes: None,
        not_in_tract: None,
    }
}

const PLAIN: Sampler = Sampler::Uniform(-1.0, 1.0);

impl Case {
    fn operand(mut self, name: &'static str, shape: &[usize], kind: Kind) -> Case {
        self.operands.push(Operand { name, shape: shape.to_vec(), kind });
        self
    }

    pub fn act(self, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Activation(PLAIN))
    }

    pub fn act_in(self, sampler: Sampler, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Activation(sampler))
    }

    pub fn data(self, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Data(PLAIN))
    }

    pub fn weight(self, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Weight(PLAIN))
    }

    pub fn weight_in(self, sampler: Sampler, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Weight(sampler))
    }

    pub fn constant(self, sampler: Sampler, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Constant(sampler))
    }

    /// A scalar constant.
    pub fn number(self, name: &'static str, value: f64) -> Case {
        self.constant(Sampler::Uniform(value, value), name, &[])
    }

    pub fn numbers(self, name: &'static str, values: &[f64], shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Numbers(values.to_vec()))
    }

    pub fn indices(self, name: &'static str, shape: &[usize], below: usize) -> Case {
        self.operand(name, shape, Kind::Indices { below })
    }

    pub fn choices(self, name: &'static str, shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Choices)
    }

    /// A one-dimensional integer constant.
    pub fn ints(self, name: &'static str, values: &[i64]) -> Case {
        self.ints_shaped(name, values, &[values.len()])
    }

    pub fn ints_shaped(self, name: &'static str, values: &[i64], shape: &[usize]) -> Case {
        self.operand(name, shape, Kind::Integers(values.to_vec()))
    }

    /// A one-dimensional constant in float32, whatever the case is computed in.
    pub fn singles(self, name: &'static str, values: &[f32]) -> Case {
        self.operand(name, &[values.len()], Kind::Singles(values.to_vec()))
    }

    pub fn truth(self, name: &'static str, value: bool) -> Case {
        self.operand(name, &[], Kind::Truths(vec![value]))
    }

    /// A one-dimensional constant of truth values.
    pub fn truths(self, name: &'static str, values: &[bool]) -> Case {
        self.operand(name, &[values.len()], Kind::Truths(values.to_vec()))
    }

    /// Nodes before the others.
    pub fn prepend(self, nodes: &str) -> Case {
        Case { nodes: format!("{nodes}; {}", self.nodes), ..self }
    }

    /// A part of the nodes' text written otherwise.
    pub fn replace(self, from: &str, to: &str) -> Case {
        Case { nodes: self.nodes.replacen(from, to, 1), ..self }
    }

    pub fn opsets(self, opsets: &'static [i64]) -> Case {
        Case { opsets, ..self }
    }

    pub fn outputs(self, outputs: &'static [&'static str]) -> Case {
        Case { outputs, ..self }
    }

    pub fn single(self, reason: &'static str) -> Case {
        Case { single: Some(reason), ..self }
    }

    pub fn polynomial(self) -> Case {
        Case { polynomial: true, ..self }
    }

    pub fn not_polynomial(self) -> Case {
        Case { polynomial: false, ..self }
    }

    pub fn mixes(self, reason: &'static str) -> Case {
        Case { mixes: Some(reason), ..self }
    }

    pub fn not_in_tract(self, reason: &'static str) -> Case {
        Case { not_in_tract: Some(reason), ..self }
    }
}
