//! Sampling at computed places, as weighted sums of elements read there.

use super::super::rules::window::Windows;
use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::{DType, Tensor};
use ndarray::{Array2, ArrayD, IxDyn};

/// `grid = base θᵀ`, `base` holding the places of the output and a one.
pub(crate) fn affine(node: &Node, tape: &mut Tape) -> Values {
    let (theta, to) = (node.required(0)?, tape.shape(node.output()?));
    let corners = node.int("align_corners").unwrap_or(0) != 0;
    let (lengths, rank) = (&to[1..to.len() - 1], to.len() - 2);
    if corners && lengths.contains(&1) {
        return Err(GradError::unsupported(node, "with align_corners the one place of an axis is not defined"));
    }
    let place = |i: usize, length: usize| match corners {
        true => 2.0 * i as f64 / (length - 1) as f64 - 1.0,
        false => (2 * i + 1) as f64 / length as f64 - 1.0,
    };
    let base = Array2::from_shape_fn((lengths.iter().product(), rank + 1), |(flat, column)| {
        // The first column is the last axis.
        let Some(axis) = rank.checked_sub(column + 1) else { return 1.0 };
        let stride: usize = lengths[axis + 1..].iter().product();
        place(flat / stride % lengths[axis], lengths[axis])
    });
    let base = tape.constant_floats(tape.dtype(theta), base.into_dyn());
    let theta = tape.swap_last(theta);
    let grid = tape.matmul(&base, &theta);
    one(tape.reshape(&grid, &to))
}

/// `y` is `x` at the places of a grid, interpolated between neighbours along each axis. Places beyond the border read
/// zero, the border, or the image mirrored.
pub(crate) fn sample(node: &Node, tape: &mut Tape) -> Values {
    let (x, grid, to) = (node.required(0)?, node.required(1)?, tape.shape(node.output()?));
    let from = tape.shape(x);
    let (samples, channels, lengths) = (from[0], from[1], &from[2..]);
    let count: usize = to[2..].iter().product();
    let sampler = Sampler::new(node)?;
    let last = tape.rank(grid) - 1;
    let y = interpolated(node, tape, x, [samples, channels, count], lengths, |tape, axis, stride| {
        let column = lengths.len() - 1 - axis;
        let places = tape.slice(grid, last, column, column + 1);
        let places = tape.reshape(&places, &[samples, 1, count]);
        sampler.neighbours(tape, &places, lengths[axis], stride)
    })?;
    one(tape.reshape(&y, &to))
}

/// `y[o] = Σ over taps k of W[k] m[k, o] x[stride o + dilation k - pad + offset[k, o]] + b`, `x` read between its elements
/// as [`sample`] does, zero beyond the border; the taps of a position are laid out as an image of one column.
pub(crate) fn deformed(node: &Node, tape: &mut Tape) -> Values {
    let (x, w, offset, to) = (node.required(0)?, node.required(1)?, node.required(2)?, tape.shape(node.output()?));
    let (from, kernel) = (tape.shape(x), tape.shape(w)[2..].to_vec());
    let Windows { input, output, geometry, .. } = Windows::new(node, tape, x, node.output()?, kernel)?;
    let shared = node.int("offset_group").unwrap_or(1).max(1) as usize;
    let axes = geometry.kernel.len();
    let (taps, positions): (usize, usize) = (geometry.kernel.iter().product(), output.iter().product());
    // Channels that share their offsets are read as those of one image.
    let (images, channels, count) = (from[0] * shared, from[1] / shared, taps * positions);
    let offset = tape.reshape(offset, &[images, taps, axes, positions]);
    let sampler = Sampler { reach: 2, padding: Padding::Zeros, corners: true };
    let mut read = interpolated(node, tape, x, [images, channels, count], &input, |tape, axis, stride| {
        let of =
            |sizes: &[usize], flat: usize| (flat / sizes[axis + 1..].iter().product::<usize>() % sizes[axis]) as f64;
        let regular = Array2::from_shape_fn((taps, positions), |(tap, position)| {
            of(&output, position) * geometry.strides[axis] as f64
                + of(&geometry.kernel, tap) * geometry.dilations[axis] as f64
                - geometry.pads[axis] as f64
        });
        let regular = tape.constant_floats(tape.dtype(&offset), regular.into_dyn());
        let moved = tape.slice(&offset, 2, axis, axis + 1);
        let moved = tape.reshape(&moved, &[images, taps, positions]);
        let places = tape.add(&moved, &regular);
        let places = tape.reshape(&places, &[images, 1, count]);
        sampler.around(tape, &places, input[axis], stride)
    })?;
    if let Some(mask) = node.input(4) {
        let mask = tape.reshape(mask, &[images, 1, count]);
        read = tape.mul(&read, &mask);
    }
    let columns = tape.reshape(&read, &[from[0], from[1], taps, positions]);
    let weight = tape.reshape(w, &[&tape.shape(w)[..2], &[taps, 1]].concat());
    let operands: Vec<&Name> = [&columns, &weight].into_iter().chain(node.input(3)).collect();
    let group = attribute("group", node.int("group").unwrap_or(1));
    let kind = (tape.dtype(x), vec![to[0], to[1], 1, positions]);
    let y = tape.node("Conv", &operands, vec![attribute("kernel_shape", vec![taps as i64, 1]), group], kind);
    one(tape.reshape(&y, &to))
}

/// `x`, `[images, channels, …]`, at places for each image, as the weighted sum of the neighbours that `along` finds on each
/// axis, given the axis and the elements between its neighbours; `shape` is `[images, channels, places]`.
fn interpolated(
    node: &Node,
    tape: &mut Tape,
    x: &Name,
    shape: [usize; 3],
    lengths: &[usize],
    along: impl Fn(&mut Tape, usize, usize) -> Vec<Neighbour>,
) -> Result<Name, GradError> {
    let mut total = vec![Neighbour { place: None, weight: None }];
    for axis in 0..lengths.len() {
        let found = along(tape, axis, lengths[axis + 1..].iter().product());
        total = total.iter().flat_map(|a| found.iter().map(move |b| (a, b))).map(|(a, b)| a.and(b, tape)).collect();
    }
    let table = tape.reshape(x, &[shape[0], shape[1], lengths.iter().product()]);
    let mut sum: Option<Name> = None;
    for neighbour in &total {
        let value = neighbour.read(tape, &table, &shape);
        sum = Some(sum.map_or_else(|| value.clone(), |sum| tape.add(&sum, &value)));
    }
    sum.ok_or_else(|| node.bad("input 0").into())
}

/// Flat places `[samples, 1, count]` with their weights; absent where they are zero, or one.
struct Neighbour {
    place: Option<Name>,
    weight: Option<Name>,
}

impl Neighbour {
    fn and(&self, other: &Neighbour, tape: &mut Tape) -> Neighbour {
        let mut both = |a: &Option<Name>, b: &Option<Name>, add: bool| match (a, b) {
            (Some(a), Some(b)) if add => Some(tape.add(a, b)),
            (Some(a), Some(b)) => Some(tape.mul(a, b)),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Neighbour { place: both(&self.place, &other.place, true), weight: both(&self.weight, &other.weight, false) }
    }

    fn read(&self, tape: &mut Tape, table: &Name, shape: &[usize]) -> Name {
        let Some(place) = &self.place else { return table.clone() };
        let place = tape.expand(place, shape);
        let kind = (tape.dtype(table), shape.to_vec());
        let value = tape.node("GatherElements", &[table, &place], vec![attribute("axis", 2)], kind);
        self.weight.as_ref().map_or_else(|| value.clone(), |weight| tape.mul(&value, weight))
    }
}

struct Sampler {
    /// Neighbours along an axis: 1, 2 or 4.
    reach: usize,
    padding: Padding,
    corners: bool,
}

#[derive(PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

impl Sampler {
    fn new(node: &Node) -> Result<Sampler, GradError> {
        let reach = match node.string("mode").unwrap_or("linear") {
            "nearest" => 1,
            "linear" | "bilinear" => 2,
            "cubic" | "bicubic" => 4,
            _ => return Err(node.bad("mode").into()),
        };
        let padding = match node.string("padding_mode").unwrap_or("zeros") {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            _ => return Err(node.bad("padding_mode").into()),
        };
        Ok(Sampler { reach, padding, corners: node.int("align_corners").unwrap_or(0) != 0 })
    }

    /// What is read along one axis for places from -1 to 1.
    fn neighbours(&self, tape: &mut Tape, places: &Name, length: usize, stride: usize) -> Vec<Neighbour> {
        let size = length as f64;
        let spread = if self.corners { size - 1.0 } else { size };
        let scaled = tape.scale(places, spread / 2.0);
        let place = tape.shift(&scaled, (size - 1.0) / 2.0);
        self.around(tape, &place, length, stride)
    }

    /// What is read along one axis for places counted in elements.
    fn around(&self, tape: &mut Tape, place: &Name, length: usize, stride: usize) -> Vec<Neighbour> {
        if self.reach == 1 {
            let nearest = tape.unary("Round", place);
            return vec![self.neighbour(tape, &nearest, None, length, stride)];
        }
        let low = tape.unary("Floor", place);
        let beyond = tape.sub(place, &low);
        let first = 1 - self.reach as i64 / 2;
        (first..first + self.reach as i64)
            .map(|step| {
                let at = tape.shift(&low, step as f64);
                let distance = tape.shift(&beyond, -step as f64);
                let distance = if step > 0 { tape.unary("Neg", &distance) } else { distance };
                let weight = if self.reach == 2 {
                    let minus = tape.unary("Neg", &distance);
                    tape.shift(&minus, 1.0)
                } else {
                    cubic(tape, &distance, !(0..=1).contains(&step))
                };
                self.neighbour(tape, &at, Some(weight), length, stride)
            })
            .collect()
    }

    /// The element that a whole place stands for.
    fn neighbour(&self, tape: &mut Tape, at: &Name, weight: Option<Name>, length: usize, stride: usize) -> Neighbour {
        let end = length as f64 - 1.0;
        let weight = if self.padding == Padding::Zeros {
            let weight = weight.unwrap_or_else(|| {
                let zero = tape.scale(at, 0.0);
                tape.shift(&zero, 1.0)
            });
            let (after, before) =
                (tape.compare_with("GreaterOrEqual", at, 0.0), tape.compare_with("LessOrEqual", at, end));
            let kept = tape.keep_where(&after, &weight);
            Some(tape.keep_where(&before, &kept))
        } else {
            weight
        };
        let at = if self.padding == Padding::Reflection { self.mirrored(tape, at, end) } else { at.clone() };
        let (low, high) = (tape.scalar(&at, 0.0), tape.scalar(&at, end));
        let kind = (tape.dtype(&at), tape.shape(&at));
        let inside = tape.node("Clip", &[&at, &low, &high], vec![], kind);
        let whole = tape.cast(&inside, DType::I64);
        let stride = tape.constant(Tensor::I64(ArrayD::from_elem(IxDyn(&[]), stride as i64)));
        Neighbour { place: Some(tape.mul(&whole, &stride)), weight }
    }

    /// `at` mirrored at the borders, the middles of the outer elements or their outer edges, until it lies inside.
    fn mirrored(&self, tape: &mut Tape, at: &Name, end: f64) -> Name {
        let (low, range) = if self.corners { (0.0, end) } else { (-0.5, end + 1.0) };
        if range == 0.0 {
            return at.clone();
        }
        let from_low = tape.shift(at, -low);
        let turns = tape.scale(&from_low, 1.0 / (2.0 * range));
        let turns = tape.unary("Floor", &turns);
        let turned = tape.scale(&turns, 2.0 * range);
        let rest = tape.sub(&from_low, &turned);
        let from_high = tape.shift(&rest, -range);
        let size = tape.unary("Abs", &from_high);
        let minus = tape.unary("Neg", &size);
        tape.shift(&minus, low + range)
    }
}

/// The cubic convolution kernel of slope -3/4 at a distance of 0 to 1, or of 1 to 2.
fn cubic(tape: &mut Tape, distance: &Name, far: bool) -> Name {
    let a = -0.75;
    let [third, second, one, none] = if far { [a, -5.0 * a, 8.0 * a, -4.0 * a] } else { [a + 2.0, -a - 3.0, 0.0, 1.0] };
    let mut value = tape.scale(distance, third);
    for coefficient in [second, one] {
        let shifted = tape.shift(&value, coefficient);
        value = tape.mul(&shifted, distance);
    }
    tape.shift(&value, none)
}
