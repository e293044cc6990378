//! The threshold alpha: what makes sense, and a value chosen by the retained behaviour.

use super::forget::Forget;
use super::rewrite::{largest_ratio, rewrite};
use super::sources::Reference;
use super::{Error, Opened};
use crate::autograd::Reduction;
use crate::data::DataSet;
use crate::importance::Sums;
use crate::session::Runtime;
use crate::validate::{Evaluator, compare};

/// The threshold on the ratio of importance on the forget set to that on all data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alpha {
    /// The smallest, which forgets most, that keeps the retained behaviour: top-1 agreement of at
    /// least [`AUTO_AGREEMENT`] on up to [`AUTO_SAMPLES`] retained samples.
    Auto,
    Value(f64),
}

/// Agreement on retained samples that an alpha chosen by itself keeps.
pub const AUTO_AGREEMENT: f64 = 0.98;
/// Retained samples that an alpha chosen by itself is tried on.
pub const AUTO_SAMPLES: usize = 512;
/// Neighbouring alphas that are tried differ by this factor.
const AUTO_STEP: f64 = 1.05;

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

/// Finds the alpha of [`Alpha::Auto`] by bisection over a geometric grid; agreement is taken to rise with alpha.
pub(super) fn search(
    opened: &Opened,
    forget: &Sums,
    full: &Sums,
    lambda: f64,
    kept: &DataSet,
    runtime: &Runtime,
) -> Result<f64, Error> {
    let step = kept.len().div_ceil(AUTO_SAMPLES).max(1);
    let tried = kept.select(&(0..kept.len()).step_by(step).collect::<Vec<_>>())?;
    let mut before = Evaluator::new(&opened.graph, &tried, runtime)?;
    let highest = largest_ratio(forget, full).min(1e6);
    // From just below the largest ratio, where next to nothing is selected, down to 1.
    let steps = (highest.max(1.0).ln() / AUTO_STEP.ln()).ceil() as i32;
    let at = |i: i32| highest / AUTO_STEP.powi(i);
    let mut keeps = |i: i32| -> Result<bool, Error> {
        let change = rewrite(opened, forget, full, at(i), lambda)?;
        let mut after = Evaluator::new(&change.apply(&opened.graph), &tried, runtime)?;
        Ok(compare(&mut before, &mut after, &tried)?.top1_agreement >= AUTO_AGREEMENT)
    };
    let (mut good, mut bad) = (1, steps.max(1) + 1);
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        if keeps(middle)? { good = middle } else { bad = middle }
    }
    Ok(at(good))
}
