//! Sequences that exporters write between two tensors.

use super::*;

fn whole(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(shape, values.to_vec()).unwrap()
}

/// The graph gives the same without a sequence.
#[track_caller]
fn assert_flat(nodes: &str, constants: &[(&str, Tensor)]) {
    let feed = feed(&[("a", numbers(&[5, 4])), ("b", numbers(&[5, 4]))]);
    for opset in [11, 17] {
        let mut graph = graph(opset, nodes, &feed);
        graph.constants.extend(constants.iter().map(|(name, tensor)| ((*name).into(), Arc::new(tensor.clone()))));
        let mut prepared = assert_prepared_same(&graph, &feed);
        prepared.prune();
        let sequence = prepared.nodes.iter().find(|n| n.op.contains("Sequence") || n.op.contains("Optional"));
        assert!(sequence.is_none(), "{nodes}: {sequence:?}");
    }
}

#[test]
fn elements_at_known_places() {
    let at = |i: i64| [("i", whole(&[], &[i])), ("k", whole(&[], &[0]))];
    for i in [0, 1, -1, -2] {
        assert_flat("s = SequenceConstruct(a, b); y = SequenceAt(s, i)", &at(i));
        assert_flat("s = SequenceConstruct(a, b); t = SequenceInsert(s, a); y = SequenceAt(t, i)", &at(i));
        assert_flat(
            "e = SequenceEmpty(); f = SequenceInsert(e, a); s = SequenceInsert(f, b, k); y = SequenceAt(s, i)",
            &at(i),
        );
    }
    assert_flat("s = SequenceConstruct(a, b); t = SequenceErase(s, k); y = SequenceAt(t, k)", &at(0));
    assert_flat("s = SequenceConstruct(a, b); t = SequenceErase(s); y = SequenceAt(t, k)", &at(0));
    assert_flat("s = SequenceConstruct(a, b); y = SequenceLength(s)", &[]);
}

#[test]
fn tensors_put_together() {
    for attributes in ["axis=0", "axis=1,new_axis=0", "axis=1,new_axis=1", "axis=-1,new_axis=1"] {
        assert_flat(&format!("s = SequenceConstruct(a, b, a); y = ConcatFromSequence<{attributes}>(s)"), &[]);
    }
    assert_flat("s = SplitToSequence<axis=1>(a); y = ConcatFromSequence<axis=1>(s)", &[]);
    let none = "s = SplitToSequence<axis=1,keepdims=0>(a); y = ConcatFromSequence<axis=1,new_axis=1>(s)";
    assert_flat(none, &[]);
}

#[test]
fn pieces_of_a_tensor() {
    let take =
        |attributes: &str, split: &str| format!("s = SplitToSequence{attributes}(a{split}); y = SequenceAt(s, i)");
    for i in [0, 2, -1, -2] {
        let at = [("i", whole(&[], &[i]))];
        assert_flat(&take("", ""), &at);
        assert_flat(&take("<axis=1,keepdims=0>", ""), &at);
        assert_flat(&take("<axis=-1>", ""), &at);
        let [at] = at;
        assert_flat(&take("<axis=0,keepdims=0>", ", z"), &[at.clone(), ("z", whole(&[3], &[1, 3, 1]))]);
        assert_flat(&take("<axis=0>", ", z"), &[at.clone(), ("z", whole(&[], &[1]))]);
        if i >= 0 {
            assert_flat(&take("<axis=0>", ", z"), &[at, ("z", whole(&[], &[2]))]);
        }
    }
}

#[test]
fn optional_values() {
    let feed = feed(&[("a", numbers(&[2, 3]))]);
    let graph = graph(18, "o = Optional(a); y = OptionalGetElement(o)", &feed);
    let mut prepared = assert_prepared_same(&graph, &feed);
    prepared.prune();
    assert_eq!(prepared.nodes.len(), 1);
    let nodes = "s = SequenceConstruct(a, a); o = Optional(s); g = OptionalGetElement(o); t = Identity(g); \
                 l = SequenceLength(t); h = OptionalHasElement(o); c = Cast<to=7>(h); y = Add(l, c)";
    let mut prepared = assert_prepared_same(&self::graph(18, nodes, &feed), &feed);
    prepared.prune();
    assert_eq!(prepared.nodes.len(), 2);
}

/// What is not known stays, and runs.
#[test]
fn unknown_places_stay() {
    let feed = feed(&[("a", numbers(&[2, 3])), ("i", whole(&[], &[1]))]);
    let graph = graph(17, "s = SequenceConstruct(a, a); y = SequenceAt(s, i)", &feed);
    assert_eq!(assert_prepared_same(&graph, &feed).nodes.len(), 2);
}
