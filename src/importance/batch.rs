//! Batches filled up, cut, and with labels as a graph takes them.

use super::ImportanceError;
use crate::autograd::Backward;
use crate::autograd::objective::ONE_HOT;
use crate::data::Batch;
use crate::session::Feed;
use crate::tensor::Tensor;
use crate::with_array;
use ndarray::{Array2, Axis};
use std::ops::Range;

/// A batch cut into batches of at most so many samples.
pub(crate) fn parts(batch: &Batch, size: usize) -> impl Iterator<Item = Batch> {
    let firsts = (0..batch.samples).step_by(size);
    firsts.map(move |first| part(batch, first..batch.samples.min(first + size)))
}

/// Some samples of a batch.
fn part(batch: &Batch, samples: Range<usize>) -> Batch {
    if samples.len() == batch.samples {
        return batch.clone();
    }
    let rows: Vec<usize> = samples.clone().collect();
    let inputs = batch.inputs.iter().map(|(name, tensor)| {
        let rows = with_array!(tensor, a => Tensor::from(a.select(Axis(0), &rows)));
        (name.clone(), rows)
    });
    let labels = batch.labels.as_ref().map(|labels| labels[samples.clone()].to_vec());
    Batch { inputs: inputs.collect(), labels, samples: samples.len() }
}

/// The inputs of a batch filled up to `size` samples with copies of its last one.
pub(crate) fn padded(batch: &Batch, size: usize) -> Feed {
    let pad = |tensor: &Tensor| {
        with_array!(tensor, a => {
            let rows: Vec<usize> = (0..size).map(|i| i.min(batch.samples.saturating_sub(1))).collect();
            Tensor::from(a.select(Axis(0), &rows))
        })
    };
    batch.inputs.iter().map(|(n, t)| (n.clone(), if batch.samples == size { t.clone() } else { pad(t) })).collect()
}

pub(super) fn one_hot(batch: &Batch, size: usize, backward: &Backward) -> Result<Tensor, ImportanceError> {
    let labels = batch.labels.as_ref().ok_or(ImportanceError::NoLabels)?;
    let classes = backward.kinds.get(ONE_HOT).and_then(|(_, shape)| shape.get(1)).copied().unwrap_or(0);
    let mut rows = Array2::<f32>::zeros((size, classes));
    for (sample, &label) in labels.iter().enumerate() {
        let class = usize::try_from(label).ok().filter(|&c| c < classes);
        let class = class.ok_or(ImportanceError::Label { label, sample, classes })?;
        rows[[sample, class]] = 1.0;
    }
    Ok(Tensor::F32(rows.into_dyn()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn parts_of_a_batch_are_its_samples() {
        let rows = Tensor::F32(ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).into_dyn());
        let batch = Batch { inputs: BTreeMap::from([("x".into(), rows)]), labels: Some(vec![7, 8, 9]), samples: 3 };
        let last = part(&batch, 2..3);
        assert_eq!((last.samples, last.labels), (1, Some(vec![9])));
        assert_eq!(last.inputs["x"].to_f64().unwrap(), ndarray::arr2(&[[5.0, 6.0]]).into_dyn());
        assert_eq!(part(&batch, 0..3).inputs["x"], batch.inputs["x"]);
    }
}
