//! Resize: along each axis an interpolation that is linear in its input.

use super::along::multiplied;
use super::interpolate::{Axis, Coordinates, Filter, Rounding};
use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::normalise;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y` is `x` multiplied by an interpolation matrix along each axis; `dx` is `dy` multiplied by their transposes.
pub(super) fn resize(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let mut dx = first(node, grads)?;
    let x = node.required(0)?;
    let (from, to) = (tape.shape(x), tape.shape(&dx));
    let filter = filter(node)?;
    let coordinates = coordinates(node)?;
    let scales = scales(node, tape, &from, &to)?;
    let regions = regions(node, tape, from.len(), coordinates)?;
    for i in 0..from.len() {
        let axis = Axis { input: from[i], output: to[i], scale: scales[i], region: regions[i], coordinates, filter };
        if !axis.is_identity() {
            dx = multiplied(tape, &dx, i, &axis.matrix());
        }
    }
    Ok(vec![Some(dx.into()), None, None, None])
}

fn filter(node: &Node) -> Result<Filter, GradError> {
    let antialias = node.int("antialias").unwrap_or(0) != 0;
    let exclude_outside = node.int("exclude_outside").unwrap_or(0) != 0;
    let coefficient = node.float("cubic_coeff_a").unwrap_or(-0.75);
    Ok(match node.string("mode").unwrap_or("nearest") {
        "nearest" => Filter::Nearest(match node.string("nearest_mode").unwrap_or("round_prefer_floor") {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            _ => return Err(node.bad("nearest_mode").into()),
        }),
        "linear" => Filter::Linear { antialias, exclude_outside },
        "cubic" => Filter::Cubic { coefficient, antialias, exclude_outside },
        _ => return Err(node.bad("mode").into()),
    })
}

fn coordinates(node: &Node) -> Result<Coordinates, GradError> {
    Ok(match node.string("coordinate_transformation_mode").unwrap_or("half_pixel") {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::Crop,
        _ => return Err(node.bad("coordinate_transformation_mode").into()),
    })
}

/// The axes that an operand has numbers for.
fn axes(node: &Node, rank: usize) -> Result<Vec<usize>, GradError> {
    let given = node.ints("axes").filter(|axes| !axes.is_empty());
    let Some(given) = given else { return Ok((0..rank).collect()) };
    given.iter().map(|&a| normalise(a, rank).ok_or_else(|| node.bad("axes").into())).collect()
}

/// The numbers of a constant floating-point operand, none where it is absent or empty.
fn floats(node: &Node, tape: &Tape, slot: usize) -> Result<Option<Vec<f32>>, GradError> {
    let Some(name) = node.input(slot) else { return Ok(None) };
    let values = tape.constant_value(name).and_then(|t| t.to_f64());
    let values = values.ok_or_else(|| GradError::unsupported(node, format!("operand '{name}' is not a constant")))?;
    Ok((!values.is_empty()).then(|| values.iter().map(|&v| v as f32).collect()))
}

/// Output lengths for each input length. With sizes and an aspect ratio that is kept, one for all axes.
fn scales(node: &Node, tape: &Tape, from: &[usize], to: &[usize]) -> Result<Vec<f32>, GradError> {
    let axes = axes(node, from.len())?;
    let mut scales: Vec<f32> = from.iter().zip(to).map(|(&i, &o)| o as f32 / i.max(1) as f32).collect();
    if let Some(given) = floats(node, tape, 2)? {
        axes.iter().zip(given).for_each(|(&axis, scale)| scales[axis] = scale);
        return Ok(scales);
    }
    let asked = node.input(3).map_or(Ok(vec![]), |sizes| tape.integers(node, sizes))?;
    let asked = axes.iter().zip(asked).map(|(&axis, size)| size as f32 / from[axis].max(1) as f32);
    let kept = match node.string("keep_aspect_ratio_policy").unwrap_or("stretch") {
        "not_larger" => asked.reduce(f32::min),
        "not_smaller" => asked.reduce(f32::max),
        _ => None,
    };
    if let Some(scale) = kept {
        axes.iter().for_each(|&axis| scales[axis] = scale);
    }
    Ok(scales)
}

/// Where each axis is cropped, as parts of its length.
fn regions(node: &Node, tape: &Tape, rank: usize, coordinates: Coordinates) -> Result<Vec<(f32, f32)>, GradError> {
    let mut regions = vec![(0.0, 1.0); rank];
    if coordinates == Coordinates::Crop {
        let axes = axes(node, rank)?;
        let given = floats(node, tape, 1)?.filter(|r| r.len() == 2 * axes.len()).ok_or_else(|| node.bad("roi"))?;
        axes.iter().enumerate().for_each(|(i, &axis)| regions[axis] = (given[i], given[axes.len() + i]));
    }
    Ok(regions)
}
