//! What importance is computed of, and how.

use crate::autograd::objective::Objective;
use crate::autograd::{Power, Reduction};

/// What importance is computed of.
#[derive(Clone, Debug)]
pub struct Settings {
    pub objective: Objective,
    pub reduction: Reduction,
    /// Samples in a batch; chosen by the size of the activations where absent. It changes the result of
    /// the batch reduction alone.
    pub batch_size: Option<usize>,
    /// Add gradients themselves in place of their absolute values (squares for `fisher`).
    pub signed: bool,
    /// Bytes that the process may take; a share of what is free where absent.
    pub memory: Option<u64>,
    /// Passes whose sums are in memory at the same time.
    pub passes: usize,
    /// Where contractions are computed; in the graph on a GPU and in kernels of our own on the CPU where absent.
    pub lowering: Option<Lowering>,
}

/// Where weights' gradients are contracted and added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// In fused kernels on the CPU, in float64 from batch to batch.
    Kernels,
    /// In standard operators of the graph; the sums stay on the runtime's device, in float32, and are added to float64
    /// every so many batches. Where a contraction has no such form, the kernels do it.
    Graph,
}

impl Default for Settings {
    fn default() -> Self {
        let (objective, reduction) = (Objective::SquaredL2, Reduction::Sample);
        Settings { objective, reduction, batch_size: None, signed: false, memory: None, passes: 1, lowering: None }
    }
}

impl Settings {
    /// What is taken of a gradient before it is added.
    pub(super) fn power(&self) -> Power {
        match (self.signed, self.objective) {
            (true, _) => Power::Signed,
            (false, Objective::Fisher) => Power::Square,
            (false, _) => Power::Absolute,
        }
    }
}
