//! Einsum as transpositions, sums and matrix products. A product with a weight becomes one with a matrix.

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::specialise::samples::Layout;
use std::collections::BTreeMap;

/// Products over the operands of elements whose letters agree, summed over the letters that the output lacks.
pub(crate) fn einsum(node: &Node, tape: &mut Tape) -> Values {
    let operands: Vec<&Name> = node.inputs.iter().flatten().collect();
    let ranks: Vec<usize> = operands.iter().map(|o| tape.rank(o)).collect();
    let text = node.string("equation").ok_or_else(|| node.bad("equation"))?;
    let (inputs, output) = letters(text, &ranks).ok_or_else(|| node.bad("equation"))?;
    let mut terms: Vec<Term> = Vec::new();
    for (value, letters) in operands.into_iter().zip(inputs) {
        terms.push(Term { value: value.clone(), letters }.without_repeated(tape));
    }
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    for term in &terms {
        for (&letter, size) in term.letters.iter().zip(tape.shape(&term.value)) {
            let largest = sizes.entry(letter).or_default();
            *largest = size.max(*largest);
        }
    }
    let mut terms: Vec<Term> = terms.into_iter().map(|term| term.without_broadcast(tape, &sizes)).collect();
    for i in 0..terms.len() {
        let needed = |c: &char| output.contains(c) || others(&terms, i).any(|t| t.letters.contains(c));
        terms[i] = terms[i].summed(tape, needed);
    }
    let mut terms = terms.into_iter();
    let mut total = terms.next().ok_or_else(|| GradError::from(node.bad("inputs")))?;
    while let Some(next) = terms.next() {
        let needed = |c: &char| output.contains(c) || terms.as_slice().iter().any(|t| t.letters.contains(c));
        total = product(tape, total, next, needed);
    }
    one(total.ordered(tape, &output))
}

fn others(terms: &[Term], i: usize) -> impl Iterator<Item = &Term> {
    terms.iter().enumerate().filter(move |(j, _)| *j != i).map(|(_, term)| term)
}

/// The letters of each operand and of the output. The axes of `...` get letters of their own, counted from the last.
fn letters(equation: &str, ranks: &[usize]) -> Option<(Vec<Vec<char>>, Vec<char>)> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (equation.as_str(), None),
    };
    let unnamed = |count: usize| (0..count as u32).rev().filter_map(|i| char::from_u32(0xe000 + i));
    let expand = |term: &str, count: usize| -> Vec<char> {
        match term.split_once("...") {
            Some((before, after)) => before.chars().chain(unnamed(count)).chain(after.chars()).collect(),
            None => term.chars().collect(),
        }
    };
    let inputs: Vec<&str> = inputs.split(',').collect();
    let named = |term: &str| term.chars().filter(|&c| c != '.').count();
    let counts: Vec<usize> = inputs.iter().zip(ranks).map(|(term, rank)| rank.saturating_sub(named(term))).collect();
    let widest = counts.iter().copied().max().unwrap_or(0);
    let terms: Vec<Vec<char>> = inputs.iter().zip(&counts).map(|(term, &count)| expand(term, count)).collect();
    let fits = inputs.len() == ranks.len() && terms.iter().zip(ranks).all(|(term, &rank)| term.len() == rank);
    let output = match output {
        Some(output) => expand(output, widest),
        None => {
            let all: Vec<char> = terms.iter().flatten().copied().collect();
            let mut once: Vec<char> =
                all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
            once.retain(char::is_ascii);
            once.sort_unstable();
            unnamed(widest).chain(once).collect()
        }
    };
    fits.then_some((terms, output))
}

/// A value with a letter for each axis.
struct Term {
    value: Name,
    letters: Vec<char>,
}

impl Term {
    /// The diagonal of axes with the same letter.
    fn without_repeated(self, tape: &mut Tape) -> Term {
        let Term { value, letters } = self;
        let pair = (0..letters.len()).find_map(|i| {
            let again = letters[i + 1..].iter().position(|&c| c == letters[i])?;
            Some((i, i + 1 + again))
        });
        let Some((i, j)) = pair else { return Term { value, letters } };
        let rest: Vec<usize> = (0..letters.len()).filter(|&k| k != i && k != j).collect();
        let moved = tape.transpose(&value, &[&[i, j], &rest[..]].concat());
        let shape = tape.shape(&moved);
        let merged = tape.reshape(&moved, &[&[shape[0] * shape[1]], &shape[2..]].concat());
        let places =
            tape.constant_integers(&(0..shape[0] as i64).map(|k| k * (shape[0] as i64 + 1)).collect::<Vec<_>>());
        let kind = (tape.dtype(&value), shape[1..].to_vec());
        let value = tape.node("Gather", &[&merged, &places], vec![attribute("axis", 0)], kind);
        let letters = std::iter::once(letters[i]).chain(rest.iter().map(|&k| letters[k])).collect();
        Term { value, letters }.without_repeated(tape)
    }

    /// Without axes of length 1 whose letter is longer elsewhere.
    fn without_broadcast(self, tape: &mut Tape, sizes: &BTreeMap<char, usize>) -> Term {
        let shape = tape.shape(&self.value);
        let kept = |i: &usize| shape[*i] != 1 || sizes.get(&self.letters[*i]) == Some(&1);
        let kept: Vec<usize> = (0..shape.len()).filter(kept).collect();
        let value = tape.reshape(&self.value, &kept.iter().map(|&i| shape[i]).collect::<Vec<_>>());
        Term { value, letters: kept.iter().map(|&i| self.letters[i]).collect() }
    }

    /// The sum over letters that nothing needs.
    fn summed(&self, tape: &mut Tape, needed: impl Fn(&char) -> bool) -> Term {
        let axes: Vec<usize> = (0..self.letters.len()).filter(|&i| !needed(&self.letters[i])).collect();
        let letters: Vec<char> = self.letters.iter().copied().filter(|c| needed(c)).collect();
        let shape = tape.shape(&self.value);
        let total = tape.sum(&self.value, &axes);
        let kept: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
        Term { value: tape.reshape(&total, &kept), letters }
    }

    fn ordered(&self, tape: &mut Tape, order: &[char]) -> Name {
        let perm: Vec<usize> = order.iter().filter_map(|c| self.letters.iter().position(|d| d == c)).collect();
        if perm.iter().copied().eq(0..perm.len()) {
            return self.value.clone();
        }
        tape.transpose(&self.value, &perm)
    }

    /// The value with one axis for each group of letters.
    fn grouped(&self, tape: &mut Tape, groups: &[&[char]]) -> Name {
        let ordered = self.ordered(tape, &groups.concat());
        let shape = groups.iter().map(|group| self.sizes(tape, group).iter().product()).collect::<Vec<_>>();
        tape.reshape(&ordered, &shape)
    }

    fn sizes(&self, tape: &Tape, letters: &[char]) -> Vec<usize> {
        let shape = tape.shape(&self.value);
        let axis = |c: &char| self.letters.iter().position(|d| d == c);
        letters.iter().filter_map(|c| axis(c).map(|i| shape[i])).collect()
    }

    /// The letter of the axis that holds the samples.
    fn sample_letter(&self, tape: &Tape) -> Option<char> {
        tape.facts.sample_axis(&self.value).and_then(|found| self.letters.get(found.axis).copied())
    }
}

/// The product of two terms, summed over shared letters that nothing needs.
fn product(tape: &mut Tape, a: Term, b: Term, needed: impl Fn(&char) -> bool) -> Term {
    let fixed = |term: &Term| tape.facts.layout(&term.value) == Layout::Shared;
    let is_weight = |term: &Term| tape.is_weight(&term.value);
    // A weight stands on the right, where rows of the left are the samples'.
    let (a, b) = if is_weight(&a) || (fixed(&a) && !fixed(&b)) { (b, a) } else { (a, b) };
    let split = |of: &Term, with: &Term| -> (Vec<char>, Vec<char>) {
        of.letters.iter().partition(|c| with.letters.contains(c))
    };
    let ((shared, left), (_, right)) = (split(&a, &b), split(&b, &a));
    let (batch, summed): (Vec<char>, Vec<char>) = shared.into_iter().partition(|c| needed(c));
    if summed.is_empty() {
        let letters = [&batch[..], &left, &right].concat();
        let shape = [a.sizes(tape, &batch), a.sizes(tape, &left), b.sizes(tape, &right)].concat();
        let x = a.grouped(tape, &[&batch, &left, &[]]);
        let y = b.grouped(tape, &[&batch, &[], &right]);
        let value = tape.mul(&x, &y);
        return Term { value: tape.reshape(&value, &shape), letters };
    }
    // Samples that would be summed over in the gradient of a stack of matrices lead instead.
    let leading: Vec<char> = match a.sample_letter(tape) {
        Some(letter) if left.contains(&letter) && !batch.is_empty() => vec![letter],
        _ => vec![],
    };
    let rows: Vec<char> = left.iter().copied().filter(|c| !leading.contains(c)).collect();
    let mut left_groups: Vec<&[char]> = vec![&rows, &summed];
    let mut right_groups: Vec<&[char]> = vec![&summed, &right];
    if !batch.is_empty() {
        left_groups.insert(0, &batch);
        right_groups.insert(0, &batch);
    }
    if !leading.is_empty() {
        left_groups.insert(0, &leading);
    }
    let x = a.grouped(tape, &left_groups);
    let y = b.grouped(tape, &right_groups);
    let value = tape.matmul(&x, &y);
    let letters = [&leading[..], &batch, &rows, &right].concat();
    let shape: Vec<usize> = [&leading, &batch, &rows].into_iter().flat_map(|l| a.sizes(tape, l)).collect();
    let shape = [shape, b.sizes(tape, &right)].concat();
    Term { value: tape.reshape(&value, &shape), letters }
}
