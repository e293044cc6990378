//! What a weight's gradient is made of: values of the backward graph and how they are contracted.

use crate::graph::Name;
use crate::specialise::samples::SampleAxis;
use std::sync::Arc;

/// A value of the backward graph that a contraction reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    pub name: Name,
    pub shape: Vec<usize>,
    /// Where the samples lie; none in a batch of one, where everything belongs to the one sample.
    pub samples: Option<SampleAxis>,
}

/// Geometry of a convolution over any number of spatial axes, padding made explicit.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvGeometry {
    pub group: usize,
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Padding before each spatial axis.
    pub pads: Vec<usize>,
}

/// The gradient of a weight for one sample, from the sample's part of the operands.
#[derive(Clone, Debug, PartialEq)]
pub enum Contraction {
    /// `sum over rows r of left[r, :]ᵀ right[r, :]`: shape `[left columns, right columns]`.
    Product { left: Operand, right: Operand },
    /// Shape `[output channels, input channels / group, kernel…]`.
    Conv { x: Operand, dy: Operand, geometry: ConvGeometry },
    /// Rows of `dy` added at `indices`: shape `[rows, …]`.
    Rows { indices: Operand, dy: Operand, rows: usize },
    /// The sum over the samples' axis of what belongs to the sample, reshaped to `shape`. Every other axis
    /// is already reduced.
    Sum { dy: Operand, shape: Vec<usize> },
}

impl Contraction {
    pub fn operands(&self) -> Vec<&Operand> {
        match self {
            Contraction::Product { left, right } => vec![left, right],
            Contraction::Conv { x, dy, .. } => vec![x, dy],
            Contraction::Rows { indices, dy, .. } => vec![indices, dy],
            Contraction::Sum { dy, .. } => vec![dy],
        }
    }

    pub fn operands_mut(&mut self) -> Vec<&mut Operand> {
        match self {
            Contraction::Product { left, right } => vec![left, right],
            Contraction::Conv { x, dy, .. } => vec![x, dy],
            Contraction::Rows { indices, dy, .. } => vec![indices, dy],
            Contraction::Sum { dy, .. } => vec![dy],
        }
    }
}

/// A step on the way from a parameter to its use that moves or picks elements and changes none.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// The same elements in the same order.
    Reshape {
        from: Vec<usize>,
        to: Vec<usize>,
    },
    Permute(Vec<usize>),
    /// The elements at these flat positions of a value of shape `from`, any number of times each.
    Pick {
        from: Vec<usize>,
        to: Vec<usize>,
        positions: Arc<[usize]>,
    },
}

/// One use of a parameter: the contraction gives the gradient of the parameter seen through `views`,
/// the first of which is nearest to the parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub contraction: Contraction,
    pub views: Vec<View>,
}

/// What of a sample's gradient is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// `|g|`
    Absolute,
    /// `g²`
    Square,
    /// `g` itself
    Signed,
}

impl Power {
    /// The power of a number.
    pub fn apply(self, g: f64) -> f64 {
        match self {
            Power::Absolute => g.abs(),
            Power::Square => g * g,
            Power::Signed => g,
        }
    }
}
