//! Writing a model: new weights spliced over old ones, files written whole or not at all, and
//! the comparison of two models.

mod atomic;
mod diff;
mod error;
mod outside;
mod splice;

pub use atomic::{Content, check_output, replace, write_all, write_streamed};
pub use diff::{Diff, TensorDiff, diff};
pub use error::WriteError;
pub use splice::{NewFile, Spliced, splice};
