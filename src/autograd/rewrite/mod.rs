//! Operators written as others that have rules, so that they need no gradient formula of their own. Only the
//! graph that computes is rewritten, never the model.

pub(super) mod attention;
pub(super) mod bert;
pub(super) mod cut;
pub(super) mod einsum;
pub(super) mod fourier;
pub(super) mod fused;
pub(super) mod grid;
mod heads;
pub(super) mod loss;
pub(super) mod normal;
pub(super) mod places;
pub(super) mod recurrent;
pub(super) mod region;
mod rotary;
pub(super) mod running;

use super::{GradError, Tape};
use crate::graph::{Name, Node};

type Values = Result<Vec<Option<Name>>, GradError>;

fn one(value: Name) -> Values {
    Ok(vec![Some(value)])
}
