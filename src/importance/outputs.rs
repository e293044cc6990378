//! What a model gives, kept on the way of a pass.

use super::contract::Value;
use ndarray::{Axis, Slice};

/// Rows of outputs, sample by sample.
#[derive(Default)]
pub(super) struct Kept {
    pub shape: Vec<usize>,
    pub elements: Vec<f32>,
    /// Too many, or not in float32.
    pub spilt: bool,
}

/// Elements of outputs that are kept at most.
const KEPT: usize = 1 << 26;

impl Kept {
    /// Adds the rows of a batch; without a value, or with too many, nothing is kept any more.
    pub fn add(&mut self, output: Option<&Value>, samples: usize) {
        let rows = match output {
            Some(Value::Single(view)) if view.ndim() > 1 && samples <= view.shape()[0] => {
                self.shape = view.shape()[1..].to_vec();
                Some(view.slice_axis(Axis(0), Slice::from(..samples)))
            }
            _ => None,
        };
        match rows.filter(|rows| self.elements.len() + rows.len() <= KEPT) {
            Some(rows) => self.elements.extend(rows.iter()),
            None => self.spilt = true,
        }
    }
}
