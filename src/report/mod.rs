//! `report.json`: what went in, what was done, what came out. Its schema lies in `docs/report.schema.json`.

pub mod sweep;

use crate::autograd::{Reduction, objective::Objective};
use crate::session::RuntimeInfo;
use crate::validate::{Comparison, Guards};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// Value of `format`.
pub const FORMAT: &str = "onnx-unlearn.report.v1";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The new model was written.
    Written,
    /// Nothing was to be written.
    DryRun,
    /// A guard failed and nothing was written.
    GuardFailed,
    /// A guard failed and the model was written all the same, as was asked.
    Forced,
}

/// A file that was read or written.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct File {
    /// `model`, `forget`, `retain`, `full`, `profile` or `output`.
    pub role: String,
    pub path: PathBuf,
    pub sha256: String,
}

/// The program that ran.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// What importance was computed of, and how.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Settings {
    pub objective: Objective,
    pub reduction: Reduction,
    /// Samples in a batch; none where importance was read from profiles.
    pub batch_size: Option<usize>,
    /// Outputs of the model that the objective is made of.
    pub outputs: Vec<String>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

/// One weight tensor.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: String,
    /// Number of weights.
    pub total: usize,
    /// Number of weights that were dampened.
    pub selected: usize,
    /// Euclidean norms.
    pub norm_before: f64,
    pub norm_after: f64,
    /// Mean importance per weight over the forget set and over all data; none where no output depends on the weight.
    pub importance_forget: Option<f64>,
    pub importance_full: Option<f64>,
    /// `Σ Omega_Df |Δθ|` over the weights of the tensor: to first order, a bound on what dampening it changes
    /// in the objective of a sample of the forget set.
    pub first_order_change: f64,
    /// Change of the outputs on samples of the forget set when this tensor alone is dampened (root mean
    /// square), over the change when all are; none where it was not measured.
    pub output_change: Option<f64>,
}

/// The comparison of both models on each data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Validation {
    pub forget: Option<Comparison>,
    pub retain: Option<Comparison>,
}

/// Everything that a reader needs to judge a rewritten model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    pub format: String,
    pub status: Status,
    pub tool: Tool,
    /// None where nothing had to be run.
    pub runtime: Option<RuntimeInfo>,
    pub inputs: Vec<File>,
    pub output: Option<File>,
    pub settings: Settings,
    /// A weight is selected where its importance on the forget set exceeds alpha times that on all data.
    pub alpha: f64,
    /// Whether alpha was searched for.
    pub alpha_auto: bool,
    pub lambda: f64,
    pub total_weights: usize,
    pub selected_weights: usize,
    pub parameters: Vec<Parameter>,
    pub guards: Guards,
    pub validation: Validation,
    pub warnings: Vec<String>,
}

impl Tool {
    /// This program.
    pub fn this() -> Tool {
        Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// JSON with every control character escaped: above ASCII, JSON itself does not ask for it, a terminal does.
pub fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default();
    let escape = |c: char| match c.is_control() && c != '\n' {
        true => format!("\\u{:04x}", c as u32),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The JSON schema of [`Report`].
pub fn schema() -> String {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report));
    schema.map(|s| s + "\n").unwrap_or_default()
}
