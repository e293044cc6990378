//! The gradient graph as a file: what it holds, and what is refused.

use super::{Home, node, raw, with_nodes};
use crate::model::build;
use onnx_protobuf::ModelProto;
use onnx_unlearn::graph::Graph;
use onnx_unlearn::model::{Limits, Model};
use onnx_unlearn::session::{Feed, Kinds, Runtime, RuntimeOptions};
use onnx_unlearn::tensor::Tensor;
use protobuf::Message;

fn names(home: &Home, file: &str) -> [Vec<String>; 2] {
    let model = ModelProto::parse_from_bytes(&home.read(file)).unwrap();
    let name = |list: &[onnx_protobuf::ValueInfoProto]| list.iter().map(|v| v.name.clone()).collect();
    [name(&model.graph.input), name(&model.graph.output)]
}

#[test]
fn outputs_are_those_of_the_model_then_gradients() {
    let home = Home::small();
    home.ok("grad m.onnx -o g.onnx");
    assert_eq!(names(&home, "g.onnx"), [vec!["x"], vec!["y", "bias.grad", "weight.grad"]]);
    home.ok("grad m.onnx -o g.onnx --wrt w* --wrt-inputs --seed-input");
    assert_eq!(names(&home, "g.onnx"), [vec!["x", "y.seed"], vec!["y", "weight.grad", "x.grad"]]);
    let model = ModelProto::parse_from_bytes(&home.read("g.onnx")).unwrap();
    assert_eq!(model.graph.input[0].type_.tensor_type().shape.dim[0].dim_param(), "batch");
    assert!(model.opset_import.iter().all(|o| o.domain.is_empty()));
}

/// `y = x W + b`, `J = mean ‖y‖²`: `dW = 2/n xᵀ y`, `db = 2/n Σ y`, computed from the file for two batch sizes.
#[test]
fn the_file_computes_the_gradient() {
    let home = Home::small();
    home.ok("grad m.onnx -o g.onnx");
    let graph = Graph::new(&Model::read(&home.path("g.onnx"), &Limits::default()).unwrap()).unwrap();
    let runtime = Runtime::open(RuntimeOptions::default()).unwrap();
    let mut session = runtime.session(&graph, &Kinds::new()).unwrap();
    for samples in [1, 4] {
        let x = ndarray::Array2::from_shape_fn((samples, 3), |(i, j)| (i * 3 + j) as f32 * 0.25 - 1.0);
        let feed = Feed::from([("x".to_string(), Tensor::F32(x.clone().into_dyn()))]);
        let outputs = session.run(&feed).unwrap();
        let [y, db, dw] = [0, 1, 2].map(|i| outputs[i].array::<f32>().unwrap().clone());
        let y = y.into_dimensionality::<ndarray::Ix2>().unwrap();
        let scale = 2.0 / samples as f32;
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        assert!(db.iter().zip(y.sum_axis(ndarray::Axis(0)).mapv(|v| v * scale)).all(|(a, b)| near(*a, b)));
        assert!(dw.iter().zip(&x.t().dot(&y).mapv(|v| v * scale)).all(|(a, b)| near(*a, *b)));
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    let home = Home::small();
    home.fails("grad m.onnx -o m.onnx", 2, &["m.onnx"]);
    home.fails("grad m.onnx -o g.onnx --wrt nothing*", 2, &["--wrt 'nothing*' matches no weight"]);
    home.fails("grad m.onnx -o g.onnx --objective fisher", 2, &["needs labels"]);
    home.fails("grad m.onnx -o g.onnx --shape z=1,2", 2, &["no such input", "x"]);
    home.fails("grad m.onnx -o g.onnx --shape x=1,4", 2, &["fixes dimension 1 at 3"]);
    home.fails("grad m.onnx -o g.onnx --outputs z", 2, &["no output 'z'", "y"]);
    home.fails("grad m.onnx -o none/g.onnx", 6, &["none"]);
    let weight = Tensor::new(&[3], vec![1.0f32, 2.0, 3.0]).unwrap();
    let unknown = with_nodes(vec![node("Unknowable", &["x", "weight"], &["y"])], vec![raw("weight", &weight)]);
    home.write("u.onnx", build::bytes(&unknown));
    home.fails("grad u.onnx -o g.onnx --wrt weight", 4, &["Unknowable (1 node)"]);
}

/// A dimension that the model leaves open besides the batch is asked for, and fixed.
#[test]
fn open_dimensions_are_asked_for() {
    let home = Home::small();
    let weight = Tensor::new(&[1, 1], vec![2.0f32]).unwrap();
    let mut model = with_nodes(
        vec![node("Mul", &["x", "weight"], &["m"]), node("Tanh", &["m"], &["y"])],
        vec![raw("weight", &weight)],
    );
    let input = &mut model.graph.mut_or_insert_default().input[0];
    input.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default().dim[1]
        .set_dim_param("t".into());
    home.write("t.onnx", build::bytes(&model));
    home.fails("grad t.onnx -o g.onnx --wrt weight", 2, &["dimension 1 of input 'x' open", "--shape 'x=1,…'"]);
    home.ok("grad t.onnx -o g.onnx --wrt weight --shape x=1,5");
    home.ok("grad t.onnx -o g.onnx --wrt weight --data f.npy");
    let made = ModelProto::parse_from_bytes(&home.read("g.onnx")).unwrap();
    assert_eq!(made.graph.input[0].type_.tensor_type().shape.dim[1].dim_value(), 3);
}
