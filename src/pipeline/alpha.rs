//! The threshold alpha: what makes sense, and a value chosen by the retained behaviour.

use super::forget::Forget;
use super::rewrite::{largest_ratio, rewrite};
use super::sources::{Measured, Reference};
use super::{Error, Opened};
use crate::autograd::Reduction;
use crate::data::DataSet;
use crate::session::Runtime;
use crate::validate::{Comparison, Evaluator, Known, agrees};

/// The threshold on the ratio of importance on the forget set to that on all data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alpha {
    /// The smallest, which forgets most, down to which the retained behaviour is kept: top-1 agreement of at
    /// least [`AUTO_AGREEMENT`] on the retained samples that the new model is checked on.
    Auto,
    Value(f64),
}

/// Agreement on retained samples that an alpha chosen by itself keeps.
pub const AUTO_AGREEMENT: f64 = 0.99;
/// Neighbouring alphas that are tried differ by this factor.
const AUTO_STEP: f64 = 1.05;
/// Alphas that the search passes over at first on its way down; then twice as many each time.
const AUTO_STRIDE: i32 = 6;
/// The search goes by one in so many of the samples first.
const AUTO_PART: usize = 8;

/// # Errors
/// An alpha or lambda that is negative or not a number.
pub(super) fn check_factors(alpha: Alpha, lambda: f64) -> Result<(), Error> {
    match alpha {
        Alpha::Value(a) if !(a.is_finite() && a >= 0.0) => {
            Err(Error::Usage(format!("--alpha must be a number from 0 up, or auto; it is {a}")))
        }
        _ if !(lambda.is_finite() && lambda >= 0.0) => {
            Err(Error::Usage(format!("--lambda must be a number from 0 up; it is {lambda}")))
        }
        _ => Ok(()),
    }
}

/// Refuses before any computation what cannot come to anything.
///
/// # Errors
/// An alpha at or above `|D| / |D_f|`, where no weight can be selected; `auto` without retained data.
pub(super) fn check_possible(job: &Forget, forget: &DataSet, other: Option<&DataSet>) -> Result<(), Error> {
    let Some(other) = other else {
        return match job.alpha {
            Alpha::Auto => Err(Error::Usage(
                "--alpha auto tries alphas on retained data (--retain or --full); with --profile give a number".into(),
            )),
            Alpha::Value(_) => Ok(()),
        };
    };
    let forgotten = forget.len() as u64;
    let full = match job.reference {
        Reference::Retain(_) => other.len() as u64 + forgotten,
        _ => other.len() as u64,
    };
    let most = full as f64 / forgotten as f64;
    match job.alpha {
        Alpha::Value(alpha) if job.settings.reduction == Reduction::Sample && alpha >= most => {
            Err(Error::AlphaTooLarge { alpha, most, full, forget: forgotten })
        }
        _ => Ok(()),
    }
}

/// An alpha, and those above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    Given(f64),
    /// One of a geometric grid, so many steps below its largest.
    Searched {
        highest: f64,
        step: i32,
    },
}

impl Choice {
    pub fn alpha(self) -> f64 {
        match self {
            Choice::Given(alpha) => alpha,
            Choice::Searched { highest, step } => highest / AUTO_STEP.powi(step),
        }
    }

    /// The next one above, where this one was chosen by itself and does not keep the retained behaviour.
    pub fn raised(self, retained: Option<&Comparison>) -> Option<Choice> {
        let lost = retained.is_some_and(|found| found.top1_agreement < AUTO_AGREEMENT);
        match self {
            Choice::Searched { highest, step } if lost && step > 1 => {
                Some(Choice::Searched { highest, step: step - 1 })
            }
            _ => None,
        }
    }
}

/// Finds the alpha of [`Alpha::Auto`] on a geometric grid: down from the largest in strides that double, as long as the
/// behaviour is kept, then by bisection of the last one; a smaller alpha behind one that loses it is not looked for. This goes
/// by some of the retained samples; where it is not to `settle` on one that all of them agree with, the caller
/// [raises](Choice::raised) it as the checks of the new model tell.
pub(super) fn search(
    opened: &Opened,
    measured: &Measured,
    lambda: f64,
    original: &mut Evaluator,
    kept: &mut Known,
    settle: bool,
    runtime: &Runtime,
) -> Result<Choice, Error> {
    let samples = kept.data.len();
    let some = samples.div_ceil(AUTO_PART).max(original.batch);
    let mut undecided = kept.undecided(original, some)?;
    let highest = largest_ratio(&measured.forget, &measured.full).min(1e6);
    // From just below the largest ratio, where next to nothing is selected, down to 1.
    let steps = (highest.max(1.0).ln() / AUTO_STEP.ln()).ceil() as i32;
    let mut keeps = |step: i32, known: &mut Known| -> Result<bool, Error> {
        let alpha = Choice::Searched { highest, step }.alpha();
        let change = rewrite(opened, &measured.forget, &measured.full, alpha, lambda)?;
        let mut after = Evaluator::new(&change.apply(&opened.graph), &known.data, runtime)?;
        Ok(agrees(original, known, &mut after, samples, AUTO_AGREEMENT)?)
    };
    let (mut good, mut bad) = (1, steps.max(1) + 1);
    let mut stride = AUTO_STRIDE;
    while good + stride < bad {
        if keeps(good + stride, &mut undecided)? {
            good += stride
        } else {
            bad = good + stride
        }
        stride *= 2;
    }
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        if keeps(middle, &mut undecided)? { good = middle } else { bad = middle }
    }
    while settle && undecided.data.len() < samples && good > 1 && !keeps(good, kept)? {
        good -= 1;
    }
    Ok(Choice::Searched { highest, step: good })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_alpha_is_raised_while_retained_samples_change() {
        let found = |top1_agreement| Comparison { top1_agreement, ..Comparison::default() };
        let (lost, kept) = (found(0.989), found(0.99));
        let chosen = Choice::Searched { highest: 8.0, step: 2 };
        let raised = chosen.raised(Some(&lost)).unwrap();
        assert_eq!(raised, Choice::Searched { highest: 8.0, step: 1 });
        assert!((raised.alpha() / chosen.alpha() - AUTO_STEP).abs() < 1e-12);
        assert_eq!(raised.raised(Some(&lost)), None, "the largest is the last");
        assert_eq!([chosen.raised(Some(&kept)), chosen.raised(None)], [None, None]);
        assert_eq!(Choice::Given(2.0).raised(Some(&lost)), None);
    }
}
