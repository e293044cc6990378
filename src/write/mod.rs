//! Writing a model: new weights spliced over old ones, files written whole or not at all, and
//! the comparison of two models.

mod atomic;
mod diff;
mod error;
mod outside;
mod splice;

pub use atomic::{check_output, write_all};
pub use diff::{Diff, TensorDiff, diff};
pub use error::WriteError;
pub use splice::{NewFile, Spliced, splice};
