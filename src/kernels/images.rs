//! Images with their channels last.

use std::ops::Range;

/// What is left of the results; the others are zero.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    All,
    Positive,
    /// Those where this, which lies as they do, is positive.
    Where(&'a [f32]),
}

impl Left<'_> {
    /// What is left of some of the results.
    pub fn of(self, own: Range<usize>) -> Self {
        match self {
            Left::Where(seen) => Left::Where(&seen[own]),
            all => all,
        }
    }
}

/// The channels of a place of an image of this height and width, zeros outside of it; a place above or left of it wraps
/// around.
#[inline(always)]
pub(crate) fn place<'a>(
    image: &'a [f32],
    [height, width]: [usize; 2],
    [row, column]: [usize; 2],
    zeros: &'a [f32],
) -> &'a [f32] {
    let channels = zeros.len();
    match row < height && column < width {
        true => &image[(row * width + column) * channels..][..channels],
        false => zeros,
    }
}

/// Adds what is to be added to some results, and leaves what is to be left of them.
#[inline(always)]
pub(crate) fn finish(own: Range<usize>, y: &mut [f32], added: Option<&[f32]>, left: Left) {
    let y = &mut y[own.clone()];
    if let Some(added) = added {
        y.iter_mut().zip(&added[own.clone()]).for_each(|(y, &added)| *y += added);
    }
    // What is not a number hides nothing.
    match left {
        Left::All => {}
        Left::Positive => y.iter_mut().for_each(|y| *y = if *y <= 0.0 { 0.0 } else { *y }),
        Left::Where(seen) => {
            y.iter_mut().zip(&seen[own]).for_each(|(y, &seen)| *y = if seen <= 0.0 { 0.0 } else { *y })
        }
    }
}
