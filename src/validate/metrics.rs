//! Numbers that compare the outputs of two models on the same samples.

use ndarray::{ArrayD, ArrayView1, Axis};

/// How a new model differs from the original on one data set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Comparison {
    /// Number of samples.
    pub samples: usize,
    /// Share of rows (a row is one set of class scores) with the same largest output.
    pub top1_agreement: f64,
    /// Mean Jensen-Shannon divergence of the class probabilities, in bits: 0 the same, 1 disjoint.
    pub js_divergence: f64,
    /// Mean entropy of the class probabilities, in bits.
    pub entropy_before: f64,
    pub entropy_after: f64,
    /// Share of samples whose largest output is the label, where labels were given.
    pub accuracy_before: Option<f64>,
    pub accuracy_after: Option<f64>,
}

/// Sums from which a [`Comparison`] is made.
#[derive(Default)]
pub(super) struct Tally {
    samples: usize,
    rows: usize,
    agreed: usize,
    divergence: f64,
    entropy: [f64; 2],
    labelled: usize,
    right: [usize; 2],
}

impl Tally {
    /// Adds the outputs of both models for some samples, classes on `axis`.
    pub(super) fn add(&mut self, before: &ArrayD<f64>, after: &ArrayD<f64>, axis: usize, labels: Option<&[i64]>) {
        self.samples += before.shape()[0];
        for (a, b) in before.lanes(Axis(axis)).into_iter().zip(after.lanes(Axis(axis))) {
            let (p, q) = (probabilities(a), probabilities(b));
            self.rows += 1;
            self.agreed += (largest(a) == largest(b)) as usize;
            self.divergence += js_divergence(&p, &q);
            self.entropy[0] += entropy(&p);
            self.entropy[1] += entropy(&q);
        }
        if let (Some(labels), 2) = (labels, before.ndim()) {
            for (i, &label) in labels.iter().enumerate() {
                let of = |a: &ArrayD<f64>| largest(a.index_axis(Axis(0), i));
                self.labelled += 1;
                self.right[0] += (of(before) as i64 == label) as usize;
                self.right[1] += (of(after) as i64 == label) as usize;
            }
        }
    }

    /// Rows with another largest output.
    pub(super) fn differing(&self) -> f64 {
        (self.rows - self.agreed) as f64
    }

    pub(super) fn rows_per_sample(&self) -> f64 {
        self.rows as f64 / self.samples.max(1) as f64
    }

    pub(super) fn finish(self) -> Comparison {
        let rows = self.rows.max(1) as f64;
        let accuracy = |right: usize| (self.labelled > 0).then(|| right as f64 / self.labelled as f64);
        Comparison {
            samples: self.samples,
            top1_agreement: self.agreed as f64 / rows,
            js_divergence: self.divergence / rows,
            entropy_before: self.entropy[0] / rows,
            entropy_after: self.entropy[1] / rows,
            accuracy_before: accuracy(self.right[0]),
            accuracy_after: accuracy(self.right[1]),
        }
    }
}

/// Position of the first largest element.
fn largest<'a>(row: impl IntoIterator<Item = &'a f64>) -> usize {
    row.into_iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0
}

/// Class probabilities: the row itself where it is a distribution already, else its softmax.
fn probabilities(row: ArrayView1<f64>) -> Vec<f64> {
    let total: f64 = row.sum();
    if row.iter().all(|&x| (0.0..=1.0).contains(&x)) && (total - 1.0).abs() < 1e-3 {
        return row.to_vec();
    }
    let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - highest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / total).collect()
}

/// `-Σ p log₂ p`.
fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|&&x| x > 0.0).map(|x| -x * x.log2()).sum()
}

/// `H((p + q) / 2) - (H(p) + H(q)) / 2` in bits.
fn js_divergence(p: &[f64], q: &[f64]) -> f64 {
    let middle: Vec<f64> = p.iter().zip(q).map(|(a, b)| (a + b) / 2.0).collect();
    (entropy(&middle) - (entropy(p) + entropy(q)) / 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_zero_for_equal_and_one_for_disjoint() {
        assert_eq!(js_divergence(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        assert!((js_divergence(&[1.0, 0.0], &[0.0, 1.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn tally_counts_rows_and_labels() {
        let before = ndarray::arr2(&[[2.0, 1.0], [0.0, 3.0]]).into_dyn();
        let after = ndarray::arr2(&[[1.0, 2.0], [0.0, 3.0]]).into_dyn();
        let mut tally = Tally::default();
        tally.add(&before, &after, 1, Some(&[0, 1]));
        let found = tally.finish();
        assert_eq!((found.samples, found.top1_agreement), (2, 0.5));
        assert_eq!((found.accuracy_before, found.accuracy_after), (Some(1.0), Some(0.5)));
    }

    #[test]
    fn uniform_probabilities_have_full_entropy() {
        let p = probabilities(ndarray::arr1(&[0.3, 0.3, 0.3, 0.3]).view());
        assert!((entropy(&p) - 2.0).abs() < 1e-12);
    }
}
