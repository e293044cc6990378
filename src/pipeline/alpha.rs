//! The threshold alpha: what makes sense, and a value chosen by the retained behaviour.

use super::forget::Forget;
use super::rewrite::largest_ratio;
use super::sources::{Measured, Reference};
use super::{Error, Opened};
use crate::autograd::Reduction;
use crate::data::DataSet;
use crate::session::Runtime;
use crate::validate::{Evaluator, Known, agrees};

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

/// The search for the alpha of [`Alpha::Auto`] on a geometric grid, from just below the largest ratio, where next to
/// nothing is selected, down to 1. Where one alpha loses the retained behaviour, smaller ones are not looked at.
pub(super) struct Search<'a> {
    opened: &'a Opened,
    measured: &'a Measured,
    lambda: f64,
    runtime: &'a Runtime,
    highest: f64,
}

impl<'a> Search<'a> {
    pub fn new(opened: &'a Opened, measured: &'a Measured, lambda: f64, runtime: &'a Runtime) -> Search<'a> {
        let highest = runtime.pool().install(|| largest_ratio(&measured.forget, &measured.full)).min(1e6);
        Search { opened, measured, lambda, runtime, highest }
    }

    /// The alpha so many steps down.
    pub fn alpha(&self, step: i32) -> f64 {
        self.highest / AUTO_STEP.powi(step)
    }

    /// The lowest step at which the behaviour is kept as far as those samples tell that the original is least decided
    /// on: down in strides that double, then by bisection of the last one.
    pub fn on_undecided(&self, original: &mut Evaluator, kept: &mut Known) -> Result<i32, Error> {
        let samples = kept.data.len();
        let mut some = kept.undecided(original, samples.div_ceil(AUTO_PART).max(original.batch))?;
        let steps = (self.highest.max(1.0).ln() / AUTO_STEP.ln()).ceil() as i32;
        let (mut good, mut bad, mut stride) = (1, steps.max(1) + 1, AUTO_STRIDE);
        while good + stride < bad {
            if self.keeps(good + stride, original, &mut some, samples)? {
                good += stride
            } else {
                bad = good + stride
            }
            stride *= 2;
        }
        self.between(good, bad, original, &mut some, samples)
    }

    /// The lowest step from `step` up at which the behaviour is kept on all samples: itself, or by bisection.
    pub fn on_all(&self, step: i32, original: &mut Evaluator, kept: &mut Known) -> Result<i32, Error> {
        let samples = kept.data.len();
        match self.keeps(step, original, kept, samples)? {
            true => Ok(step),
            false => self.between(1, step, original, kept, samples),
        }
    }

    /// The lowest step above `bad`, by bisection from `good` on.
    fn between(
        &self,
        mut good: i32,
        mut bad: i32,
        original: &mut Evaluator,
        known: &mut Known,
        samples: usize,
    ) -> Result<i32, Error> {
        while bad - good > 1 {
            let middle = (good + bad) / 2;
            if self.keeps(middle, original, known, samples)? { good = middle } else { bad = middle }
        }
        Ok(good)
    }

    /// Whether the behaviour is kept among `samples` samples, if those beside the known ones do not change.
    fn keeps(&self, step: i32, original: &mut Evaluator, known: &mut Known, samples: usize) -> Result<bool, Error> {
        let Search { opened, measured, lambda, runtime, .. } = *self;
        let change = measured.rewrite(opened, self.alpha(step), lambda, runtime)?;
        let mut after = Evaluator::new(&change.apply(&opened.graph), &known.data, runtime)?;
        Ok(agrees(original, known, &mut after, samples, AUTO_AGREEMENT)?)
    }
}
