//! Half precision, operators of `ai.onnx.ml`, outputs without a name.

use super::*;
use half::{bf16, f16};
use onnx_unlearn::tensor::DType;

fn halves(shape: &[usize], dtype: DType) -> Tensor {
    let values = numbers(shape).to_f64().unwrap();
    match dtype {
        DType::F16 => Tensor::F16(values.mapv(f16::from_f64)),
        _ => Tensor::BF16(values.mapv(bf16::from_f64)),
    }
}

/// Constants, casts, attributes and nested graphs are float32; the input takes halves as before.
#[test]
fn halves_become_singles() {
    for dtype in [DType::F16, DType::BF16] {
        let half = dtype.to_onnx();
        let feed = feed(&[("x", halves(&[2, 3], dtype)), ("c", Tensor::new(&[], vec![true]).unwrap())]);
        let nodes = format!(
            "s = Shape(x); z = ConstantOfShape(s); a = Add(x, w); d = Cast<to=11>(a); e = Cast<to={half}>(d); \
             r = EyeLike<dtype={half}>(x); y = Sum(e, r)"
        );
        let graph = give(graph(17, &nodes, &feed), "w", halves(&[3], dtype));
        let prepared = prepared(&graph);
        assert_eq!(prepared.inputs[1].dtype, dtype);
        let [found] = &run(&prepared, &feed)[..] else { panic!("one output") };
        assert_eq!(found.dtype(), DType::F32);
        let single = |t: &Tensor| t.to_single().unwrap().to_f64().unwrap();
        let mut expected = single(&feed["x"]) + single(&graph.constants["w"]);
        (0..2).for_each(|i| expected[[i, i]] += 1.0);
        let gap = (found.to_f64().unwrap() - &expected).mapv(f64::abs);
        assert!(gap.iter().all(|&gap| gap < 1e-6), "{gap}");
        let again = self::prepared(&prepared);
        assert_eq!(again.nodes.len(), prepared.nodes.len());
    }
}

#[test]
fn scaling_of_inputs() {
    let rows = Tensor::new(&[3, 2], vec![0.5f32, -2.0, 0.0, 0.0, 3.0, 1.0]).unwrap();
    let double = Tensor::F64(rows.to_f64().unwrap());
    for opset in [9, 17, 21] {
        for rows in [&rows, &double] {
            let feed = feed(&[("x", rows.clone())]);
            for (offset, scale) in [("0.5,-1.5", "2.0,0.25"), ("0.5", "2.0")] {
                let scaler = format!("y = ai.onnx.ml.Scaler<offset=[{offset}],scale=[{scale}]>(x)");
                let prepared = assert_prepared_same(&graph(opset, &scaler, &feed), &feed);
                assert!(prepared.nodes.iter().all(|node| node.domain.is_empty()));
            }
        }
        for norm in ["MAX", "L1", "L2"] {
            let feed = feed(&[("x", rows.clone())]);
            let normalizer = format!("y = ai.onnx.ml.Normalizer<norm=\"{norm}\">(x)");
            let prepared = assert_prepared_same(&graph(opset, &normalizer, &feed), &feed);
            assert!(prepared.nodes.iter().all(|node| node.domain.is_empty()), "{norm}");
        }
    }
}

/// ONNX Runtime would end the process on the graph as it is written.
#[test]
fn outputs_without_a_name_get_one() {
    let feed = feed(&[("x", numbers(&[2, 6]))]);
    for (nodes, at) in [
        ("y,  = Split<axis=1,num_outputs=2>(x)", 0..3),
        (", y = Split<axis=1,num_outputs=2>(x)", 3..6),
        (", y,  = Split<axis=1,num_outputs=3>(x)", 2..4),
    ] {
        let [found] = &run(&prepared(&graph(18, nodes, &feed)), &feed)[..] else { panic!("one output") };
        let expected = feed["x"].to_f64().unwrap().slice_axis(ndarray::Axis(1), at.into()).to_owned();
        assert_eq!(found.to_f64().unwrap(), expected);
    }
}
