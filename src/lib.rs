//! Makes an exported ONNX model forget some of its training data, without the framework that trained it,
//! without labels and without retraining.
//!
//! The stages are plain functions over plain values; [`pipeline`] composes them, and the command
//! `onnx-unlearn` is a thin layer over it.
//!
//! ```
//! use onnx_unlearn::importance::{Importance, Settings};
//! use onnx_unlearn::pipeline::{Common, open, rewrite};
//! use onnx_unlearn::session::{Runtime, RuntimeOptions};
//! use onnx_unlearn::write::splice;
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let common = Common::default();
//! let runtime = Runtime::open(RuntimeOptions::default())?;
//! // Read and check the model, choose its weights, open the data.
//! let opened = open(Path::new("models/resnet18_torchscript.onnx"), &common)?;
//! let forget = opened.data(Path::new("fixtures/digits/test_forget.npz"), &common)?;
//! let retain = opened.data(Path::new("fixtures/digits/test_retain.npz"), &common)?;
//! # let retain = retain.select(&(0..60).collect::<Vec<_>>())?;
//! // Importance of every weight over both sets.
//! let mut importance = Importance::new(&runtime, &opened.graph, &opened.weights, Settings::default())?;
//! let forget = importance.run(&forget, |_| ())?;
//! let full = importance.run(&retain, |_| ())?.merge(&forget)?;
//! // Dampen what matters more to the forget set than to all data, and put the new bytes in place.
//! let change = rewrite(&opened, &forget, &full, 1.5, 1.0)?;
//! let new_model = splice(&opened.model, &change.tensors)?.model;
//! assert_eq!(new_model.len(), opened.model.bytes().len());
//! # assert!(change.selected > 0);
//! # Ok(())
//! # }
//! ```

pub mod autograd;
pub mod dampen;
pub mod data;
pub mod error;
pub mod gradient;
pub mod graph;
pub mod importance;
mod kernels;
pub mod model;
pub mod pipeline;
pub mod report;
pub mod session;
pub mod specialise;
pub mod tensor;
pub mod validate;
pub mod write;
