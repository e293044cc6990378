//! Reading models: every fault has its variant, kind and message, and no input panics.

use onnx_protobuf::{ModelProto, NodeProto, TensorProto};
use onnx_unlearn::error::Kind;
use onnx_unlearn::model::{Data, ExternalFault, GraphFault, Limits, Model, ModelError, TensorFault, WireFault};
use onnx_unlearn::tensor::{DType, Tensor};
use proptest::prelude::*;
use std::fs;

/// Small models.
pub mod build {
    use onnx_protobuf::type_proto::{self, Value};
    use onnx_protobuf::{
        AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
        TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto,
    };
    use onnx_unlearn::tensor::Tensor;

    pub fn empty(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { name: name.into(), data_type, dims: dims.to_vec(), ..Default::default() }
    }

    fn header(name: &str, value: &Tensor) -> TensorProto {
        let dims: Vec<i64> = value.shape().iter().map(|&d| d as i64).collect();
        empty(name, value.dtype().to_onnx(), &dims)
    }

    pub fn raw(name: &str, value: &Tensor) -> TensorProto {
        TensorProto { raw_data: value.to_le_bytes(), ..header(name, value) }
    }

    /// float_data or double_data, as one packed field.
    pub fn packed(name: &str, value: &Tensor) -> TensorProto {
        TensorProto {
            float_data: value.slice::<f32>().unwrap_or_default().to_vec(),
            double_data: value.slice::<f64>().unwrap_or_default().to_vec(),
            ..header(name, value)
        }
    }

    /// float_data or double_data, a field to a number.
    pub fn unpacked(name: &str, value: &Tensor) -> TensorProto {
        let mut tensor = header(name, value);
        let fields = tensor.special_fields.mut_unknown_fields();
        value.slice::<f32>().unwrap_or_default().iter().for_each(|x| fields.add_fixed32(4, x.to_bits()));
        value.slice::<f64>().unwrap_or_default().iter().for_each(|x| fields.add_fixed64(10, x.to_bits()));
        tensor
    }

    pub fn external(tensor: TensorProto, entries: &[(&str, &str)]) -> TensorProto {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        let external_data = entries.iter().map(entry).collect();
        let data_location = protobuf::EnumOrUnknown::from_i32(1);
        TensorProto { raw_data: vec![], external_data, data_location, ..tensor }
    }

    pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        NodeProto { op_type: op.into(), input: strings(inputs), output: strings(outputs), ..Default::default() }
    }

    pub fn constant(tensor: TensorProto) -> NodeProto {
        let mut constant = node("Constant", &[], &[&tensor.name]);
        let type_ = protobuf::EnumOrUnknown::from_i32(4);
        constant.attribute =
            vec![AttributeProto { name: "value".into(), type_, t: Some(tensor).into(), ..Default::default() }];
        constant
    }

    fn info(name: &str) -> ValueInfoProto {
        let dim = |value| tensor_shape_proto::Dimension { value: Some(value), ..Default::default() };
        let batch = dim(tensor_shape_proto::dimension::Value::DimParam("N".into()));
        let size = dim(tensor_shape_proto::dimension::Value::DimValue(3));
        let shape = Some(TensorShapeProto { dim: vec![batch, size], ..Default::default() }).into();
        let tensor = type_proto::Tensor { elem_type: 1, shape, ..Default::default() };
        let type_ = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: name.into(), type_: Some(type_).into(), ..Default::default() }
    }

    /// Constant nodes, initializers, and an Add of all of them to the input.
    pub fn model(initializers: Vec<TensorProto>, constants: Vec<TensorProto>) -> ModelProto {
        let names: Vec<String> = initializers.iter().chain(&constants).map(|t| t.name.clone()).collect();
        let mut nodes: Vec<NodeProto> = constants.into_iter().map(constant).collect();
        let mut last = "x".to_owned();
        for (i, name) in names.iter().enumerate() {
            nodes.push(node("Add", &[&last, name], &[&format!("sum{i}")]));
            last = format!("sum{i}");
        }
        nodes.push(node("Identity", &[&last], &["y"]));
        let graph = GraphProto {
            name: "g".into(),
            node: nodes,
            initializer: initializers,
            input: vec![info("x")],
            output: vec![info("y")],
            ..Default::default()
        };
        let opset = OperatorSetIdProto { version: 17, ..Default::default() };
        ModelProto { ir_version: 8, graph: Some(graph).into(), opset_import: vec![opset], ..Default::default() }
    }

    pub fn bytes(model: &ModelProto) -> Vec<u8> {
        model.write_to_bytes().unwrap()
    }

    pub fn f32s(values: &[f32]) -> Tensor {
        Tensor::new(&[values.len()], values.to_vec()).unwrap()
    }
}
use build::*;

fn read(model: &ModelProto) -> Result<Model, ModelError> {
    Model::from_bytes(bytes(model), &Limits::default())
}

fn with_initializer(tensor: TensorProto) -> ModelProto {
    model(vec![tensor], vec![])
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = vec![];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

macro_rules! assert_fault {
    ($result:expr, $pattern:pat, $kind:ident, $($part:expr),*) => {{
        let error = $result.expect_err("must be refused");
        assert!(matches!(error.fault(), $pattern), "{error:?}");
        assert_eq!(error.kind(), Kind::$kind, "{error}");
        $(assert!(error.to_string().contains($part), "{error}");)*
    }};
}

fn sample() -> ModelProto {
    model(
        vec![raw("w", &f32s(&[1.0, -2.0, 3.5])), packed("b", &f32s(&[0.5, 0.25, 0.0]))],
        vec![unpacked("c", &f32s(&[7.0, 8.0, 9.0]))],
    )
}

#[test]
fn every_way_to_store_a_tensor_is_read() {
    let doubles = Tensor::new(&[2], vec![1.5f64, -2.5]).unwrap();
    let longs = Tensor::new(&[2], vec![-1i64, 1 << 40]).unwrap();
    let mut half = empty("half", 10, &[2]);
    half.int32_data = vec![0x3c00, 0xc000];
    let mut brain = empty("brain", 16, &[1]);
    brain.int32_data = vec![0x3f80];
    let mut bytes8 = empty("int8", 3, &[2]);
    bytes8.int32_data = vec![-128, 127];
    let mut bools = empty("bool", 9, &[2]);
    bools.int32_data = vec![1, 0];
    let mut ints = empty("int64", 7, &[2]);
    ints.int64_data = vec![-1, 1 << 40];
    let all = vec![
        raw("raw", &f32s(&[1.0, 2.0])),
        packed("packed", &f32s(&[3.0, 4.0])),
        unpacked("unpacked", &f32s(&[5.0, 6.0])),
        packed("doubles", &doubles),
        unpacked("unpacked doubles", &doubles),
        raw("empty", &f32s(&[])),
        half,
        brain,
        bytes8,
        bools,
        ints,
    ];
    let model = read(&model(all, vec![raw("constant", &doubles)])).unwrap();
    let of = |name: &str| model.tensor(name).unwrap();
    assert_eq!(of("raw"), f32s(&[1.0, 2.0]));
    assert_eq!(of("packed"), f32s(&[3.0, 4.0]));
    assert_eq!(of("unpacked"), f32s(&[5.0, 6.0]));
    assert_eq!((of("doubles"), of("unpacked doubles")), (doubles.clone(), doubles.clone()));
    assert_eq!((of("constant"), of("int64")), (doubles, longs));
    assert_eq!(of("empty").len(), 0);
    assert_eq!(of("half").to_f64().unwrap().into_raw_vec_and_offset().0, [1.0, -2.0]);
    assert_eq!(of("brain").to_f64().unwrap()[0], 1.0);
    assert_eq!(of("int8").to_i64().unwrap(), [-128, 127]);
    assert_eq!(of("bool").slice::<bool>().unwrap(), [true, false]);
    let data = |name: &str| &model.places()[name].data;
    assert!(matches!(data("raw"), Data::Raw(range) if range.len() == 8));
    assert!(matches!(data("packed"), Data::Typed { ranges } if ranges.len() == 1));
    assert!(matches!(data("unpacked"), Data::Typed { ranges } if ranges.len() == 2));
    assert_eq!((data("half"), data("empty")), (&Data::Varints, &Data::Empty));
    assert!(model.places()["constant"].constant_node && !model.places()["raw"].constant_node);
    let inputs = model.inputs();
    assert_eq!((inputs.len(), inputs[0].name.as_str(), inputs[0].dtype), (1, "x", Some(DType::F32)));
    assert_eq!((&inputs[0].shape, model.outputs()[0].name.as_str()), (&vec![None, Some(3)], "y"));
    assert_eq!((model.opset(), model.sha256().len(), model.files().len()), (17, 64, 0));
    assert_fault!(model.tensor("none"), ModelError::NoSuchTensor { .. }, Usage, "none");
}

#[test]
fn weights_that_are_not_finite_are_found_not_refused() {
    let found = read(&model(vec![raw("w", &f32s(&[0.0, f32::NAN]))], vec![])).unwrap().first_not_finite().unwrap();
    assert_eq!(found, Some(("w".to_owned(), 1)));
    assert_eq!(read(&sample()).unwrap().first_not_finite().unwrap(), None);
}

#[test]
fn a_truncated_model_is_an_error_at_every_byte() {
    let whole = bytes(&sample());
    for end in 0..whole.len() {
        let error = Model::from_bytes(whole[..end].to_vec(), &Limits::default()).expect_err("cut");
        assert_eq!(error.kind(), Kind::Malformed, "{end}: {error}");
    }
    assert!(Model::from_bytes(whole, &Limits::default()).is_ok());
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut damaged = bytes(&sample());
        for (index, value) in flips {
            let at = index.index(damaged.len());
            damaged[at] = value;
        }
        if let Ok(model) = Model::from_bytes(damaged, &Limits::default()) {
            for name in model.places().keys() {
                let _ = model.tensor(name);
            }
            let _ = model.first_not_finite();
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Model::from_bytes(bytes, &Limits::default());
    }
}

#[test]
fn group_bombs_are_refused() {
    let bomb = varint(200 << 3 | 3).repeat(200_000);
    let in_tensor = field(7, &field(5, &bomb));
    let in_model = [bytes(&sample()), bomb.clone()].concat();
    for bytes in [bomb, in_tensor, in_model] {
        assert_fault!(
            Model::from_bytes(bytes, &Limits::default()),
            ModelError::Wire { fault: WireFault::Group, .. },
            Malformed,
            "group",
            "byte"
        );
    }
}

#[test]
fn deep_nesting_is_refused() {
    // Graph (7, then 6) > node (1) > attribute (5) > graph …, headers built from the inside out.
    let mut headers: Vec<Vec<u8>> = vec![];
    let mut length = 0;
    for level in 0..200_000 {
        let number = [6, 5, 1][level % 3];
        let header = [varint(number << 3 | 2), varint(length)].concat();
        length += header.len() as u64;
        headers.push(header);
    }
    // The outermost message is a node in the main graph.
    while headers.last().is_some_and(|h| h[0] != (1 << 3 | 2)) {
        length -= headers.pop().unwrap().len() as u64;
    }
    let body: Vec<u8> = headers.into_iter().rev().flatten().collect();
    assert_eq!(body.len() as u64, length);
    assert_fault!(
        Model::from_bytes(field(7, &body), &Limits::default()),
        ModelError::Wire { .. } | ModelError::Limit { .. },
        Limit,
        "limit of 100"
    );
}

#[test]
fn limits_hold() {
    let bytes = bytes(&sample());
    let with = |limits| Model::from_bytes(bytes.clone(), &limits);
    let default = Limits::default;
    assert_fault!(
        with(Limits { max_nodes: 2, ..default() }),
        ModelError::Limit { .. },
        Limit,
        "nodes: 3",
        "limit of 2"
    );
    assert_fault!(with(Limits { max_file_bytes: 9, ..default() }), ModelError::Limit { .. }, Limit, "bytes");
    assert_fault!(with(Limits { max_total_weight_bytes: 9, ..default() }), ModelError::Limit { .. }, Limit, "external");
    assert_fault!(with(Limits { max_messages: 2, ..default() }), ModelError::Limit { .. }, Limit, "messages");
    assert_fault!(with(Limits { max_fields: 2, ..default() }), ModelError::Limit { .. }, Limit, "fields");
    assert_fault!(with(Limits { max_depth: 2, ..default() }), ModelError::Limit { .. }, Limit, "depth");
}

#[test]
fn damage_on_the_wire_is_named() {
    let good = bytes(&sample());
    let cases: Vec<(Vec<u8>, WireFault)> = vec![
        (vec![], WireFault::Empty),
        (b"<html>404 not found</html>\n".to_vec(), WireFault::Text),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), WireFault::LfsPointer),
        (b"\x1c\0\0\0ORTM".to_vec(), WireFault::OrtFormat),
        ([&good[..], &[8 << 3 | 6]].concat(), WireFault::WireType(6)),
        ([&good[..], &[0]].concat(), WireFault::FieldNumber(0)),
        ([&good[..], &[8 << 3 | 7]].concat(), WireFault::WireType(7)),
        ([&good[..], &[5 << 3], &[0xff; 11]].concat(), WireFault::LongVarint),
        ([&good[..], &field(7, &[])].concat(), WireFault::Repeated { message: "ModelProto", number: 7 }),
        (vec![8 << 3, 1], WireFault::FieldType { message: "ModelProto", number: 8, wire_type: 0 }),
        (field(2, &[0xff]), WireFault::Utf8),
        (field(2, b"abc")[..4].to_vec(), WireFault::Truncated { missing: 1 }),
        (field(7, &field(5, &field(4, &[0; 7]))), WireFault::PartElement),
        (field(7, &field(5, &[field(4, &[0; 4]), field(9, &[])].concat())), WireFault::TwoData),
        (field(7, &field(5, &[field(9, &[]), field(13, &[])].concat())), WireFault::InsideAndOutside),
        (
            field(7, &field(5, &[field(9, &[]), field(9, &[])].concat())),
            WireFault::Repeated { message: "TensorProto", number: 9 },
        ),
    ];
    for (bytes, expected) in cases {
        let error = Model::from_bytes(bytes, &Limits::default()).expect_err("damaged");
        assert!(
            matches!(error.fault(), ModelError::Wire { fault, .. } if *fault == expected),
            "{expected:?}: {error:?}"
        );
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.to_string().starts_with("not an ONNX model: byte "), "{error}");
    }
}

#[test]
fn faults_of_the_header_are_named() {
    let with = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = sample();
        change(&mut model);
        read(&model)
    };
    assert_fault!(with(&|m| m.ir_version = 0), ModelError::NoIrVersion, Malformed, "ir_version");
    assert_fault!(with(&|m| m.opset_import.clear()), ModelError::NoOpset, Malformed, "opset");
    assert_fault!(with(&|m| m.opset_import[0].version = 6), ModelError::Opset { found: 6 }, Unsupported, "convert");
    assert_fault!(with(&|m| m.opset_import[0].version = 27), ModelError::Opset { found: 27 }, Unsupported, "7 to 26");
    let twice = |m: &mut ModelProto| m.opset_import.push(m.opset_import[0].clone());
    assert!(with(&twice).is_ok(), "one version named twice is one version");
    let twice = |m: &mut ModelProto| {
        twice(m);
        m.opset_import[0].version = 18;
    };
    assert_fault!(with(&twice), ModelError::TwoOpsets { .. }, Malformed, "two opsets");
}

#[test]
fn faults_of_the_graph_are_named() {
    use GraphFault::*;
    type Change = fn(&mut ModelProto);
    let cases: Vec<(Change, GraphFault)> = vec![
        (|m| m.graph = None.into(), NoGraph),
        (|m| m.graph.as_mut().unwrap().node.clear(), NoNodes),
        (|m| m.graph.as_mut().unwrap().output.clear(), NoOutputs),
        (|m| m.graph.as_mut().unwrap().node[0].op_type.clear(), NoOperator),
        (|m| m.graph.as_mut().unwrap().input[0].name.clear(), NoName),
        (|m| m.graph.as_mut().unwrap().node[1].output[0] = "w".into(), DefinedTwice("w".into())),
        (|m| m.graph.as_mut().unwrap().node[1].input[1] = "no\u{1b}".into(), Undefined("no\u{1b}".into())),
        (|m| m.graph.as_mut().unwrap().output[0].name = "z".into(), Undefined("z".into())),
        (|m| m.graph.as_mut().unwrap().node.swap(1, 2), Unsorted("sum0".into())),
        (|m| m.graph.as_mut().unwrap().node[1].input[0] = "sum0".into(), Unsorted("sum0".into())),
        (
            |m| {
                let twin = m.graph.node[0].attribute[0].clone();
                m.graph.as_mut().unwrap().node[0].attribute.push(twin);
            },
            TwoAttributes("value".into()),
        ),
        (
            |m| {
                let node = NodeProto { name: "in function".into(), ..node("Relu", &["missing"], &["out"]) };
                m.functions.push(onnx_protobuf::FunctionProto { node: vec![node], ..Default::default() });
            },
            Undefined("missing".into()),
        ),
        (|m| m.functions = vec![Default::default(), Default::default()], TwoFunctions),
    ];
    for (change, expected) in cases {
        let mut model = sample();
        change(&mut model);
        let error = read(&model).expect_err("malformed");
        assert!(
            matches!(error.fault(), ModelError::Graph { fault, .. } if *fault == expected),
            "{expected:?}: {error:?}"
        );
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(!error.to_string().contains('\u{1b}'), "escapes must not reach the terminal");
    }
}

#[test]
fn names_of_nested_graphs_are_checked() {
    let nested = |inputs: &[&str], output: &str| {
        let mut graph = onnx_protobuf::GraphProto { name: "then".into(), ..Default::default() };
        graph.node = vec![node("Relu", inputs, &[output])];
        graph.output = vec![onnx_protobuf::ValueInfoProto { name: output.into(), ..Default::default() }];
        let mut m = sample();
        let attribute =
            onnx_protobuf::AttributeProto { name: "then_branch".into(), g: Some(graph).into(), ..Default::default() };
        m.graph.as_mut().unwrap().node[1].attribute.push(attribute);
        read(&m)
    };
    assert!(nested(&["x"], "inner").is_ok(), "outer values are visible");
    assert_fault!(
        nested(&["y"], "inner"),
        ModelError::Graph { fault: GraphFault::Undefined(_), .. },
        Malformed,
        "\"y\""
    );
    assert_fault!(
        nested(&["x"], "w"),
        ModelError::Graph { fault: GraphFault::DefinedTwice(_), .. },
        Malformed,
        "\"w\""
    );
}

#[test]
fn faults_of_tensors_are_named() {
    use TensorFault::*;
    let floats = |dims: &[i64], data: &[f32]| {
        let mut tensor = empty("w", 1, dims);
        tensor.float_data = data.to_vec();
        tensor
    };
    let mut ints = empty("w", 1, &[1]);
    ints.int64_data = vec![1];
    let mut split = raw("w", &f32s(&[1.0]));
    split.segment = Some(Default::default()).into();
    let length = |found, expected, unit| Length { found, expected, unit };
    let cases = vec![
        (floats(&[2], &[1.0]), length(1, 2, "entries"), Kind::Malformed),
        (empty("w", 1, &[2]), length(0, 8, "bytes"), Kind::Malformed),
        (TensorProto { raw_data: vec![0; 9], ..empty("w", 1, &[2]) }, length(9, 8, "bytes"), Kind::Malformed),
        (floats(&[-1], &[]), NegativeDimension(-1), Kind::Malformed),
        (floats(&[1 << 32, 1 << 32, 0], &[]), Overflow, Kind::Malformed),
        (floats(&[i64::MAX, 2], &[]), Overflow, Kind::Malformed),
        (empty("w", 0, &[0]), NoType, Kind::Malformed),
        (ints, WrongField { found: "int64_data", expected: "float_data" }, Kind::Malformed),
        (split, Segment, Kind::Unsupported),
        (raw("", &f32s(&[1.0])), NoName, Kind::Malformed),
    ];
    for (tensor, expected, kind) in cases {
        let error = read(&with_initializer(tensor)).expect_err("malformed");
        assert!(
            matches!(error.fault(), ModelError::Tensor { fault, .. } if *fault == expected),
            "{expected:?}: {error:?}"
        );
        assert_eq!(error.kind(), kind);
    }
    let mut twins = sample();
    twins.graph.as_mut().unwrap().initializer[1].name = "w".into();
    assert_fault!(read(&twins), ModelError::Tensor { fault: Duplicate, .. }, Malformed, "\"w\"");
    let mut wide = empty("w", 3, &[1]);
    wide.int32_data = vec![128];
    let model = read(&with_initializer(wide)).unwrap();
    assert_fault!(model.tensor("w"), ModelError::Tensor { fault: OutOfRange { value: 128, .. }, .. }, Malformed, "128");
    let mut text = empty("w", 8, &[1]);
    text.string_data = vec![b"a".to_vec()];
    let model = read(&with_initializer(text)).unwrap();
    assert_fault!(model.tensor("w"), ModelError::UnsupportedType { .. }, Unsupported, "string");
}

/// A model with one external tensor of two floats, in a folder with `w.bin` of 16 bytes.
fn with_external(entries: &[(&str, &str)]) -> (tempfile::TempDir, Result<Model, ModelError>) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(home.join("w.bin"), &data).unwrap();
    fs::write(folder.path().join("secret"), &data).unwrap();
    std::os::unix::fs::symlink("../secret", home.join("link")).unwrap();
    std::os::unix::fs::symlink("w.bin", home.join("inner")).unwrap();
    std::os::unix::fs::symlink("..", home.join("up")).unwrap();
    fs::create_dir(home.join("folder")).unwrap();
    fs::hard_link(home.join("w.bin"), home.join("hard")).unwrap();
    let fifo = std::ffi::CString::new(home.join("fifo").to_str().unwrap()).unwrap();
    // SAFETY: the path is a string that ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let path = home.join("m.onnx");
    fs::write(&path, bytes(&with_initializer(external(empty("w", 1, &[2]), entries)))).unwrap();
    let model = Model::read(&path, &Limits::default());
    (folder, model)
}

#[test]
fn external_data_is_read_where_it_may_lie() {
    let second = [("offset", "8"), ("length", "8")];
    for location in ["w.bin", "./w.bin", "inner", "hard"] {
        let (_folder, model) = with_external(&[&[("location", location)], &second[..]].concat());
        let model = model.unwrap();
        assert_eq!(model.tensor("w").unwrap(), f32s(&[3.0, 4.0]));
        assert!(matches!(&model.places()["w"].data, Data::External { offset: 8, length: 8, .. }));
        assert_eq!(model.files().len(), 2);
    }
    let (_folder, model) = with_external(&[("location", "w.bin")]);
    assert_eq!(model.unwrap().tensor("w").unwrap(), f32s(&[1.0, 2.0]));
}

#[test]
fn a_cache_of_symbolic_links_into_one_folder_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshots/1"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(blobs.join("data"), f32s(&[1.0, 2.0]).to_le_bytes()).unwrap();
    let tensor = external(empty("w", 1, &[2]), &[("location", "w.bin")]);
    fs::write(blobs.join("model"), bytes(&with_initializer(tensor))).unwrap();
    std::os::unix::fs::symlink("../../blobs/data", snapshot.join("w.bin")).unwrap();
    std::os::unix::fs::symlink("../../blobs/model", snapshot.join("m.onnx")).unwrap();
    let model = Model::read(&snapshot.join("m.onnx"), &Limits::default()).unwrap();
    assert_eq!(model.tensor("w").unwrap(), f32s(&[1.0, 2.0]));
}

#[test]
fn hostile_external_data_is_refused() {
    use ExternalFault as F;
    macro_rules! refused {
        ($entries:expr, $pattern:pat, $kind:ident) => {
            assert_fault!(
                with_external(&$entries).1,
                ModelError::External { fault: $pattern, .. },
                $kind,
                "m.onnx: tensor \"w\""
            );
        };
    }
    let written = [
        "../secret",
        "/etc/passwd",
        "a/../../secret",
        "C:w.bin",
        "c:\\w.bin",
        "..\\secret",
        "*/_ORT_MEM_ADDR_/*",
        "w.bin/",
        "w\0.bin",
        "up/../w.bin",
        ".",
    ];
    for location in written {
        refused!([("location", location)], F::Location, Malformed);
    }
    refused!([("location", "link")], F::Outside, Malformed);
    refused!([("location", "up/secret")], F::Outside, Malformed);
    refused!([("location", "m.onnx")], F::IsModel, Malformed);
    refused!([("location", "folder")], F::NotRegular, Io);
    refused!([("location", "fifo")], F::NotRegular, Io);
    refused!([("location", "missing")], F::Io(_), Io);
    refused!([("location", "")], F::NoLocation, Malformed);
    refused!([("offset", "0")], F::NoLocation, Malformed);
    refused!([("location", "w.bin"), ("__class__", "x")], F::Key(_), Malformed);
    refused!([("location", "w.bin"), ("location", "w.bin")], F::TwoKeys(_), Malformed);
    for number in ["-1", "+1", "9223372036854775808", "18446744073709551616", "0x8", "", " 8"] {
        refused!([("location", "w.bin"), ("offset", number)], F::Number { key: "offset", .. }, Malformed);
        refused!([("location", "w.bin"), ("length", number)], F::Number { key: "length", .. }, Malformed);
    }
    refused!([("location", "w.bin"), ("length", "4")], F::Length { found: 4, expected: 8 }, Malformed);
    refused!([("location", "w.bin"), ("offset", "12")], F::PastEnd { size: 16, .. }, Malformed);
    refused!([("location", "w.bin"), ("offset", "9223372036854775807")], F::PastEnd { .. }, Malformed);
    let mut undeclared = external(empty("w", 1, &[2]), &[("location", "w.bin")]);
    undeclared.data_location = Default::default();
    assert_fault!(
        read(&with_initializer(undeclared)),
        ModelError::External { fault: F::NotDeclared, .. },
        Malformed,
        "EXTERNAL"
    );
    let homeless = external(empty("w", 1, &[2]), &[("location", "w.bin")]);
    assert_fault!(
        read(&with_initializer(homeless)),
        ModelError::External { fault: F::NoFolder, .. },
        Malformed,
        "folder"
    );
}

#[test]
fn external_data_counts_against_the_limit() {
    let (folder, model) = with_external(&[("location", "w.bin")]);
    let inside = model.unwrap().bytes().len() as u64;
    let path = folder.path().join("home/m.onnx");
    let with = |max| Model::read(&path, &Limits { max_total_weight_bytes: max, ..Limits::default() });
    assert_fault!(with(inside + 15), ModelError::Limit { .. }, Limit, "external data");
    assert!(with(inside + 16).is_ok());
}

#[test]
fn what_is_not_a_file_is_refused() {
    let (folder, _) = with_external(&[]);
    let home = folder.path().join("home");
    let read = |name: &str| Model::read(&home.join(name), &Limits::default());
    assert_fault!(read("folder"), ModelError::NotRegular, Io, "folder: not a regular file");
    assert_fault!(read("fifo"), ModelError::NotRegular, Io, "fifo");
    assert_fault!(read("none.onnx"), ModelError::Io(_), Io, "none.onnx: cannot be read");
}
