//! `sweep.json` and `sweep.csv`: what every alpha and lambda of a grid does.

use super::{File, Settings, Tool, Validation};
use crate::session::RuntimeInfo;
use crate::validate::Comparison;
use schemars::JsonSchema;
use serde::Serialize;

/// Value of `format`.
pub const FORMAT: &str = "onnx-unlearn.sweep.v1";

/// Forgetting against retention over a grid of alpha and lambda.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Sweep {
    pub format: String,
    pub tool: Tool,
    pub runtime: RuntimeInfo,
    pub inputs: Vec<File>,
    pub settings: Settings,
    pub total_weights: usize,
    /// The largest ratio of importance on the forget set to that on all data: from there up alpha selects nothing.
    /// None where a profile of all data gives no importance to a weight that matters to the forget set.
    pub largest_ratio: Option<f64>,
    /// By alpha, then lambda, both rising.
    pub points: Vec<Point>,
    pub warnings: Vec<String>,
}

/// What one alpha and lambda do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Point {
    pub alpha: f64,
    pub lambda: f64,
    pub selected_weights: usize,
    pub validation: Validation,
}

type Column = (&'static str, fn(&Comparison) -> Option<f64>);
const COLUMNS: [Column; 6] = [
    ("top1_agreement", |c| Some(c.top1_agreement)),
    ("js_divergence", |c| Some(c.js_divergence)),
    ("entropy_before", |c| Some(c.entropy_before)),
    ("entropy_after", |c| Some(c.entropy_after)),
    ("accuracy_before", |c| c.accuracy_before),
    ("accuracy_after", |c| c.accuracy_after),
];

impl Sweep {
    /// One line for each point; a field is empty where there is no number.
    pub fn csv(&self) -> String {
        let titles = |set: &str| COLUMNS.map(|(name, _)| format!(",{set}_{name}")).concat();
        let mut text = format!("alpha,lambda,selected_weights{}{}\n", titles("forget"), titles("retain"));
        for Point { alpha, lambda, selected_weights, validation } in &self.points {
            text += &format!("{alpha},{lambda},{selected_weights}");
            for set in [&validation.forget, &validation.retain] {
                let field = |of: fn(&Comparison) -> Option<f64>| set.as_ref().and_then(of);
                text += &COLUMNS.map(|(_, of)| field(of).map_or(",".into(), |x| format!(",{x}"))).concat();
            }
            text.push('\n');
        }
        text
    }
}

/// The JSON schema of [`Sweep`].
pub fn schema() -> String {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Sweep));
    schema.map(|s| s + "\n").unwrap_or_default()
}
