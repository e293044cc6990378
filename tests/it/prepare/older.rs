//! Operators whose form or meaning in older operator sets the gradient checks do not reach.

use super::*;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

fn floats(values: &[f32]) -> Tensor {
    Tensor::new(&[values.len()], values.to_vec()).unwrap()
}

fn integers(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(shape, values.to_vec()).unwrap()
}

#[test]
fn images_are_enlarged_and_shrunk_as_before() {
    let feed = feed(&[("x", numbers(&[2, 1, 4, 6]))]);
    for mode in ["nearest", "linear"] {
        let upsample = format!("y = Upsample<mode=\"{mode}\",scales=[1.0,1.0,2.0,1.5]>(x)");
        for opset in [7, 8] {
            assert_prepared_same(&graph(opset, &upsample, &feed), &feed);
        }
        for (opset, op) in [(9, "Upsample"), (10, "Resize")] {
            let smaller: &[&[f32]] = if opset == 9 { &[] } else { &[&[1.0, 1.0, 0.6, 0.5], &[1.0, 1.0, 1.5, 0.4]] };
            for scales in [&[1.0, 1.0, 2.0, 1.5][..], &[1.0, 1.0, 1.0, 3.0]].into_iter().chain(smaller.iter().copied())
            {
                let graph = graph(opset, &format!("y = {op}<mode=\"{mode}\">(x, s)"), &feed);
                assert_prepared_same(&give(graph, "s", floats(scales)), &feed);
            }
        }
    }
}

#[test]
fn defaults_and_names_that_changed() {
    let boxes: [f32; 8] = [0.0, 0.0, 3.0, 3.0, 1.0, 0.5, 4.0, 5.0];
    let given = feed(&[("x", numbers(&[1, 2, 6, 6])), ("r", Tensor::new(&[2, 4], boxes.to_vec()).unwrap())]);
    let roi = "y = RoiAlign<output_height=2,output_width=3,sampling_ratio=2>(x, r, i)";
    for opset in [10, 15] {
        let graph = give(graph(opset, roi, &given), "i", integers(&[2], &[0, 0]));
        assert_prepared_same(&graph, &given);
    }
    let given = feed(&[("x", numbers(&[3, 3])), ("u", numbers(&[2, 3]))]);
    let scatter = give(graph(9, "y = Scatter(x, i, u)", &given), "i", integers(&[2, 3], &[1, 0, 2, 0, 2, 1]));
    assert_eq!(assert_prepared_same(&scatter, &given).nodes[0].op, "ScatterElements");
    let given = feed(&[("i", integers(&[4], &[-1, 0, 2, 5]))]);
    for opset in [9, 11] {
        let hot = give(graph(opset, "y = OneHot(i, d, v)", &given), "d", integers(&[1], &[3]));
        assert_prepared_same(&give(hot, "v", floats(&[0.5, 2.0])), &given);
    }
}

#[test]
fn outputs_of_training_are_refused_where_they_are_used() {
    let given = feed(&[("x", numbers(&[2, 3]))]);
    assert_refused(&graph(9, "t, m = Dropout(x); y = Add(t, m)", &given), "Dropout giving 't': its mask is used");
    assert_refused(&graph(9, "y, m, v = BatchNormalization(x, s, b, a, c); z = Add(m, v)", &given), "training");
    assert_refused(&graph(8, "y = Scan<body=0,num_scan_inputs=1>(, x)", &given), "Scan of opset 8");
}

/// The branches of an If are raised with the graph around them; what they capture keeps its type.
#[test]
fn nested_graphs_are_raised_too() {
    let double = numbers(&[2, 5]).to_f64().unwrap();
    let given = feed(&[("c", Tensor::new(&[], vec![true]).unwrap()), ("x", Tensor::F64(double))]);
    let branch = |node: NodeProto| {
        let output = ValueInfoProto { name: node.output[0].clone(), ..Default::default() };
        GraphProto { name: "branch".into(), node: vec![node], output: vec![output], ..Default::default() }
    };
    let node = |text: &str, output: &str| {
        let node = &parse::nodes(&format!("{output} = {text}"))[0];
        NodeProto {
            op_type: node.op.clone(),
            input: node.inputs.iter().flatten().map(|i| i.to_string()).collect(),
            output: vec![output.into()],
            attribute: node.attributes.clone(),
            ..Default::default()
        }
    };
    let attribute = |name: &str, graph: GraphProto| AttributeProto {
        name: name.into(),
        type_: AttributeType::GRAPH.into(),
        g: Some(graph).into(),
        ..Default::default()
    };
    for (then, other) in [("Pad<pads=[0,0,0,0],value=0.5>(x)", "Softmax(x)"), ("LogSoftmax(x)", "Dropout(x)")] {
        let mut graph = graph(9, "y = If(c)", &given);
        let branches = [("then_branch", then, "a"), ("else_branch", other, "b")];
        graph.nodes[0].attributes =
            branches.map(|(name, text, output)| attribute(name, branch(node(text, output)))).to_vec();
        let found = assert_prepared_same(&graph, &given);
        assert_eq!(found.opset(), 16);
    }
}
