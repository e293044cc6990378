//! Sums over axes and products.

use super::{Tape, broadcast};
use crate::graph::{Name, attribute};

impl Tape {
    /// The sum over axes, which stay with length 1.
    pub fn sum(&mut self, x: &Name, axes: &[usize]) -> Name {
        if axes.is_empty() {
            return x.clone();
        }
        let mut shape = self.shape(x);
        for &axis in axes {
            shape[axis] = 1;
        }
        let axes = self.constant_integers(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), shape);
        self.node("ReduceSum", &[x, &axes], vec![attribute("keepdims", 1)], kind)
    }

    /// The sum over axes as a value of the given shape, which has the other axes in their order, axes of length 1 left
    /// out or not.
    pub fn sum_to(&mut self, x: &Name, axes: &[usize], shape: &[usize]) -> Name {
        let from = self.shape(x);
        let mut rest = shape.iter().copied().peekable();
        let kept = |&i: &usize| !axes.contains(&i) && rest.next_if_eq(&from[i]).is_some();
        let kept: Vec<usize> = (0..from.len()).filter(kept).collect();
        let dropped: Vec<usize> = (0..from.len()).filter(|i| !kept.contains(i)).collect();
        let all = rest.peek().is_none() && dropped.iter().all(|i| axes.contains(i) || from[*i] == 1);
        if axes.is_empty() || !all {
            let sum = self.sum(x, axes);
            return self.reshape(&sum, shape);
        }
        let axes = self.constant_integers(&dropped.iter().map(|&a| a as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), shape.to_vec());
        self.node("ReduceSum", &[x, &axes], vec![attribute("keepdims", 0)], kind)
    }

    /// The mean over axes, which stay with length 1.
    pub fn mean(&mut self, x: &Name, axes: &[usize]) -> Name {
        self.reduction("ReduceMean", x, axes)
    }

    /// The product over axes, which stay with length 1.
    pub fn product(&mut self, x: &Name, axes: &[usize]) -> Name {
        self.reduction("ReduceProd", x, axes)
    }

    /// A reduction whose axes are an attribute before opset 18.
    fn reduction(&mut self, op: &str, x: &Name, axes: &[usize]) -> Name {
        if axes.is_empty() {
            return x.clone();
        }
        let mut shape = self.shape(x);
        axes.iter().for_each(|&axis| shape[axis] = 1);
        let kind = (self.dtype(x), shape);
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let keep = attribute("keepdims", 1);
        if self.graph.opset() < 18 {
            return self.node(op, &[x], vec![attribute("axes", axes), keep], kind);
        }
        let axes = self.constant_integers(&axes);
        self.node(op, &[x, &axes], vec![keep], kind)
    }

    /// A sum of products by its equation, the axes of the operands and of the result being letters.
    pub fn einsum(&mut self, equation: &str, operands: &[&Name], shape: &[usize]) -> Name {
        let kind = (self.dtype(operands[0]), shape.to_vec());
        self.node("Einsum", operands, vec![attribute("equation", equation)], kind)
    }

    /// The matrix product over the last two axes, leading axes broadcast. Both operands have at least two axes.
    pub fn matmul(&mut self, a: &Name, b: &Name) -> Name {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let (la, lb) = (sa.len(), sb.len());
        let mut shape = broadcast(&sa[..la - 2], &sb[..lb - 2]);
        shape.extend([sa[la - 2], sb[lb - 1]]);
        let kind = (self.dtype(a), shape);
        self.node("MatMul", &[a, b], vec![], kind)
    }
}
