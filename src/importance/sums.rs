//! Sums of importance and the number of what was summed.

use super::ImportanceError;
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// For each weight the sum over samples (or batches) of its importance, and their number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// By initializer, in its shape.
    pub weights: BTreeMap<String, ArrayD<f64>>,
    /// Samples, or batches for the batch reduction.
    pub count: u64,
}

impl Sums {
    /// The sums over two disjoint sets together.
    ///
    /// # Errors
    /// They are not of the same weights.
    pub fn merge(&self, other: &Sums) -> Result<Sums, ImportanceError> {
        let mut sums = self.clone();
        sums.add(other)?;
        Ok(sums)
    }

    /// Adds the sums over another, disjoint set.
    ///
    /// # Errors
    /// They are not of the same weights; `self` is then good for nothing.
    pub fn add(&mut self, other: &Sums) -> Result<(), ImportanceError> {
        let list = |sums: &Sums| sums.weights.keys().cloned().collect::<Vec<_>>().join(", ");
        if self.weights.keys().ne(other.weights.keys()) {
            return Err(ImportanceError::Mismatch { what: "the list of weights", a: list(self), b: list(other) });
        }
        for (total, sum) in self.weights.values_mut().zip(other.weights.values()) {
            if total.shape() != sum.shape() {
                let (a, b) = (format!("{:?}", total.shape()), format!("{:?}", sum.shape()));
                return Err(ImportanceError::Mismatch { what: "the shape of a weight", a, b });
            }
            *total += sum;
        }
        self.count += other.count;
        Ok(())
    }

    /// Importance itself, `Omega = sum / count`; none for a weight that is not there.
    pub fn mean(&self, name: &str) -> Option<ArrayD<f64>> {
        let count = self.count.max(1) as f64;
        self.weights.get(name).map(|sum| sum / count)
    }

    /// # Errors
    /// A sum that is NaN or infinite.
    pub fn check_finite(&self) -> Result<(), ImportanceError> {
        for (name, sum) in &self.weights {
            if let Some((index, &value)) = sum.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return Err(ImportanceError::NotFinite { name: crate::error::printable(name), index, value });
            }
        }
        Ok(())
    }
}
