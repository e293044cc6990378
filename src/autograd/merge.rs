//! Uses of one weight contracted as one: a weight that every step of an unrolled loop reads costs one contraction.

use super::{Contraction, Operand, Tape, Use, View};
use crate::graph::Name;
use crate::specialise::samples::SampleAxis;

/// The same gradient from fewer uses.
pub(super) fn merged(tape: &mut Tape, uses: Vec<Use>) -> Vec<Use> {
    let mut groups: Vec<Vec<Use>> = Vec::new();
    for one in uses.into_iter().map(turned) {
        match groups.iter_mut().find(|group| alike(tape, &group[0], &one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups.into_iter().map(|group| together(tape, group)).collect()
}

/// The gradient of a transposed matrix is the product the other way round.
fn turned(mut one: Use) -> Use {
    if let Contraction::Product { left, right } = &mut one.contraction
        && one.views.last() == Some(&View::Permute(vec![1, 0]))
    {
        std::mem::swap(left, right);
        one.views.pop();
    }
    one
}

/// Whether two uses differ in nothing but the names of their operands.
fn alike(tape: &Tape, a: &Use, b: &Use) -> bool {
    let same = |a: &Operand, b: &Operand| {
        a.shape == b.shape && a.samples == b.samples && tape.dtype(&a.name) == tape.dtype(&b.name)
    };
    let operands = match (&a.contraction, &b.contraction) {
        (Contraction::Product { left, right }, Contraction::Product { left: l, right: r }) => {
            same(left, l) && same(right, r)
        }
        (Contraction::Sum { dy, shape }, Contraction::Sum { dy: other, shape: to }) => same(dy, other) && shape == to,
        _ => false,
    };
    operands && a.views == b.views
}

/// Rows of products side by side; sums added up.
fn together(tape: &mut Tape, mut group: Vec<Use>) -> Use {
    let others = group.split_off(1);
    let mut first = group.remove(0);
    if others.is_empty() {
        return first;
    }
    let all = |slot: usize, own: &Operand| {
        let others = others.iter().map(|one| &one.contraction.operands()[slot].name);
        std::iter::once(&own.name).chain(others).cloned().collect::<Vec<Name>>()
    };
    match &mut first.contraction {
        Contraction::Product { left, right } => {
            let (lefts, rights) = (all(0, left), all(1, right));
            *left = stacked(tape, left, lefts);
            *right = stacked(tape, right, rights);
        }
        Contraction::Sum { dy, .. } => {
            let parts = all(0, dy);
            let kind = (tape.dtype(&dy.name), dy.shape.clone());
            dy.name = tape.node("Sum", &parts.iter().collect::<Vec<_>>(), vec![], kind);
        }
        _ => {}
    }
    first
}

/// Operands of one shape along an axis that holds no samples, a new one where the first axis does.
fn stacked(tape: &mut Tape, like: &Operand, parts: Vec<Name>) -> Operand {
    match like.samples {
        Some(found) if found.axis == 0 => {
            let shape = [&[1], &like.shape[..]].concat();
            side_by_side(tape, &parts, &shape, Some(SampleAxis { axis: 1, ..found }))
        }
        samples => side_by_side(tape, &parts, &like.shape, samples),
    }
}

/// Parts seen in one shape, one after the other along its first axis.
pub(super) fn side_by_side(tape: &mut Tape, parts: &[Name], shape: &[usize], samples: Option<SampleAxis>) -> Operand {
    let parts: Vec<Name> = parts.iter().map(|part| tape.reshape(part, shape)).collect();
    let name = tape.concat(&parts.iter().collect::<Vec<_>>(), 0);
    Operand { shape: tape.shape(&name), name, samples }
}
