//! Which samples a new model is checked on, and a search that stops as soon as it may.

use crate::autograd::build::{data, parameters, perceptron, runtime};
use onnx_unlearn::data::DataSet;
use onnx_unlearn::graph::Graph;
use onnx_unlearn::session::{Runtime, RuntimeChoice};
use onnx_unlearn::tensor::{DType, Tensor};
use onnx_unlearn::validate::{Evaluator, Known, agrees, compare};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A model and one with some weights of another sign: their largest outputs differ on some samples.
fn pair() -> (Graph, Graph) {
    let graph = perceptron(DType::F32);
    let mut other = graph.clone();
    let last = parameters(&graph).into_iter().next_back().unwrap();
    let Tensor::F32(mut values) = (*graph.constants[&last]).clone() else { panic!("{last}") };
    values.iter_mut().step_by(2).for_each(|v| *v = -*v);
    other.constants.insert(last, Arc::new(Tensor::F32(values)));
    (graph, other)
}

fn evaluators(data: &DataSet, runtime: &Runtime) -> [Evaluator; 2] {
    let (graph, other) = pair();
    [&graph, &other].map(|graph| Evaluator::new(graph, data, runtime).unwrap())
}

#[test]
fn samples_are_spread_over_the_set_and_over_each_batch() {
    let runtime = runtime(RuntimeChoice::Tract);
    let set = data(&pair().0, 1000, None);
    let [original, _] = evaluators(&set, &runtime);
    let rows: Vec<Vec<u8>> = set.batches(1).map(|b| b.unwrap().inputs.values().next().unwrap().to_le_bytes()).collect();
    let places = |known: &Known| -> Vec<usize> {
        let row = |one: &Vec<u8>| rows.iter().position(|row| row == one).unwrap();
        known.data.batches(1).map(|b| row(&b.unwrap().inputs.values().next().unwrap().to_le_bytes())).collect()
    };
    let some = places(&Known::some(&set, 96, None, &original).unwrap());
    assert_eq!(some.len(), 96);
    assert_eq!(some.iter().collect::<BTreeSet<_>>().len(), 96);
    for batch in some.chunks(original.batch) {
        let each: BTreeSet<usize> = batch.iter().map(|place| place / 100).collect();
        assert_eq!(each.len(), 10, "a batch has samples of every tenth of the set: {batch:?}");
    }
    assert_eq!(places(&Known::some(&set, 2000, None, &original).unwrap()), (0..1000).collect::<Vec<_>>());
}

#[test]
fn agreement_is_that_of_the_whole_comparison() {
    let runtime = runtime(RuntimeChoice::Tract);
    let set = data(&pair().0, 150, None);
    let [mut before, mut after] = evaluators(&set, &runtime);
    let mut known = Known::some(&set, 100, None, &before).unwrap();
    let found = compare(&mut before, &mut known, &mut after).unwrap();
    assert!(found.top1_agreement > 0.05 && found.top1_agreement < 0.95, "{found:?}");
    for least in [0.0, found.top1_agreement - 0.01, found.top1_agreement + 0.01, 1.0] {
        let holds = agrees(&mut before, &mut known, &mut after, 100, least).unwrap();
        assert_eq!(holds, found.top1_agreement >= least, "{least}");
    }
}

/// Outputs that are known already are those of the samples that were chosen.
#[test]
fn known_outputs_are_those_of_the_chosen_samples() {
    let runtime = runtime(RuntimeChoice::Tract);
    let set = data(&pair().0, 150, None);
    let [mut before, mut after] = evaluators(&set, &runtime);
    let rows: Vec<_> = set.batches(1).map(|batch| before.run(&batch.unwrap()).unwrap()).collect();
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    let outputs = ndarray::concatenate(ndarray::Axis(0), &views).unwrap();
    let mut given = Known::some(&set, 100, Some(&outputs), &before).unwrap();
    let mut computed = Known::some(&set, 100, None, &before).unwrap();
    let found = compare(&mut before, &mut given, &mut after).unwrap();
    let expected = compare(&mut before, &mut computed, &mut after).unwrap();
    assert_eq!(found.top1_agreement, expected.top1_agreement);
    assert!((found.js_divergence - expected.js_divergence).abs() < 1e-9);
}

/// The samples of a set whose two largest outputs are nearest to each other, with what the original gives for them.
#[test]
fn undecided_samples_are_those_nearest_to_another_class() {
    let runtime = runtime(RuntimeChoice::Tract);
    let set = data(&pair().0, 150, None);
    let [mut before, mut after] = evaluators(&set, &runtime);
    let mut all = Known::some(&set, 150, None, &before).unwrap();
    let mut some = all.undecided(&mut before, 40).unwrap();
    let mut margins = |known: &Known| -> Vec<f64> {
        let of = |batch: Result<_, _>| {
            let mut row: Vec<f64> = before.run(&batch.unwrap()).unwrap().into_iter().collect();
            row.sort_by(|a, b| b.total_cmp(a));
            row[0] - row[1]
        };
        known.data.batches(1).map(of).collect()
    };
    let (mut every, chosen) = (margins(&all), margins(&some));
    every.sort_by(f64::total_cmp);
    assert_eq!(chosen, every[..40]);
    let mut computed = Known::some(&some.data, 40, None, &before).unwrap();
    let found = compare(&mut before, &mut some, &mut after).unwrap();
    assert_eq!(found.top1_agreement, compare(&mut before, &mut computed, &mut after).unwrap().top1_agreement);
    // What changes among them is lost among all.
    let differing = (1.0 - found.top1_agreement) * 40.0;
    for (least, holds) in [(1.0 - (differing + 0.5) / 150.0, true), (1.0 - (differing - 0.5) / 150.0, false)] {
        assert_eq!(agrees(&mut before, &mut some, &mut after, 150, least).unwrap(), holds, "{least}");
    }
}
