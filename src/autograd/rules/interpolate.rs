//! Interpolation matrices along one axis, in float32 as runtimes compute them.

use ndarray::Array2;

/// Where a place of the output lies in the input.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    TfHalfPixel,
    AlignCorners,
    Asymmetric,
    Crop,
}

#[derive(Clone, Copy)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// How elements around a place are weighed.
#[derive(Clone, Copy)]
pub(super) enum Filter {
    Nearest(Rounding),
    Linear { antialias: bool, exclude_outside: bool },
    Cubic { coefficient: f32, antialias: bool, exclude_outside: bool },
}

/// One axis of a resized value.
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub scale: f32,
    /// Start and end of what is cropped.
    pub region: (f32, f32),
    pub coordinates: Coordinates,
    pub filter: Filter,
}

impl Axis {
    /// An axis of scale 1 is copied, cropped or not.
    pub fn is_identity(&self) -> bool {
        self.input == self.output && self.scale == 1.0
    }

    /// The weight of each input element in each output element: `[output, input]`.
    pub fn matrix(&self) -> Array2<f64> {
        let mut matrix = Array2::zeros((self.output, self.input));
        for row in 0..self.output {
            let place = self.place(row as f32);
            if self.coordinates == Coordinates::Crop && !(0.0..=self.input as f32 - 1.0).contains(&place) {
                continue;
            }
            for (column, weight) in self.weights(place) {
                let inside = column.clamp(0, self.input as i64 - 1) as usize;
                matrix[[row, inside]] += f64::from(weight);
            }
        }
        matrix
    }

    /// The coordinate in the input of a coordinate in the output.
    fn place(&self, x: f32) -> f32 {
        let (input, output, scale) = (self.input as f32, self.output as f32, self.scale);
        match self.coordinates {
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output / (scale * input);
                input / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if self.output > 1 => (x + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::TfHalfPixel => (x + 0.5) / scale,
            Coordinates::AlignCorners if self.output > 1 => x * (input - 1.0) / (output - 1.0),
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => x / scale,
            Coordinates::Crop => {
                let (start, end) = self.region;
                match self.output {
                    1 => 0.5 * (start + end) * (input - 1.0),
                    _ => start * (input - 1.0) + x * (end - start) * (input - 1.0) / (output - 1.0),
                }
            }
        }
    }

    /// Elements, possibly outside, and their weights.
    fn weights(&self, place: f32) -> Vec<(i64, f32)> {
        match self.filter {
            Filter::Nearest(rounding) => vec![(rounding.apply(place) as i64, 1.0)],
            Filter::Linear { antialias: false, .. } => {
                let place = place.clamp(0.0, self.input as f32 - 1.0);
                let low = place.floor();
                vec![(low as i64, 1.0 - (place - low)), (low as i64 + 1, place - low)]
            }
            Filter::Linear { exclude_outside, .. } => self.window(place, 1.0, true, exclude_outside, tent),
            Filter::Cubic { coefficient, antialias, exclude_outside } => {
                self.window(place, 2.0, antialias, exclude_outside, |x| cubic(coefficient, x))
            }
        }
    }

    /// The elements within `reach` of a place, farther where the axis shrinks and is smoothed. Weights are
    /// divided by their sum where they do not add up to one by themselves.
    fn window(
        &self,
        place: f32,
        reach: f32,
        smooth: bool,
        exclude_outside: bool,
        filter: impl Fn(f32) -> f32,
    ) -> Vec<(i64, f32)> {
        let shrink = if smooth { self.scale.min(1.0) } else { 1.0 };
        let (first, last) = ((place - reach / shrink).floor(), (place + reach / shrink).ceil());
        let inside = |i: &i64| !exclude_outside || (0..self.input as i64).contains(i);
        let weigh = |i: i64| (i, filter((i as f32 - place) * shrink));
        let weights: Vec<(i64, f32)> = (first as i64..=last as i64).filter(inside).map(weigh).collect();
        let total: f32 = weights.iter().map(|(_, w)| w).sum();
        let divide = (smooth || exclude_outside) && total != 0.0;
        weights.into_iter().map(|(i, w)| (i, if divide { w / total } else { w })).collect()
    }
}

impl Rounding {
    fn apply(self, x: f32) -> f32 {
        match self {
            Rounding::PreferFloor if x.fract().abs() == 0.5 => x.floor(),
            Rounding::PreferFloor | Rounding::PreferCeil => x.round(),
            Rounding::Floor => x.floor(),
            Rounding::Ceil => x.ceil(),
        }
    }
}

/// `1 - |x|` up to 1.
fn tent(x: f32) -> f32 {
    (1.0 - x.abs()).max(0.0)
}

/// The cubic convolution kernel with slope `a` at 1.
fn cubic(a: f32, x: f32) -> f32 {
    let x = x.abs();
    match x {
        _ if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}
