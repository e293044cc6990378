//! A value as pieces of others: boxes of it, each the elements of a source at steps that are the same all over the box.

use crate::graph::Name;

/// Pieces of a value, at most.
const MOST: usize = 64;

/// One of the factors of the length of an axis, and what a piece has of it: `len` of `size` places from `start` on, whose
/// elements lie `stride` apart in the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Factor {
    pub size: usize,
    pub start: usize,
    pub len: usize,
    pub stride: usize,
}

/// A box of a value, by the factors of each axis; the first of its elements is the one at `offset` of a source.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub source: usize,
    pub offset: usize,
    axes: Vec<Vec<Factor>>,
}

/// A value whose elements are all those of its pieces, which do not overlap.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub sources: Vec<Name>,
    pub parts: Vec<Piece>,
}

impl Pieces {
    /// A value as it is.
    pub fn whole(name: &Name, shape: &[usize]) -> Pieces {
        let mut stride = shape.iter().product();
        let axis = |&size: &usize| {
            stride /= size.max(1);
            vec![Factor { size, start: 0, len: size, stride }]
        };
        let axes = shape.iter().map(axis).collect();
        Pieces { sources: vec![name.clone()], parts: vec![Piece { source: 0, offset: 0, axes }] }
    }

    /// Its axes in another order.
    pub fn transposed(&self, perm: &[usize]) -> Pieces {
        let part = |part: &Piece| Piece { axes: perm.iter().map(|&axis| part.axes[axis].clone()).collect(), ..*part };
        Pieces { sources: self.sources.clone(), parts: self.parts.iter().map(part).collect() }
    }

    /// Of an axis `count` places from `first` on, so many apart; none where its factors lie in another order.
    pub fn taken(&self, axis: usize, first: usize, step: usize, count: usize) -> Option<Pieces> {
        let mut parts = vec![];
        for part in &self.parts {
            let own = merged(&part.axes[axis])?;
            let end = own.start + own.len;
            let (low, high) =
                (own.start.saturating_sub(first).div_ceil(step), end.saturating_sub(first).div_ceil(step));
            let high = high.min(count);
            if low < high {
                let mut part = part.clone();
                part.offset += (first + low * step - own.start) * own.stride;
                part.axes[axis] = vec![Factor { size: count, start: low, len: high - low, stride: own.stride * step }];
                parts.push(part);
            }
        }
        Some(Pieces { sources: self.sources.clone(), parts })
    }

    /// Values one after the other along an axis.
    pub fn joined(values: &[Pieces], axis: usize) -> Option<Pieces> {
        let (mut sources, mut parts, mut base) = (vec![], vec![], 0);
        for value in values {
            let length = merged(&value.parts.first()?.axes[axis])?.size;
            for part in &value.parts {
                let name = &value.sources[part.source];
                let known = sources.iter().position(|source| source == name);
                let source = known.unwrap_or_else(|| {
                    sources.push(name.clone());
                    sources.len() - 1
                });
                let own = merged(&part.axes[axis])?;
                let mut part = Piece { source, ..part.clone() };
                part.axes[axis] = vec![Factor { start: base + own.start, ..own }];
                parts.push(part);
            }
            base += length;
        }
        let factors = parts.iter_mut().flat_map(|part| &mut part.axes[axis]);
        factors.for_each(|factor| factor.size = base);
        (parts.len() <= MOST).then_some(Pieces { sources, parts })
    }

    /// In another shape; none where a length of it has no factor in common with those here.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Pieces> {
        let mut parts = vec![];
        for part in &self.parts {
            let factors: Vec<Factor> = part.axes.iter().flatten().copied().rev().collect();
            regroup(Piece { axes: vec![], ..*part }, factors, shape, &mut parts)?;
        }
        Some(Pieces { sources: self.sources.clone(), parts })
    }
}

/// Adds a piece, some of whose axes are there, with the factors that are left, last first, dealt out to the other axes;
/// several pieces where a factor is cut.
fn regroup(mut part: Piece, mut factors: Vec<Factor>, shape: &[usize], parts: &mut Vec<Piece>) -> Option<()> {
    while let Some(&length) = shape.get(part.axes.len()) {
        let (mut axis, mut left) = (vec![], length);
        while left != 1 {
            let factor = factors.pop()?;
            if left.is_multiple_of(factor.size) {
                left /= factor.size;
                axis.extend((factor.size > 1).then_some(factor));
                continue;
            }
            if !factor.size.is_multiple_of(left) {
                return None;
            }
            for (offset, [outer, inner]) in cut(factor, factor.size / left) {
                let mut factors = factors.clone();
                factors.extend([inner, outer].into_iter().chain(axis.iter().rev().copied()));
                regroup(Piece { offset: part.offset + offset, ..part.clone() }, factors, shape, parts)?;
            }
            return Some(());
        }
        part.axes.push(axis);
    }
    parts.push(part);
    (factors.iter().all(|factor| factor.size == 1) && parts.len() <= MOST).then_some(())
}

/// A factor as two, the inner one of this size: the rows that a piece has whole, and those at its ends that it has in
/// part, each with how far from the first element of the piece it begins.
fn cut(factor: Factor, size: usize) -> Vec<(usize, [Factor; 2])> {
    let Factor { start, len, stride, .. } = factor;
    let end = start + len;
    // Where the whole rows begin and end, if there are any.
    let [first, last] = [start.next_multiple_of(size).min(end), (end / size * size).max(start)];
    let bounds = if first < last { vec![start, first, last, end] } else { vec![start, first, end] };
    let rows = bounds.windows(2).filter(|bound| bound[0] < bound[1]).map(|bound| {
        let (low, high) = (bound[0], bound[1]);
        let outer = Factor {
            size: factor.size / size,
            start: low / size,
            len: (high - low).div_ceil(size),
            stride: stride * size,
        };
        let inner = Factor { size, start: low % size, len: (high - low).min(size), stride };
        ((low - start) * stride, [outer, inner])
    });
    rows.collect()
}

/// The factors of an axis as one, where the elements of the source go on from one row to the next.
fn merged(factors: &[Factor]) -> Option<Factor> {
    factors.iter().try_fold(Factor { size: 1, start: 0, len: 1, stride: 0 }, |outer, &inner| {
        let whole = inner.len == inner.size && outer.stride == inner.stride * inner.size;
        let len = if outer.len == 1 { inner.len } else { outer.len * inner.size };
        (outer.len == 1 || whole).then_some(Factor {
            size: outer.size * inner.size,
            start: outer.start * inner.size + inner.start,
            len,
            stride: inner.stride,
        })
    })
}

impl Piece {
    /// All its factors in order, but for those of one place.
    pub fn factors(&self) -> impl DoubleEndedIterator<Item = &Factor> {
        self.axes.iter().flatten().filter(|factor| factor.size > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, Axis, IxDyn, Slice};
    use proptest::prelude::*;

    /// The elements of a value, from those of its sources: each `(source, place)`.
    fn elements(pieces: &Pieces, numbers: &[usize], shape: &[usize]) -> ArrayD<usize> {
        let mut elements = vec![usize::MAX; shape.iter().product()];
        for part in &pieces.parts {
            let factors: Vec<&Factor> = part.axes.iter().flatten().collect();
            let count = factors.iter().map(|factor| factor.len).product::<usize>();
            for index in 0..count {
                let (mut rest, mut from, mut to, mut step) = (index, part.offset, 0, 1);
                for factor in factors.iter().rev() {
                    let at = rest % factor.len;
                    rest /= factor.len;
                    from += at * factor.stride;
                    to += (factor.start + at) * step;
                    step *= factor.size;
                }
                assert_eq!(step, elements.len());
                assert_eq!(elements[to], usize::MAX, "pieces overlap");
                elements[to] = numbers[part.source] + from;
            }
        }
        ArrayD::from_shape_vec(IxDyn(shape), elements).unwrap()
    }

    /// A random number below a bound.
    fn below(drawn: &mut impl Iterator<Item = usize>, bound: usize) -> usize {
        drawn.next().unwrap_or_default() % bound
    }

    /// A value, what it is made of, and its elements.
    type Value = (Option<Pieces>, ArrayD<usize>);

    fn step(drawn: &mut impl Iterator<Item = usize>, (pieces, array): Value, others: &[Value]) -> Value {
        let (rank, shape) = (array.ndim(), array.shape().to_vec());
        let axis = below(drawn, rank);
        match below(drawn, 5) {
            0 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                (1..rank).for_each(|i| perm.swap(i, below(drawn, i + 1)));
                (pieces.map(|p| p.transposed(&perm)), array.permuted_axes(perm))
            }
            1 => {
                let step = 1 + below(drawn, 2);
                let first = below(drawn, shape[axis]);
                let count = 1 + below(drawn, (shape[axis] - first).div_ceil(step));
                let taken = Slice::new(first as isize, Some((first + (count - 1) * step + 1) as isize), step as isize);
                let array = array.slice_axis(Axis(axis), taken).to_owned();
                (pieces.and_then(|p| p.taken(axis, first, step, count)), array)
            }
            2 => {
                // Two neighbours as one axis, or an axis as two.
                let mut to = shape.clone();
                match (below(drawn, 2), (2..=shape[axis]).find(|&by| shape[axis].is_multiple_of(by))) {
                    (0, Some(by)) => drop(to.splice(axis..=axis, [shape[axis] / by, by])),
                    _ if axis + 1 < rank => drop(to.splice(axis..axis + 2, [shape[axis] * shape[axis + 1]])),
                    _ => to.push(1),
                }
                let array = array.as_standard_layout().into_owned().into_shape_with_order(to.clone()).unwrap();
                (pieces.and_then(|p| p.reshaped(&to)), array)
            }
            3 => {
                // Around, as a roll does.
                let middle = below(drawn, shape[axis]);
                let part = |first, end: usize| {
                    let own = pieces.as_ref().and_then(|p| p.taken(axis, first, 1, end - first));
                    (own, array.slice_axis(Axis(axis), Slice::from(first..end)))
                };
                let halves = [part(middle, shape[axis]), part(0, middle)];
                let halves = halves.into_iter().filter(|(_, view)| !view.is_empty());
                let (own, views): (Vec<_>, Vec<_>) = halves.unzip();
                let own = own.into_iter().collect::<Option<Vec<_>>>().and_then(|own| Pieces::joined(&own, axis));
                (own, ndarray::concatenate(Axis(axis), &views).unwrap())
            }
            _ => {
                let other = others.iter().find(|(_, other)| other.shape() == &shape[..]);
                let Some((other, elements)) = other else { return (pieces, array) };
                let own = pieces.zip(other.clone()).and_then(|(a, b)| Pieces::joined(&[a, b], axis));
                (own, ndarray::concatenate(Axis(axis), &[array.view(), elements.view()]).unwrap())
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is known of a value after some moves is right.
        #[test]
        fn pieces_are_the_value(drawn in prop::collection::vec(any::<usize>(), 80), steps in 1usize..8) {
            let mut drawn = drawn.into_iter();
            let shape: Vec<usize> = (0..3).map(|_| [1, 2, 4, 6, 12][below(&mut drawn, 5)]).collect();
            let size = shape.iter().product::<usize>();
            let others: Vec<Value> = ["a", "b"].iter().enumerate().map(|(number, &name)| {
                let array = ArrayD::from_shape_vec(IxDyn(&shape), (number * size..(number + 1) * size).collect());
                (Some(Pieces::whole(&name.into(), &shape)), array.unwrap())
            }).collect();
            let mut value = others[0].clone();
            for _ in 0..steps {
                value = step(&mut drawn, value, &others);
            }
            let (Some(pieces), array) = value else { return Ok(()) };
            let numbers: Vec<usize> =
                pieces.sources.iter().map(|name| if &**name == "a" { 0 } else { size }).collect();
            prop_assert_eq!(elements(&pieces, &numbers, array.shape()), array);
        }
    }

    /// The windows of a shifted image: cut where a window goes over the edge, along both axes.
    #[test]
    fn windows_of_a_rolled_image() {
        let name = Name::from("x");
        let image = Pieces::whole(&name, &[2, 56, 56, 96]);
        let rolled = [1, 2].iter().try_fold(image, |image, &axis| {
            Pieces::joined(&[image.taken(axis, 3, 1, 53)?, image.taken(axis, 0, 1, 3)?], axis)
        });
        let windows = rolled.unwrap().reshaped(&[2, 8, 7, 8, 7, 96]).unwrap().transposed(&[0, 1, 3, 2, 4, 5]);
        let rows = windows.reshaped(&[128, 49, 96]).unwrap();
        assert_eq!((rows.sources, rows.parts.len()), (vec![name], 9));
    }

    #[test]
    fn lengths_without_a_common_factor_are_no_pieces() {
        let value = Pieces::whole(&"x".into(), &[6, 4]).transposed(&[1, 0]);
        assert!(value.reshaped(&[24]).is_some() && value.reshaped(&[2, 12]).is_some());
        assert!(value.reshaped(&[3, 8]).is_none());
    }
}
