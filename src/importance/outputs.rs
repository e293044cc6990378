//! What a model gives, kept on the way of a pass.

use super::contract::Value;

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
            Some(Value::Single(shape, elements)) if shape.len() > 1 => {
                self.shape = shape[1..].to_vec();
                elements.get(..samples * self.shape.iter().product::<usize>())
            }
            _ => None,
        };
        match rows.filter(|rows| self.elements.len() + rows.len() <= KEPT) {
            Some(rows) => self.elements.extend(rows),
            None => self.spilt = true,
        }
    }
}
