//! Elements moved from one place to another.

/// One of the axes of a box of elements: how many, and how far apart where they are read and where they are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steps {
    pub len: usize,
    pub from: usize,
    pub to: usize,
}

/// Elements that are copied at a time.
const LINE: usize = 16;

/// Copies a box of elements that begins where both slices do.
///
/// # Panics
/// The box reaches beyond a slice.
pub(crate) fn copy(axes: &[Steps], from: &[f32], to: &mut [f32]) {
    match axes {
        [] => to[0] = from[0],
        [Steps { len, from: 1, to: 1 }] => {
            let ((from, from_rest), (to, to_rest)) = (from[..*len].as_chunks::<LINE>(), to[..*len].as_chunks_mut());
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            to_rest.copy_from_slice(from_rest);
        }
        [axis, inner @ ..] => {
            for i in 0..axis.len {
                copy(inner, &from[i * axis.from..], &mut to[i * axis.to..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;
    use ndarray::{ArrayView, s};

    #[test]
    fn a_box_is_copied() {
        for width in [1, 8, 16, 37] {
            let from = numbers(5 * 6 * 40, 1);
            let mut to = vec![f32::NAN; 6 * 5 * 64];
            // `to[j, i, 3..] = from[i, j, 2..]`
            let axes = [(5, 240, 64), (6, 40, 320), (width, 1, 1)].map(|(len, from, to)| Steps { len, from, to });
            copy(&axes, &from[2..], &mut to[3..]);
            let expected = ArrayView::from_shape((5, 6, 40), &from).unwrap().permuted_axes([1, 0, 2]);
            let found = ArrayView::from_shape((6, 5, 64), &to).unwrap();
            assert_eq!(found.slice(s![.., .., 3..3 + width]), expected.slice(s![.., .., 2..2 + width]));
            assert_eq!(to.iter().filter(|x| !x.is_nan()).count(), 30 * width);
        }
    }
}
