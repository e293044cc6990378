//! Resizing of 8-bit images, bit for bit as Pillow does it (`src/libImaging/Resample.c`): a filter that
//! widens when it scales down, in fixed-point numbers of 22 bits, along the rows and then along the
//! columns, rounded to 8 bits in between. Integer arithmetic makes it the same on every processor.

use std::f64::consts::PI;

/// A filter, by its name in Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// The filter with this number in Pillow and in `preprocessor_config.json`.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        use Filter::*;
        [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming].get(usize::try_from(number).ok()?).copied()
    }

    /// The filter is zero farther than this from its centre.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let distance = x.abs();
        match self {
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - distance).max(0.0),
            Filter::Hamming if distance < 1.0 => sinc(distance) * (0.54 + 0.46 * (distance * PI).cos()),
            Filter::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Filter::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Resizes `pixels`, rows of `C` interleaved channels, from one (height, width) to another; none may be
/// zero. In between it holds an image as high as the old and as wide as the new one.
pub(super) fn resize<const C: usize>(
    pixels: &[u8],
    (height, width): (usize, usize),
    (new_height, new_width): (usize, usize),
    filter: Filter,
) -> Vec<u8> {
    debug_assert_eq!(pixels.len(), height * width * C);
    if filter == Filter::Nearest {
        let (rows, columns) = (nearest(height, new_height), nearest(width, new_width));
        let at = |y: &usize, x: &usize| (y * width + x) * C;
        let pixel = |y, x| pixels[at(y, x)..][..C].iter().copied();
        return rows.iter().flat_map(|y| columns.iter().flat_map(move |x| pixel(y, x))).collect();
    }
    let narrowed = match width == new_width {
        true => pixels.to_vec(),
        false => along_rows::<C>(pixels, width, &windows(width, new_width, filter)),
    };
    match height == new_height {
        true => narrowed,
        false => along_columns(&narrowed, new_width * C, &windows(height, new_height, filter)),
    }
}

/// Where each new pixel is taken from. The position is summed up, as in Pillow, rounding included.
fn nearest(old: usize, new: usize) -> Vec<usize> {
    let scale = old as f64 / new as f64;
    let positions = std::iter::successors(Some(scale * 0.5), |at| Some(at + scale));
    positions.take(new).map(|at| (at as usize).min(old - 1)).collect()
}

const BITS: u32 = 22;
const HALF: i32 = 1 << (BITS - 1);

/// The old pixels that a new one is made of: the first, and the weight of each, 2^22 in all.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

fn windows(old: usize, new: usize, filter: Filter) -> Vec<Window> {
    let scale = old as f64 / new as f64;
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    let window = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(old);
        let shrink = 1.0 / widening;
        let weights: Vec<_> = (start..end).map(|x| filter.weight((x as f64 - centre + 0.5) * shrink)).collect();
        let sum: f64 = weights.iter().sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        let fixed = |w: &f64| {
            let w = w / sum * f64::from(1 << BITS);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Window { start, weights: weights.iter().map(fixed).collect() }
    };
    (0..new).map(window).collect()
}

fn along_rows<const C: usize>(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / width * windows.len());
    for row in pixels.chunks_exact(width * C) {
        for window in windows {
            let mut sums = [HALF; C];
            for (pixel, weight) in row[window.start * C..].chunks_exact(C).zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(to_byte));
        }
    }
    out
}

/// `row` is the length of a row in bytes.
fn along_columns(pixels: &[u8], row: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(row * windows.len());
    let mut sums = vec![0; row];
    for window in windows {
        sums.fill(HALF);
        for (values, &weight) in pixels[window.start * row..].chunks_exact(row).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    out
}

fn to_byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}
