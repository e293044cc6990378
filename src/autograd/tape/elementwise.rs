//! Operators that work element by element.

use super::{Tape, broadcast};
use crate::graph::{Name, attribute};
use crate::tensor::DType;

impl Tape {
    /// An element-wise operator on one operand.
    pub fn unary(&mut self, op: &str, x: &Name) -> Name {
        let kind = (self.dtype(x), self.shape(x));
        self.node(op, &[x], vec![], kind)
    }

    fn binary(&mut self, op: &str, a: &Name, b: &Name) -> Name {
        let kind = (self.dtype(a), broadcast(&self.shape(a), &self.shape(b)));
        self.node(op, &[a, b], vec![], kind)
    }

    pub fn add(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Add", a, b)
    }

    pub fn sub(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Sub", a, b)
    }

    pub fn mul(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Mul", a, b)
    }

    pub fn div(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Div", a, b)
    }

    pub fn pow(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Pow", a, b)
    }

    /// `x` times a number.
    pub fn scale(&mut self, x: &Name, by: f64) -> Name {
        if by == 1.0 {
            return x.clone();
        }
        let by = self.scalar(x, by);
        self.mul(x, &by)
    }

    /// `x` plus a number.
    pub fn shift(&mut self, x: &Name, by: f64) -> Name {
        let by = self.scalar(x, by);
        self.add(x, &by)
    }

    /// A comparison (`Greater`, `Less`, `Equal`, …) of two operands.
    pub fn compare(&mut self, op: &str, a: &Name, b: &Name) -> Name {
        let kind = (DType::Bool, broadcast(&self.shape(a), &self.shape(b)));
        self.node(op, &[a, b], vec![], kind)
    }

    /// Integers that count from the back of axes of these lengths, where they are negative, counted from the front.
    pub fn from_front(&mut self, indices: &Name, lengths: &[usize]) -> Name {
        let zero = self.constant_integers(&[0]);
        let lengths = self.constant_integers(&lengths.iter().map(|&d| d as i64).collect::<Vec<_>>());
        let from_back = self.compare("Less", indices, &zero);
        let wrapped = self.add(indices, &lengths);
        self.select(&from_back, &wrapped, indices)
    }

    /// A comparison of an operand with a number.
    pub fn compare_with(&mut self, op: &str, a: &Name, b: f64) -> Name {
        let b = self.scalar(a, b);
        self.compare(op, a, &b)
    }

    /// `a` where `condition` holds, else `b`.
    pub fn select(&mut self, condition: &Name, a: &Name, b: &Name) -> Name {
        let shape = broadcast(&self.shape(condition), &broadcast(&self.shape(a), &self.shape(b)));
        let kind = (self.dtype(a), shape);
        self.node("Where", &[condition, a, b], vec![], kind)
    }

    /// `a` where `condition` holds, else zero.
    pub fn keep_where(&mut self, condition: &Name, a: &Name) -> Name {
        let zero = self.scalar(a, 0.0);
        self.select(condition, a, &zero)
    }

    pub fn cast(&mut self, x: &Name, to: DType) -> Name {
        if self.dtype(x) == to {
            return x.clone();
        }
        let kind = (to, self.shape(x));
        self.node("Cast", &[x], vec![attribute("to", to.to_onnx() as i64)], kind)
    }
}
