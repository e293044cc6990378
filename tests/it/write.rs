//! Writing models: nothing changes but the weights given, and files appear whole or not at all.

use crate::model::build::*;
use onnx_protobuf::ModelProto;
use onnx_unlearn::error::Kind;
use onnx_unlearn::model::{Data, Limits, Model};
use onnx_unlearn::tensor::Tensor;
use onnx_unlearn::write::{Spliced, WriteError, check_output, diff, splice, write_all};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn weights(list: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    list.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

fn from(model: &ModelProto) -> Model {
    Model::from_bytes(bytes(model), &Limits::default()).unwrap()
}

fn read(path: &Path) -> Model {
    Model::read(path, &Limits::default()).unwrap()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Writes a spliced model as the command does.
fn write(model: &Model, spliced: &Spliced, output: &Path) -> Result<(), WriteError> {
    write_all(&spliced.files(model, output)?)
}

/// How a tensor of a random model is stored.
#[derive(Clone, Debug)]
enum Form {
    Raw,
    Packed,
    Unpacked,
    Constant,
    ConstantPacked,
    External,
}

#[derive(Clone, Debug)]
struct Random {
    form: Form,
    double: bool,
    old: Vec<f64>,
    /// None: the tensor is left as it is.
    new: Option<Vec<f64>>,
}

fn random() -> impl Strategy<Value = Random> {
    let form = prop::sample::select(vec![
        Form::Raw,
        Form::Packed,
        Form::Unpacked,
        Form::Constant,
        Form::ConstantPacked,
        Form::External,
    ]);
    let sizes = (0usize..5).prop_flat_map(|n| {
        let values = || prop::collection::vec((-1000i32..1000).prop_map(f64::from), n);
        (values(), prop::option::of(values()))
    });
    (form, any::<bool>(), sizes).prop_map(|(form, double, (old, new))| Random { form, double, old, new })
}

fn tensor(values: &[f64], double: bool) -> Tensor {
    let shape = [1, values.len()];
    if double {
        Tensor::new(&shape, values.to_vec()).unwrap()
    } else {
        Tensor::new(&shape, values.iter().map(|&x| x as f32).collect::<Vec<f32>>()).unwrap()
    }
}

/// Writes a model of these tensors to `folder`; gives its path.
fn build(tensors: &[Random], folder: &Path) -> PathBuf {
    let (mut initializers, mut constants, mut data) = (vec![], vec![], vec![0xa5; 3]);
    for (i, random) in tensors.iter().enumerate() {
        let (name, value) = (format!("t{i}"), tensor(&random.old, random.double));
        match random.form {
            Form::Raw => initializers.push(raw(&name, &value)),
            Form::Packed => initializers.push(packed(&name, &value)),
            Form::Unpacked => initializers.push(unpacked(&name, &value)),
            Form::Constant => constants.push(raw(&name, &value)),
            Form::ConstantPacked => constants.push(packed(&name, &value)),
            Form::External => {
                let at = [("location", "data/w.bin"), ("offset", &data.len().to_string())];
                initializers.push(external(raw(&name, &value), &at));
                data.extend(value.to_le_bytes());
                data.extend([0x5a; 5]);
            }
        }
    }
    fs::create_dir(folder.join("data")).unwrap();
    fs::write(folder.join("data/w.bin"), data).unwrap();
    let mut proto = model(initializers, constants);
    proto.special_fields.mut_unknown_fields().add_length_delimited(1000, b"kept".to_vec());
    let path = folder.join("m.onnx");
    fs::write(&path, bytes(&proto)).unwrap();
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn only_the_given_weights_change(tensors in prop::collection::vec(random(), 1..6)) {
        let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = read(&build(&tensors, home.path()));
        let mut given = BTreeMap::new();
        for (i, random) in tensors.iter().enumerate() {
            prop_assert_eq!(model.tensor(&format!("t{i}")).unwrap(), tensor(&random.old, random.double));
            if let Some(new) = &random.new {
                given.insert(format!("t{i}"), tensor(new, random.double));
            }
        }
        let output = out.path().join("new.onnx");
        write(&model, &splice(&model, &given).unwrap(), &output).unwrap();
        let new = read(&output);

        let (mut inside, mut outside) = (model.bytes().to_vec(), fs::read(home.path().join("data/w.bin")).unwrap());
        for (name, value) in &given {
            let mut bytes = value.to_le_bytes().into_iter();
            match &model.places()[name].data {
                Data::Raw(range) => inside[range.clone()].fill_with(|| bytes.next().unwrap()),
                Data::Typed { ranges } => {
                    ranges.iter().for_each(|range| inside[range.clone()].fill_with(|| bytes.next().unwrap()))
                }
                Data::External { offset, length, .. } => {
                    outside[*offset as usize..(offset + length) as usize].fill_with(|| bytes.next().unwrap());
                }
                Data::Empty => (),
                Data::Varints => unreachable!(),
            }
        }
        prop_assert_eq!(new.bytes(), &inside[..]);
        if !model.external().is_empty() {
            prop_assert_eq!(fs::read(out.path().join("data/w.bin")).unwrap(), outside);
        }
        let mut changed = vec![];
        for (i, random) in tensors.iter().enumerate() {
            let name = format!("t{i}");
            let now = random.new.as_ref().unwrap_or(&random.old);
            prop_assert_eq!(new.tensor(&name).unwrap(), tensor(now, random.double));
            if *now != random.old {
                let differing = now.iter().zip(&random.old).filter(|(a, b)| a != b).count();
                let largest = now.iter().zip(&random.old).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                changed.push((name, differing, largest));
            }
        }
        let found = diff(&model, &new).unwrap();
        prop_assert_eq!(found.identical, changed.is_empty());
        let listed: Vec<_> = found.tensors.into_iter().map(|t| (t.name, t.differing, t.max_abs_change)).collect();
        prop_assert_eq!(listed, changed);
        prop_assert!(found.other.is_empty() && found.only_in_a.is_empty() && found.only_in_b.is_empty());
    }
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let mut half = empty("half", 10, &[1]);
    half.int32_data = vec![0x3c00];
    let model = from(&model(vec![raw("w", &f32s(&[1.0, 2.0])), half], vec![]));
    let refused = |name: &str, tensor: Tensor| splice(&model, &weights(&[(name, tensor)])).unwrap_err();
    assert!(matches!(refused("none", f32s(&[1.0])), WriteError::NoSuchTensor { .. }));
    assert!(matches!(refused("w", f32s(&[1.0])), WriteError::Mismatch { .. }));
    let doubles = Tensor::new(&[2], vec![1.0f64, 2.0]).unwrap();
    assert!(matches!(refused("w", doubles), WriteError::Mismatch { .. }));
    let error = refused("half", Tensor::new(&[1], vec![half::f16::ONE]).unwrap());
    assert!(matches!(error, WriteError::Varints { .. }) && error.kind() == Kind::Unsupported);
    assert!(error.to_string().contains("\"half\"") && error.to_string().contains("raw_data"));
}

/// A model in `home` with "w" external in `w.bin`, and "v" in `v.bin`.
fn two_files(home: &Path) -> Model {
    fs::write(home.join("w.bin"), f32s(&[1.0, 2.0]).to_le_bytes()).unwrap();
    fs::write(home.join("v.bin"), f32s(&[3.0]).to_le_bytes()).unwrap();
    let w = external(empty("w", 1, &[2]), &[("location", "w.bin")]);
    let v = external(empty("v", 1, &[1]), &[("location", "v.bin")]);
    fs::write(home.join("m.onnx"), bytes(&model(vec![w, v], vec![]))).unwrap();
    read(&home.join("m.onnx"))
}

#[test]
fn external_data_goes_beside_the_new_model_and_never_over_the_old() {
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = two_files(home.path());
    let changed = splice(&model, &weights(&[("w", f32s(&[1.0, 0.5]))])).unwrap();
    assert_eq!(changed.external.keys().collect::<Vec<_>>(), ["w.bin"]);
    let beside = home.path().join("new.onnx");
    let error = write(&model, &changed, &beside).unwrap_err();
    assert!(matches!(error, WriteError::DataInPlace { .. }) && error.kind() == Kind::Usage, "{error}");
    assert!(!beside.exists());
    assert_eq!(read(&home.path().join("m.onnx")).tensor("w").unwrap(), f32s(&[1.0, 2.0]));

    let unchanged = splice(&model, &BTreeMap::new()).unwrap();
    write(&model, &unchanged, &beside).unwrap();
    assert!(diff(&model, &read(&beside)).unwrap().identical);

    let output = out.path().join("new.onnx");
    write(&model, &changed, &output).unwrap();
    write(&model, &changed, &output).unwrap();
    assert_eq!((read(&output).tensor("w").unwrap(), entries(out.path())), (f32s(&[1.0, 0.5]), 3));

    let other = out.path().join("other.onnx");
    let error = write(&model, &unchanged, &other).unwrap_err();
    assert!(matches!(error, WriteError::ForeignData { .. }), "{error}");
    assert!(!other.exists());
}

#[test]
fn data_linked_to_the_original_is_not_overwritten() {
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = two_files(home.path());
    fs::hard_link(home.path().join("w.bin"), out.path().join("w.bin")).unwrap();
    let changed = splice(&model, &weights(&[("w", f32s(&[1.0, 0.5]))])).unwrap();
    let error = write(&model, &changed, &out.path().join("new.onnx")).unwrap_err();
    assert!(matches!(error, WriteError::DataInPlace { .. }), "{error}");
}

#[test]
fn tensors_that_share_bytes_change_together_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("w.bin"), f32s(&[1.0, 2.0]).to_le_bytes()).unwrap();
    let at = |name: &str| external(empty(name, 1, &[2]), &[("location", "w.bin")]);
    fs::write(home.path().join("m.onnx"), bytes(&model(vec![at("a"), at("b")], vec![]))).unwrap();
    let model = read(&home.path().join("m.onnx"));
    let new = f32s(&[0.5, 2.0]);
    let error = splice(&model, &weights(&[("a", new.clone())])).unwrap_err();
    assert!(matches!(error, WriteError::Shared { .. }) && error.kind() == Kind::Unsupported, "{error}");
    assert!(splice(&model, &weights(&[("a", new.clone()), ("b", f32s(&[1.0, 1.0]))])).is_err());
    assert!(splice(&model, &weights(&[("a", new.clone()), ("b", new)])).is_ok());
}

#[test]
fn an_input_is_never_an_output() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("m.onnx"), b"model").unwrap();
    std::os::unix::fs::symlink("m.onnx", at("link")).unwrap();
    fs::hard_link(at("m.onnx"), at("hard")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("old"), b"old").unwrap();
    let check = |path: PathBuf| check_output(&path, &[at("m.onnx")]);
    for name in ["m.onnx", "link", "hard", "sub/../m.onnx"] {
        let error = check(at(name)).unwrap_err();
        assert!(matches!(error, WriteError::IsInput { .. }) && error.kind() == Kind::Usage, "{name}: {error}");
    }
    assert!(check_output(&at("m.onnx"), &[at("link")]).is_err(), "the input may be the link");
    assert!(matches!(check(at("sub")), Err(WriteError::IsFolder { .. })));
    assert!(matches!(check(at("new/")), Err(WriteError::IsFolder { .. })));
    assert!(matches!(check(at("none/new.onnx")), Err(WriteError::NoFolder { .. })));
    assert!(matches!(check(at("m.onnx/new.onnx")), Err(WriteError::NoFolder { .. })));
    assert!(check(at("new.onnx")).is_ok() && check(at("old")).is_ok());
    assert_eq!(entries(folder.path()), 5, "the check leaves nothing behind");
}

#[test]
fn all_files_are_written_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), b"before").unwrap();
    fs::create_dir(at("taken")).unwrap();
    let failing = [
        vec![at("a"), at("missing/b")],
        vec![at("a"), at("taken")],
        vec![at("sub/deep/a"), at("file/b"), at("c")],
        vec![at("a"), at("file"), at("file/b")],
        vec![at("a"), at("b"), at("a")],
        vec![at("sub/a"), at(&"n".repeat(300))],
    ];
    for paths in failing {
        let files: Vec<(PathBuf, &[u8])> = paths.into_iter().map(|path| (path, &b"after"[..])).collect();
        let error = write_all(&files).unwrap_err();
        assert!(matches!(error.kind(), Kind::Io | Kind::Usage), "{error}");
        assert_eq!(entries(folder.path()), 2, "{error}");
        assert_eq!(fs::read(at("file")).unwrap(), b"before");
    }
    write_all(&[(at("sub/a"), b"1"), (at("file"), b"2")]).unwrap();
    assert_eq!((fs::read(at("sub/a")).unwrap(), fs::read(at("file")).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    assert_eq!((entries(folder.path()), entries(&at("sub"))), (3, 1));
}

#[test]
fn other_differences_are_described() {
    let base = || model(vec![raw("w", &f32s(&[1.0, 2.0]))], vec![raw("c", &f32s(&[3.0]))]);
    type Change = fn(&mut ModelProto);
    let cases: Vec<(Change, &str)> = vec![
        (|m| m.ir_version = 9, "ir_version: 8 became 9"),
        (|m| m.producer_name = "\u{1b}".into(), "producer_name"),
        (|m| m.opset_import[0].version = 18, "opset imports"),
        (|m| m.metadata_props.push(Default::default()), "metadata"),
        (|m| m.graph.as_mut().unwrap().node[1].op_type = "Mul".into(), "node 1 (Add \"\"): operator differ"),
        (|m| m.graph.as_mut().unwrap().node[0].attribute[0].doc_string = "d".into(), "attribute \"value\""),
        (|m| m.graph.as_mut().unwrap().output[0].doc_string = "d".into(), "outputs"),
        (|m| m.graph.as_mut().unwrap().initializer[0].doc_string = "d".into(), "tensor \"w\": documentation"),
        (|m| m.graph.as_mut().unwrap().initializer[0] = packed("w", &f32s(&[1.0, 2.0])), "stored as raw_data"),
        (|m| m.graph.as_mut().unwrap().initializer[0] = raw("w", &f32s(&[1.0])), "[2] became float32 of shape [1]"),
    ];
    for (change, expected) in cases {
        let mut changed = base();
        change(&mut changed);
        let found = diff(&from(&base()), &from(&changed)).unwrap();
        assert!(!found.identical && found.tensors.is_empty());
        assert!(found.other.iter().any(|text| text.contains(expected)), "{expected}: {:?}", found.other);
        assert!(!found.other.concat().contains('\u{1b}'));
    }
    let mut renamed = base();
    renamed.graph.as_mut().unwrap().initializer[0].name = "v".into();
    renamed.graph.as_mut().unwrap().node[1].input[1] = "v".into();
    let found = diff(&from(&base()), &from(&renamed)).unwrap();
    assert_eq!((found.only_in_a, found.only_in_b), (vec!["w".to_owned()], vec!["v".to_owned()]));
}

#[test]
fn a_different_encoding_of_the_same_model_is_noticed() {
    let original = bytes(&model(vec![raw("w", &f32s(&[1.0, 2.0]))], vec![]));
    // ir_version as the first field, with a longer varint.
    assert_eq!(original[..2], [0x08, 0x08]);
    let longer = [&[0x08, 0x88, 0x00], &original[2..]].concat();
    let of = |bytes: &[u8]| Model::from_bytes(bytes.to_vec(), &Limits::default()).unwrap();
    let found = diff(&of(&original), &of(&longer)).unwrap();
    assert!(!found.identical && found.tensors.is_empty());
    assert!(found.other[0].contains("byte 1 "), "{:?}", found.other);
    assert!(diff(&of(&original), &of(&original)).unwrap().identical);
    assert!(serde_json::to_string(&found).unwrap().contains("\"identical\":false"));
}
