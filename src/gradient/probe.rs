//! Values for the inputs of a model, made up: enough to see the shapes of everything it computes.

use crate::error::{Kind, printable};
use crate::graph::{Graph, Input};
use crate::session::Feed;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// Shapes of inputs by name, the axis of the samples included; its entry is not read.
pub type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(
        "the model leaves dimension {axis} of input '{name}' open; give the shape with --shape '{name}=1,…' or data with --data"
    )]
    Open { name: String, axis: usize },
    #[error("--shape {name}: the input has {expected} dimensions, not {found}")]
    Rank { name: String, expected: usize, found: usize },
    #[error("--shape {name}: the model fixes dimension {axis} at {expected}")]
    Fixed { name: String, axis: usize, expected: usize },
    #[error("--shape {name}: the model has no such input; it has: {known}")]
    Unknown { name: String, known: String },
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

impl ProbeError {
    pub fn kind(&self) -> Kind {
        match self {
            ProbeError::Data(e) => e.kind(),
            _ => Kind::Usage,
        }
    }
}

/// Made-up values for a batch of so many samples: numbers from 0 to 1, ones for integers and truth values. Open
/// dimensions besides the first are taken from `shapes`.
///
/// # Errors
/// A dimension that nothing tells, a shape that does not fit.
pub fn probe(graph: &Graph, batch: usize, shapes: &Shapes) -> Result<Feed, ProbeError> {
    let known = |name: &String| graph.inputs.iter().any(|i| *i.name == **name);
    if let Some(name) = shapes.keys().find(|name| !known(name)) {
        let known = graph.inputs.iter().map(|i| printable(&i.name)).collect::<Vec<_>>().join(", ");
        return Err(ProbeError::Unknown { name: printable(name), known });
    }
    let made = |input: &Input| {
        let shape = shape(input, batch, shapes.get(&*input.name))?;
        Ok((input.name.to_string(), numbers(&(input.dtype, shape))))
    };
    graph.inputs.iter().map(made).collect()
}

fn shape(input: &Input, batch: usize, given: Option<&Vec<usize>>) -> Result<Vec<usize>, ProbeError> {
    let name = || printable(&input.name);
    if let Some(given) = given
        && given.len() != input.shape.len()
    {
        return Err(ProbeError::Rank { name: name(), expected: input.shape.len(), found: given.len() });
    }
    let at = |(axis, fixed): (usize, &Option<usize>)| match (fixed, given.map(|g| g[axis])) {
        (None, _) if axis == 0 => Ok(batch),
        (Some(fixed), Some(given)) if axis > 0 && *fixed != given => {
            Err(ProbeError::Fixed { name: name(), axis, expected: *fixed })
        }
        (Some(fixed), _) => Ok(*fixed),
        (None, Some(given)) => Ok(given),
        (None, None) => Err(ProbeError::Open { name: name(), axis }),
    };
    input.shape.iter().enumerate().map(at).collect()
}

/// Numbers that look random, the same at every call.
pub(super) fn numbers((dtype, shape): &(DType, Vec<usize>)) -> Tensor {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let ones = |_: ndarray::Dim<ndarray::IxDynImpl>| 1.0;
    let shape = ndarray::IxDyn(shape);
    let values = match dtype.is_float() {
        true => ndarray::ArrayD::from_shape_simple_fn(shape, &mut next),
        false => ndarray::ArrayD::from_shape_fn(shape, ones),
    };
    Tensor::from_f64(*dtype, values)
}
