//! The bytes of two models around their tensors.

use crate::model::{Data, Model};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where the files of two models differ outside the tensors, in words.
pub(super) fn outside(a: &Model, b: &Model) -> Option<String> {
    let (inside_a, inside_b) = (ranges(a), ranges(b));
    if let Some(at) = first(a.bytes(), &inside_a.0, b.bytes(), &inside_b.0) {
        return Some(format!(
            "bytes outside the tensors (encoding or unknown fields), from byte {at} of the first model on"
        ));
    }
    let nothing = Vec::new();
    for (location, file) in a.external() {
        let Some(new) = b.external().get(location) else {
            return Some(format!("external data file \"{location}\": only the first model has it"));
        };
        let of = |ranges: &BTreeMap<String, Vec<Range<usize>>>| ranges.get(location).unwrap_or(&nothing).clone();
        if let Some(at) = first(&file.bytes, &of(&inside_a.1), &new.bytes, &of(&inside_b.1)) {
            return Some(format!("external data file \"{location}\": bytes outside the tensors, from byte {at} on"));
        }
    }
    let only_b = b.external().keys().find(|location| !a.external().contains_key(*location));
    only_b.map(|location| format!("external data file \"{location}\": only the second model has it"))
}

type Ranges = Vec<Range<usize>>;

/// The byte ranges of all placed tensors, sorted: in the model file, and in each external one.
fn ranges(model: &Model) -> (Ranges, BTreeMap<String, Ranges>) {
    let (mut inside, mut external) = (Vec::new(), BTreeMap::<String, Ranges>::new());
    for place in model.places().values() {
        match &place.data {
            Data::Raw(range) => inside.push(range.clone()),
            Data::Typed { ranges } => inside.extend(ranges.iter().cloned()),
            Data::External { location, offset, length, .. } => {
                external.entry(location.clone()).or_default().push(*offset as usize..(offset + length) as usize);
            }
            Data::Varints | Data::Empty => (),
        }
    }
    inside.sort_by_key(|range| range.start);
    external.values_mut().for_each(|ranges| ranges.sort_by_key(|range| range.start));
    (inside, external)
}

/// The first byte of `a`, outside the ranges, that differs from its counterpart in `b`.
fn first(a: &[u8], in_a: &[Range<usize>], b: &[u8], in_b: &[Range<usize>]) -> Option<usize> {
    let mut x = gaps(a.len(), in_a).flatten();
    let mut y = gaps(b.len(), in_b).flatten();
    loop {
        match (x.next(), y.next()) {
            (None, None) => return None,
            (Some(i), Some(j)) if a[i] == b[j] => (),
            (i, _) => return Some(i.unwrap_or(a.len())),
        }
    }
}

/// What sorted ranges leave of `0..len`.
fn gaps(len: usize, ranges: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let last = len..len;
    ranges.iter().cloned().chain([last]).map(move |range| {
        let gap = at..range.start;
        at = at.max(range.end);
        gap
    })
}
