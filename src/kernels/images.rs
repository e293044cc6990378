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

/// Some rows of the results of a convolution: what they are computed from, and where they go.
pub(crate) struct Part<'a> {
    /// Of all images one after the other.
    pub rows: Range<usize>,
    /// `[images, height, width, channels]`, of all images.
    pub x: &'a [f32],
    /// One number for each output, or none at all.
    pub bias: &'a [f32],
    /// What is added to the results, as they lie.
    pub added: Option<&'a [f32]>,
    pub left: Left<'a>,
    /// `[images, height, width, outputs]`, of the rows alone.
    pub y: &'a mut [f32],
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

impl Part<'_> {
    /// Adds what is to be added to some results, and leaves what is to be left of them.
    #[inline(always)]
    pub fn finish(&mut self, own: Range<usize>) {
        let y = &mut self.y[own.clone()];
        if let Some(added) = self.added {
            y.iter_mut().zip(&added[own.clone()]).for_each(|(y, &added)| *y += added);
        }
        // What is not a number hides nothing.
        match self.left {
            Left::All => {}
            Left::Positive => y.iter_mut().for_each(|y| *y = if *y <= 0.0 { 0.0 } else { *y }),
            Left::Where(seen) => {
                y.iter_mut().zip(&seen[own]).for_each(|(y, &seen)| *y = if seen <= 0.0 { 0.0 } else { *y })
            }
        }
    }
}
