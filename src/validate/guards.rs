//! Conditions that a new model must meet before it may be deployed.

use super::metrics::Comparison;
use super::second::Verdict;
use crate::tensor::Tensor;

/// Limits of the guards.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Least top-1 agreement with the original on the retain set.
    pub retained_agreement: f64,
    /// Largest difference of the two runtimes, relative to the largest output.
    pub runtimes: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { retained_agreement: 0.95, runtimes: 1e-3 }
    }
}

/// One condition and what was found.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Guard {
    pub name: String,
    /// What was measured; none where it could not be.
    pub value: Option<f64>,
    pub limit: f64,
    /// None where the condition could not be checked.
    pub passed: Option<bool>,
    /// What the numbers mean, or why there are none.
    pub note: String,
}

impl Guard {
    /// The condition with its numbers, for a message.
    pub fn describe(&self) -> String {
        let value = self.value.map_or("unknown".into(), |v| format!("{v:.4}"));
        format!("{} is {value}, limit {} ({})", self.name, self.limit, self.note)
    }
}

/// All conditions.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Guards(pub Vec<Guard>);

impl Guards {
    /// Whether a condition was checked and not met.
    pub fn failed(&self) -> impl Iterator<Item = &Guard> {
        self.0.iter().filter(|g| g.passed == Some(false))
    }

    /// The retained behaviour is kept.
    pub fn retained(&mut self, found: Option<&Comparison>, limits: &Limits) {
        self.0.push(Guard {
            name: "retained_agreement".into(),
            value: found.map(|c| c.top1_agreement),
            limit: limits.retained_agreement,
            passed: found.map(|c| c.top1_agreement >= limits.retained_agreement),
            note: match found {
                Some(_) => "share of retained samples with the same largest output as before".into(),
                None => "no retained data was given".into(),
            },
        });
    }

    /// A second runtime gives the same outputs.
    pub fn runtimes(&mut self, verdict: &Verdict, limits: &Limits) {
        let (value, passed, note) = match verdict {
            Verdict::Compared { difference, same_top1 } => {
                let agrees = *difference <= limits.runtimes && *same_top1;
                let top = if *same_top1 { "" } else { ", and the largest outputs differ" };
                (Some(*difference), Some(agrees), format!("largest difference relative to the largest output{top}"))
            }
            Verdict::NotCheckable(reason) => (None, None, format!("not checkable: {reason}")),
        };
        self.0.push(Guard { name: "runtimes_agree".into(), value, limit: limits.runtimes, passed, note });
    }

    /// Every weight is a finite number.
    pub fn finite<'a>(&mut self, weights: impl Iterator<Item = (&'a str, &'a Tensor)>) {
        let bad: Vec<&str> = weights.filter(|(_, t)| t.first_not_finite().is_some()).map(|(name, _)| name).collect();
        self.0.push(Guard {
            name: "weights_finite".into(),
            value: Some(bad.len() as f64),
            limit: 0.0,
            passed: Some(bad.is_empty()),
            note: match bad.first() {
                Some(name) => format!("'{}' holds NaN or infinity", crate::error::printable(name)),
                None => "weight tensors that hold NaN or infinity".into(),
            },
        });
    }

    /// Something was selected.
    pub fn selected(&mut self, selected: usize) {
        self.0.push(Guard {
            name: "something_selected".into(),
            value: Some(selected as f64),
            limit: 1.0,
            passed: Some(selected > 0),
            note: "weights that were dampened".into(),
        });
    }
}
