//! Regions of images resampled to one size.

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use ndarray::Array3;

/// `y = Wᵥ x Wₕᵀ` for each region of an image: matrices that interpolate along the vertical and the horizontal axis.
pub(crate) fn align(node: &Node, tape: &mut Tape) -> Values {
    if let Some(mode @ "max") = node.string("mode") {
        return Err(GradError::unsupported(node, format!("mode is {mode}")));
    }
    let (x, regions, images) = (node.required(0)?, node.required(1)?, node.required(2)?);
    let (from, to) = (tape.shape(x), tape.shape(node.output()?));
    let ([height, width], [rows, columns]) = ([from[2], from[3]], [to[2], to[3]]);
    let vertical = weights(node, tape, regions, 1, height, rows)?;
    let horizontal = weights(node, tape, regions, 0, width, columns)?;
    let kind = (tape.dtype(x), vec![to[0], from[1], height, width]);
    let picked = tape.node("Gather", &[x, images], vec![attribute("axis", 0)], kind);
    let value = tape.matmul(&vertical, &picked);
    let horizontal = tape.swap_last(&horizontal);
    one(tape.matmul(&value, &horizontal))
}

/// The weight of each place along an axis in each bin of each region, `[regions, 1, bins, length]`: the mean over
/// the samples of a bin of `max(0, 1 - |sample - place|)`, zero for samples more than one place outside.
fn weights(
    node: &Node,
    tape: &mut Tape,
    regions: &Name,
    column: usize,
    length: usize,
    bins: usize,
) -> Result<Name, GradError> {
    let half_pixel = match node.string("coordinate_transformation_mode") {
        Some(mode) => mode == "half_pixel",
        None => tape.graph.opset() >= 16,
    };
    let (regions_count, dtype) = (tape.shape(regions)[0], tape.dtype(regions));
    let scale = f64::from(node.float("spatial_scale").unwrap_or(1.0));
    let edge = |tape: &mut Tape, column: usize| {
        let edge = tape.slice(regions, 1, column, column + 1);
        let edge = tape.reshape(&edge, &[regions_count, 1, 1]);
        let edge = tape.scale(&edge, scale);
        tape.shift(&edge, if half_pixel { -0.5 } else { 0.0 })
    };
    let (start, end) = (edge(tape, column), edge(tape, column + 2));
    let mut size = tape.sub(&end, &start);
    if !half_pixel {
        let (one, kind) = (tape.scalar(&size, 1.0), (dtype, tape.shape(&size)));
        size = tape.node("Max", &[&size, &one], vec![], kind);
    }
    let bin = tape.scale(&size, 1.0 / bins as f64);
    let counts = counts(node, tape, regions, column, |extent| {
        let size = extent * scale;
        (if half_pixel { size } else { size.max(1.0) }) / bins as f64
    })?;
    let most = counts.iter().fold(0.0, |most: f64, &count| most.max(count)) as usize;
    let constant = |tape: &mut Tape, shape: [usize; 3], value: &dyn Fn(usize, usize, usize) -> f64| {
        tape.constant_floats(dtype, Array3::from_shape_fn(shape, |(r, b, i)| value(r, b, i)).into_dyn())
    };
    let parts = constant(tape, [regions_count, 1, most], &|r, _, i| (i as f64 + 0.5) / counts[r].max(1.0));
    let before = constant(tape, [1, bins, 1], &|_, b, _| b as f64);
    let share = constant(tape, [regions_count, 1, most], &|r, _, i| {
        if (i as f64) < counts[r] { 1.0 / counts[r] } else { 0.0 }
    });
    let places = tape.add(&before, &parts);
    let places = tape.mul(&places, &bin);
    let samples = tape.add(&places, &start);
    let (after, until) = (
        tape.compare_with("GreaterOrEqual", &samples, -1.0),
        tape.compare_with("LessOrEqual", &samples, length as f64),
    );
    let share = tape.keep_where(&after, &share);
    let share = tape.keep_where(&until, &share);
    let (low, high) = (tape.scalar(&samples, 0.0), tape.scalar(&samples, length as f64 - 1.0));
    let kind = (dtype, tape.shape(&samples));
    let inside = tape.node("Clip", &[&samples, &low, &high], vec![], kind);
    let apart = |tape: &mut Tape, value: &Name| tape.reshape(value, &[regions_count, bins, most, 1]);
    let (inside, share) = (apart(tape, &inside), apart(tape, &share));
    let axis = constant(tape, [1, 1, length], &|_, _, i| i as f64);
    let distance = tape.sub(&inside, &axis);
    let distance = tape.unary("Abs", &distance);
    let closeness = tape.unary("Neg", &distance);
    let closeness = tape.shift(&closeness, 1.0);
    let closeness = tape.unary("Relu", &closeness);
    let weight = tape.mul(&closeness, &share);
    let total = tape.sum(&weight, &[2]);
    Ok(tape.reshape(&total, &[regions_count, 1, bins, length]))
}

/// Samples in a bin of each region: as many as asked for, or one for each place that a bin covers.
fn counts(
    node: &Node,
    tape: &Tape,
    regions: &Name,
    column: usize,
    size: impl Fn(f64) -> f64,
) -> Result<Vec<f64>, GradError> {
    let ratio = node.int("sampling_ratio").unwrap_or(0);
    if ratio > 0 {
        return Ok(vec![ratio as f64; tape.shape(regions)[0]]);
    }
    let values = tape.constant_value(regions).and_then(|t| t.to_f64());
    let values =
        values.ok_or_else(|| GradError::unsupported(node, "the number of samples in a bin depends on data"))?;
    Ok(values.outer_iter().map(|region| size(region[column + 2] - region[column]).ceil().max(0.0)).collect())
}
