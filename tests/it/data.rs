//! Data sets: every kind read right, every fault told by its variant, kind and place.

use ndarray::{Array, Array1, ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use onnx_protobuf::TensorProto;
use onnx_unlearn::data::{Batch, DataError, DataSet, InputSpec, Limits};
use onnx_unlearn::error::Kind;
use onnx_unlearn::tensor::{DType, Tensor};
use proptest::prelude::*;
use protobuf::Message;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

// ---- Making files

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> InputSpec {
    InputSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

/// One float32 input `x` of shape `[1, 2]`.
fn pairs() -> Vec<InputSpec> {
    vec![spec("x", DType::F32, &[Some(1), Some(2)])]
}

fn image_model(channels: usize, height: Option<usize>, width: Option<usize>) -> Vec<InputSpec> {
    vec![spec("pixel_values", DType::F32, &[None, Some(channels), height, width])]
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

fn counting(shape: &[usize]) -> ArrayD<f32> {
    let count = shape.iter().product::<usize>();
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).map(|i| i as f32 * 0.5 - 3.0).collect()).unwrap()
}

fn npy<A: WriteNpyExt>(array: A) -> Vec<u8> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).unwrap();
    bytes
}

/// A version 1 header, unpadded, and then `data`.
fn raw_npy(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dictionary.len() as u16).to_le_bytes());
    bytes.extend(dictionary.as_bytes());
    bytes.extend(data);
    bytes
}

fn typed_npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    raw_npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"), data)
}

fn npz(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (i, (name, content)) in entries.iter().enumerate() {
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(*name, if i % 2 == 0 { deflated } else { stored }).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn safetensors(arrays: &[(&str, safetensors::Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = arrays.iter().map(|(name, dtype, shape, data)| {
        (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { data_type, dims: dims.to_vec(), ..Default::default() }
}

// ---- Reading

fn open(path: &Path, inputs: &[InputSpec]) -> Result<DataSet, DataError> {
    DataSet::open(path, inputs, &Limits::default())
}

fn whole(set: &DataSet) -> Batch {
    set.batches(usize::MAX).next().unwrap().unwrap()
}

fn values(set: &DataSet, input: &str) -> ArrayD<f32> {
    whole(set).inputs[input].array::<f32>().unwrap().clone()
}

/// The fault of opening, or of the first batch that has one.
fn fault(path: &Path, inputs: &[InputSpec], limits: &Limits) -> DataError {
    let set = match DataSet::open(path, inputs, limits) {
        Err(e) => return e,
        Ok(set) => set,
    };
    set.batches(4).find_map(Result::err).expect("a fault")
}

/// Checks kind, variant and every part of the message.
#[track_caller]
fn expect(error: DataError, kind: Kind, variant: &str, parts: &[&str]) {
    let (debug, message) = (format!("{error:?}"), error.to_string());
    assert!(debug.starts_with(variant), "{debug}");
    assert_eq!(error.kind(), kind, "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// Opens a file with this name and content for `pairs` and expects a fault that names the file.
#[track_caller]
fn refused(name: &str, content: Vec<u8>, kind: Kind, variant: &str, parts: &[&str]) {
    let folder = Folder::new();
    let error = fault(&folder.file(name, content), &pairs(), &Limits::default());
    assert!(error.to_string().contains(name), "{error}");
    expect(error, kind, variant, parts);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

// ---- .npy

#[test]
fn npy_in_both_orders_and_both_endians() {
    let folder = Folder::new();
    let array = counting(&[5, 2, 3]);
    let inputs = [spec("x", DType::F32, &[None, Some(2), None])];
    let c = folder.file("c.npy", npy(array.clone()));
    let mut f_order = Array::zeros(IxDyn(&[5, 2, 3]).f());
    f_order.assign(&array);
    let f = folder.file("f.npy", npy(f_order));
    let big: Vec<u8> = array.iter().flat_map(|x| x.to_be_bytes()).collect();
    let b = folder.file("b.NPY", typed_npy(">f4", "(5, 2, 3)", &big));
    for path in [&c, &f, &b] {
        let set = open(path, &inputs).unwrap();
        assert_eq!((set.len(), set.labels()), (5, None));
        assert_eq!(values(&set, "x"), array);
        assert!(values(&set, "x").is_standard_layout());
        let digest = sha256(&fs::read(path).unwrap());
        assert_eq!(set.files(), [(path.clone(), digest.clone())]);
        assert_eq!(set.sha256(), digest);
    }
}

#[test]
fn npy_of_every_type() {
    let cases: [(&str, DType, Tensor, Vec<u8>); 9] = [
        (
            "<f8",
            DType::F64,
            Tensor::new(&[1, 2], vec![1.5f64, -2.0]).unwrap(),
            [1.5f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        (
            "<f2",
            DType::F16,
            Tensor::new(&[1, 2], vec![half::f16::from_f32(1.5), half::f16::from_f32(-2.0)]).unwrap(),
            vec![0, 0x3e, 0, 0xc0],
        ),
        ("|i1", DType::I8, Tensor::new(&[1, 2], vec![1i8, -2]).unwrap(), vec![1, 254]),
        (">i2", DType::I16, Tensor::new(&[1, 2], vec![1i16, -2]).unwrap(), vec![0, 1, 255, 254]),
        ("<i4", DType::I32, Tensor::new(&[1, 2], vec![1i32, -2]).unwrap(), vec![1, 0, 0, 0, 254, 255, 255, 255]),
        (
            ">i8",
            DType::I64,
            Tensor::new(&[1, 2], vec![1i64, 2]).unwrap(),
            vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2],
        ),
        ("|u1", DType::U8, Tensor::new(&[1, 2], vec![1u8, 254]).unwrap(), vec![1, 254]),
        ("|b1", DType::Bool, Tensor::new(&[1, 2], vec![true, false]).unwrap(), vec![1, 0]),
        (
            "<f4",
            DType::F16,
            Tensor::new(&[1, 2], vec![half::f16::from_f32(1.5), half::f16::from_f32(0.1)]).unwrap(),
            le(&[1.5, 0.1]),
        ),
    ];
    let folder = Folder::new();
    for (descr, dtype, expected, bytes) in cases {
        let path = folder.file("x.npy", typed_npy(descr, "(1, 2)", &bytes));
        let set = open(&path, &[spec("x", dtype, &[None, None])]).unwrap();
        assert_eq!(whole(&set).inputs["x"], expected, "{descr}");
    }
}

#[test]
fn npy_header_variants() {
    let data = le(&[1.0, 2.0]);
    let good = [
        raw_npy("{\"shape\":(1,2),\"fortran_order\":True,\"descr\":\"<f4\"}", &data),
        raw_npy("  { 'fortran_order' : False , 'shape' : ( 1 , 2 , ) , 'descr' : '<f4' , }   \n", &data),
        [
            b"\x93NUMPY\x02\x00\x3a\0\0\0{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}\n".to_vec(),
            data.clone(),
        ]
        .concat(),
        [
            b"\x93NUMPY\x03\x00\x3a\0\0\0{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}\n".to_vec(),
            data.clone(),
        ]
        .concat(),
    ];
    let folder = Folder::new();
    for (i, content) in good.into_iter().enumerate() {
        let set = open(&folder.file("x.npy", content), &pairs()).unwrap_or_else(|e| panic!("{i}: {e}"));
        assert_eq!(values(&set, "x").as_slice().unwrap(), [1.0, 2.0]);
    }
    let bad = [
        (b"PK\x03\x04 is no array".to_vec(), "byte 0: not a NumPy file"),
        (b"\x93NUMPY\x01".to_vec(), "byte 0: the file ends within the header"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "byte 6: unknown version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "byte 8: the header is longer than 65536"),
        (b"\x93NUMPY\x01\x00\xff\x00{".to_vec(), "byte 0: the file ends within the header"),
        (raw_npy("(1, 2)", b""), "byte 10: expected `{`"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False}", b""), "keys descr, fortran_order and shape is missing"),
        (raw_npy("{'descr': '<f4', 'descr': '<f4'}", b""), "byte 27: a key is there twice"),
        (raw_npy("{'other': 1}", b""), "byte 11: unknown key"),
        (raw_npy("{'fortran_order': 0}", b""), "byte 28: expected True or False"),
        (raw_npy("{'shape': [1]}", b""), "byte 20: expected a tuple"),
        (raw_npy("{'shape': (-1,)}", b""), "byte 21: a dimension is not a number"),
        (raw_npy("{'shape': (99999999999999999999,)}", b""), "byte 21: a dimension is not a number, or too large"),
        (raw_npy("{'descr': '<f4, ", b""), "byte 20: a string does not end"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)} import os", b""), "something follows"),
        (raw_npy(&format!("{{'shape': {}", "(".repeat(60_000)), b""), "byte 21: a dimension"),
    ];
    for (content, part) in bad {
        refused("x.npy", content, Kind::Malformed, "NpyHeader", &[part, "array `x`", "numpy.save"]);
    }
}

#[test]
fn npy_that_claims_other_than_it_holds() {
    let quarter = "(4611686018427387904, 2)";
    refused(
        "x.npy",
        typed_npy("<f4", quarter, &le(&[1.0])),
        Kind::Malformed,
        "Length",
        &[
            "array `x` of shape [4611686018427387904, 2]",
            "needs more bytes than can be counted, the file holds 4 bytes",
        ],
    );
    refused(
        "x.npy",
        typed_npy("<f4", "(1000000000, 2)", &le(&[1.0])),
        Kind::Malformed,
        "Length",
        &["needs 8000000000 bytes, the file holds 4 bytes", "truncated"],
    );
    refused(
        "x.npy",
        typed_npy("<f4", "(0, 4611686018427387904, 4611686018427387904)", b""),
        Kind::Malformed,
        "Length",
        &[],
    );
    refused(
        "x.npy",
        typed_npy("<f4", "(1, 2)", &le(&[1.0, 2.0, 3.0])),
        Kind::Malformed,
        "Length",
        &["needs 8 bytes, the file holds 12"],
    );
}

#[test]
fn npy_of_refused_types() {
    for descr in ["|O", "O", "<O8"] {
        refused(
            "x.npy",
            typed_npy(descr, "(1, 2)", b"\x80\x04"),
            Kind::Unsupported,
            "Pickled",
            &["array `x`", "pickled"],
        );
    }
    for descr in ["<c8", "<U4", "|S3", "|V2", "<f16", "f4", "|f4", "", "é", "<M8[ns]"] {
        refused(
            "x.npy",
            typed_npy(descr, "(1, 2)", b""),
            Kind::Unsupported,
            "Elements",
            &["array `x`", &format!("`{descr}`")],
        );
    }
    let structured = raw_npy("{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"");
    refused("x.npy", structured, Kind::Unsupported, "Elements", &["[('a', '<f4')"]);
}

#[test]
fn arrays_that_do_not_fit_the_model() {
    refused(
        "x.npy",
        typed_npy("<f8", "(1, 2)", &[0; 16]),
        Kind::Malformed,
        "WrongType",
        &["array `x` has type float64, model input `x` takes float32", ".astype(np.float32)"],
    );
    refused("x.npy", typed_npy("<i8", "(1, 2)", &[0; 16]), Kind::Malformed, "WrongType", &["int64"]);
    refused("x.npy", typed_npy("<u2", "(1, 2)", &[0; 4]), Kind::Malformed, "WrongType", &["uint16"]);
    for shape in ["(2,)", "(2, 1)", "(1, 2, 1)", "()"] {
        let data = if shape == "()" { vec![0; 4] } else { vec![0; 8] };
        refused(
            "x.npy",
            typed_npy("<f4", shape, &data),
            Kind::Malformed,
            "WrongShape",
            &["array `x` has shape [", "model input `x` takes [1, 2]", "first axis: samples"],
        );
    }
    let folder = Folder::new();
    let path = folder.file("x.npy", npy(counting(&[3, 2])));
    let two = [spec("a", DType::F32, &[None, None]), spec("b", DType::F32, &[None, None])];
    expect(open(&path, &two).unwrap_err(), Kind::Malformed, "OneArray", &["x.npy", "2 inputs (`a`, `b`)", ".npz"]);
    let scalar = [spec("s", DType::F32, &[])];
    expect(open(&path, &scalar).unwrap_err(), Kind::Unsupported, "NoSampleAxis", &["`s`"]);
    expect(open(&path, &[]).unwrap_err(), Kind::Malformed, "NoInputs", &[]);
    let bf16 = [spec("x", DType::BF16, &[None, None])];
    assert_eq!(whole(&open(&path, &bf16).unwrap()).inputs["x"].dtype(), DType::BF16);
    let path = folder.file("d.npy", npy(counting(&[3, 2]).mapv(f64::from)));
    expect(open(&path, &bf16).unwrap_err(), Kind::Malformed, "WrongType", &["takes bfloat16", ".safetensors"]);
}

#[test]
fn values_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut array = counting(&[4, 2]);
        array[[2, 1]] = bad;
        refused(
            "x.npy",
            npy(array),
            Kind::NotFinite,
            "NotFinite",
            &["array `x`, sample 2, position [1]", &format!("{bad}")],
        );
    }
    let folder = Folder::new();
    let mut array = counting(&[4, 2, 3]);
    array[[1, 0, 2]] = 65520.0;
    let path = folder.file("x.npy", npy(array));
    let half = [spec("x", DType::F16, &[None, None, None])];
    expect(
        fault(&path, &half, &Limits::default()),
        Kind::NotFinite,
        "Float16Range",
        &["x.npy", "sample 1, position [0, 2]: 65520", "float16"],
    );
}

#[test]
fn an_empty_set_is_no_fault() {
    let folder = Folder::new();
    let set = open(&folder.file("x.npy", npy(counting(&[0, 2]))), &pairs()).unwrap();
    assert!(set.is_empty());
    assert_eq!(set.len(), 0);
    assert_eq!(set.batches(3).count(), 0);
}

// ---- .npz and .safetensors

fn two_inputs() -> Vec<InputSpec> {
    vec![spec("a", DType::F32, &[None, Some(2)]), spec("b", DType::I64, &[None])]
}

#[test]
fn npz_with_labels() {
    let folder = Folder::new();
    let entries = [
        ("labels.npy", npy(Array1::from(vec![7u16, 65535, 0]))),
        ("b.npy", npy(Array1::from(vec![1i64, 2, 3]))),
        ("a.npy", npy(counting(&[3, 2]))),
    ];
    let set = open(&folder.file("d.npz", npz(&entries)), &two_inputs()).unwrap();
    assert_eq!(set.labels(), Some(&[7, 65535, 0][..]));
    assert_eq!(values(&set, "a"), counting(&[3, 2]));
    let batches: Vec<_> = set.batches(2).map(Result::unwrap).collect();
    assert_eq!(batches[1].inputs["b"], Tensor::new(&[1], vec![3i64]).unwrap());
    assert_eq!((batches[1].samples, batches[1].labels.clone()), (1, Some(vec![0])));
}

#[test]
fn a_single_input_may_have_any_name() {
    let folder = Folder::new();
    let labels = npy(Array1::from(vec![1u8, 2, 3]));
    let entries = [("images.npy", npy(counting(&[3, 2]))), ("labels.npy", labels)];
    let set = open(&folder.file("d.npz", npz(&entries)), &pairs()).unwrap();
    assert_eq!((values(&set, "x"), set.labels()), (counting(&[3, 2]), Some(&[1, 2, 3][..])));
    // An input named `labels` takes the array of that name.
    let own = [spec("labels", DType::F32, &[None, Some(2)])];
    let set = open(&folder.file("e.npz", npz(&[("labels.npy", npy(counting(&[3, 2])))])), &own).unwrap();
    assert_eq!((values(&set, "labels"), set.labels()), (counting(&[3, 2]), None));
}

#[test]
fn labels_of_every_integer_type() {
    let folder = Folder::new();
    let types =
        [("|i1", 1), ("|u1", 1), ("<i2", 2), (">u2", 2), ("<i4", 4), (">u4", 4), ("<i8", 8), ("<u8", 8), (">u8", 8)];
    for (descr, size) in types {
        let mut one = vec![0u8; size];
        let last = if descr.starts_with('>') { size - 1 } else { 0 };
        one[last] = 5;
        let entries = [("x.npy", npy(counting(&[1, 2]))), ("labels.npy", typed_npy(descr, "(1,)", &one))];
        let set = open(&folder.file("d.npz", npz(&entries)), &pairs()).unwrap();
        assert_eq!(set.labels(), Some(&[5][..]), "{descr}");
    }
    let x = ("x.npy", npy(counting(&[2, 2])));
    let huge = typed_npy("<u8", "(2,)", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128]);
    refused(
        "d.npz",
        npz(&[x.clone(), ("labels.npy", huge)]),
        Kind::Malformed,
        "LabelRange",
        &["`labels`, sample 1: 9223372036854775808"],
    );
    for labels in [
        npy(Array1::from(vec![0f32, 1.0])),
        npy(counting(&[2, 1])),
        typed_npy("|b1", "(2,)", &[0, 1]),
        typed_npy("<i4", "(2, 1)", &[0; 8]),
    ] {
        refused(
            "d.npz",
            npz(&[x.clone(), ("labels.npy", labels)]),
            Kind::Malformed,
            "Labels",
            &["expected integers of shape [samples]"],
        );
    }
    refused(
        "d.npz",
        npz(&[x, ("labels.npy", npy(Array1::from(vec![1i64])))]),
        Kind::Malformed,
        "SampleCounts",
        &["array `labels` has 1 samples, `x` has 2"],
    );
}

#[test]
fn arrays_by_the_wrong_names() {
    let folder = Folder::new();
    let (a, b) = (npy(counting(&[3, 2])), npy(Array1::from(vec![1i64, 2, 3])));
    let path = folder.file("d.npz", npz(&[("a.npy", a.clone()), ("b.npy", b.clone()), ("c\x1b[2J.npy", b.clone())]));
    expect(
        open(&path, &two_inputs()).unwrap_err(),
        Kind::Malformed,
        "UnknownArrays",
        &["d.npz", "no model input is named `c\\u{1b}[2J`", "inputs are `a`, `b`"],
    );
    let path = folder.file("e.npz", npz(&[("a.npy", a.clone())]));
    expect(
        open(&path, &two_inputs()).unwrap_err(),
        Kind::Malformed,
        "MissingArrays",
        &["e.npz", "no array for model input `b`", "holds `a`"],
    );
    let path = folder.file("f.npz", npz(&[]));
    expect(open(&path, &two_inputs()).unwrap_err(), Kind::Malformed, "MissingArrays", &["`a`, `b`", "no arrays"]);
    let path = folder.file("g.npz", npz(&[("a.npy", a.clone()), ("b.npy", npy(Array1::from(vec![1i64])))]));
    expect(
        open(&path, &two_inputs()).unwrap_err(),
        Kind::Malformed,
        "SampleCounts",
        &["array `b` has 1 samples, `a` has 3"],
    );
    refused("d.npz", npz(&[("u.npy", a.clone()), ("v.npy", a)]), Kind::Malformed, "UnknownArrays", &["`u`, `v`"]);
}

#[test]
fn safetensors_with_labels_and_bfloat16() {
    let folder = Folder::new();
    let content = safetensors(&[
        ("a", safetensors::Dtype::F32, vec![2, 2], le(&[1.0, 2.0, 3.0, 4.0])),
        ("b", safetensors::Dtype::BF16, vec![2, 1], vec![0x80, 0x3f, 0, 0x40]),
        ("labels", safetensors::Dtype::U32, vec![2], vec![9, 0, 0, 0, 255, 255, 255, 255]),
    ]);
    let inputs = [spec("a", DType::F32, &[None, Some(2)]), spec("b", DType::BF16, &[None, Some(1)])];
    let path = folder.file("d.safetensors", &content);
    let set = open(&path, &inputs).unwrap();
    assert_eq!(values(&set, "a").as_slice().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let halves = [1.0, 2.0].map(half::bf16::from_f32).to_vec();
    assert_eq!(whole(&set).inputs["b"], Tensor::new(&[2, 1], halves).unwrap());
    assert_eq!(set.labels(), Some(&[9, 4294967295][..]));
    assert_eq!(set.sha256(), sha256(&content));
    assert_eq!(set.files(), [(path, sha256(&content))]);
}

#[test]
fn safetensors_faults() {
    let with_header =
        |header: &str, data: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    let s = "d.safetensors";
    refused(s, b"abc".to_vec(), Kind::Malformed, "Safetensors", &["byte 0", "shorter than 8 bytes"]);
    refused(
        s,
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        Kind::Malformed,
        "Safetensors",
        &["claims 18446744073709551615 bytes", "holds 2"],
    );
    refused(
        s,
        [&(2u64 << 20).to_le_bytes()[..], &vec![b' '; 2 << 20]].concat(),
        Kind::Limit,
        "TooLarge",
        &["the header takes 2097152 bytes, the limit is 1048576"],
    );
    refused(s, with_header("nonsense", b""), Kind::Malformed, "Safetensors", &["byte 8"]);
    refused(s, with_header(&"[".repeat(100_000), b""), Kind::Malformed, "Safetensors", &["byte 8"]);
    let one = |shape: &str, end: &str| {
        format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}")
    };
    refused(
        s,
        with_header(&one("[1,2]", "8"), &[0; 4]),
        Kind::Malformed,
        "Safetensors",
        &["claim 8 bytes, the file holds 4"],
    );
    refused(
        s,
        with_header(&one("[4611686018427387904,2]", "8"), &[0; 8]),
        Kind::Malformed,
        "Safetensors",
        &["overflow"],
    );
    refused(s, with_header(&one("[1,3]", "8"), &[0; 8]), Kind::Malformed, "Safetensors", &[]);
    refused(s, with_header(&one("[1,2]", "18446744073709551615"), &[0; 8]), Kind::Malformed, "Safetensors", &[]);
    let overlap = "{\"x\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},\"labels\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}";
    refused(s, with_header(overlap, &[0; 8]), Kind::Malformed, "Safetensors", &[]);
    refused(
        s,
        safetensors(&[("x", safetensors::Dtype::F8_E4M3, vec![1, 2], vec![0; 2])]),
        Kind::Unsupported,
        "Elements",
        &["array `x`", "F8_E4M3"],
    );
    refused(
        s,
        safetensors(&[("x", safetensors::Dtype::F32, vec![1, 2], le(&[0.0, f32::NAN]))]),
        Kind::NotFinite,
        "NotFinite",
        &["sample 0, position [1]"],
    );
}

#[test]
fn zip_bombs_and_broken_archives() {
    // 64 MiB of zeros deflate to 64 KiB.
    let bomb = npz(&[("x.npy", typed_npy("<f4", "(8388608, 2)", &vec![0; 64 << 20]))]);
    assert!(bomb.len() < 1 << 17);
    let folder = Folder::new();
    let path = folder.file("bomb.npz", &bomb);
    let small = Limits { decoded_bytes: 1 << 20, ..Default::default() };
    expect(
        fault(&path, &pairs(), &small),
        Kind::Limit,
        "TooLarge",
        &["bomb.npz", "array `x`", "67108864 bytes, the limit is 1048576"],
    );
    // The limit is on all arrays together.
    let together = npz(&[("x.npy", npy(counting(&[4, 2]))), ("labels.npy", npy(Array1::from(vec![1i64; 4])))]);
    let path = folder.file("together.npz", together);
    let limit = |decoded_bytes| Limits { decoded_bytes, ..Default::default() };
    assert_eq!(DataSet::open(&path, &pairs(), &limit(64)).unwrap().len(), 4);
    expect(fault(&path, &pairs(), &limit(63)), Kind::Limit, "TooLarge", &["64 bytes, the limit is 63"]);

    // An entry that declares less or more than it holds, in both places that declare it.
    let honest = npz(&[("x.npy", typed_npy("<f4", "(1, 2)", &[0; 8]))]);
    let length = typed_npy("<f4", "(1, 2)", &[0; 8]).len() as u32;
    for lie in [length - 8, length + 8, u32::MAX - 1] {
        let mut content = honest.clone();
        let places: Vec<_> = (0..content.len() - 4).filter(|&i| content[i..i + 4] == length.to_le_bytes()).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|&i| content[i..i + 4].copy_from_slice(&lie.to_le_bytes()));
        refused("d.npz", content, Kind::Malformed, "", &[]);
        // The array's header lies likewise.
        let rows = (i64::from(lie) - i64::from(length) + 8) / 8;
        let array = typed_npy("<f4", &format!("({rows}, 2)"), &[0; 8]);
        let mut content = npz(&[("x.npy", array.clone())]);
        let length = array.len() as u32;
        for i in 0..content.len() - 4 {
            if content[i..i + 4] == length.to_le_bytes() {
                content[i..i + 4].copy_from_slice(&(length + (rows as u32) * 8 - 8).to_le_bytes());
            }
        }
        refused("d.npz", content, Kind::Malformed, "", &[]);
    }
    // A flipped bit in stored data is found by the checksum.
    let mut flipped = npz(&[("labels.npy", npy(Array1::from(vec![1u8]))), ("x.npy", npy(counting(&[1, 2])))]);
    let at = flipped.windows(8).position(|w| w == le(&[-3.0, -2.5])).unwrap();
    flipped[at] ^= 1;
    refused("d.npz", flipped, Kind::Malformed, "Corrupt", &["array `x`", "checksum"]);
    refused(
        "d.npz",
        npz(&[("readme.txt", b"hello".to_vec())]),
        Kind::Unsupported,
        "ZipEntry",
        &["`readme.txt`", "not a .npy array"],
    );
    refused("d.npz", b"PK no archive".to_vec(), Kind::Malformed, "Zip", &["zip archive"]);
    refused("d.npz", npz(&[("x.npy", typed_npy("|O", "(1,)", b"\x80"))]), Kind::Unsupported, "Pickled", &["array `x`"]);
}

// ---- Folders of ONNX test data

#[test]
fn onnx_test_data_in_every_encoding() {
    let folder = Folder::new();
    let mut raw = proto(1, &[2, 2]);
    raw.raw_data = le(&[1.0, 2.0, 3.0, 4.0]);
    let mut typed = proto(1, &[1, 2]);
    typed.float_data = vec![5.0, 6.0];
    let mut int_raw = proto(7, &[2]);
    int_raw.raw_data = [1i64, -2].iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut int_typed = proto(7, &[1]);
    int_typed.int64_data = vec![-3];
    // Number 10 comes after number 2.
    let files = [
        ("test_data_set_2/input_0.pb", raw.write_to_bytes().unwrap()),
        ("test_data_set_2/input_1.pb", int_raw.write_to_bytes().unwrap()),
        ("test_data_set_10/input_0.pb", typed.write_to_bytes().unwrap()),
        ("test_data_set_10/input_1.pb", int_typed.write_to_bytes().unwrap()),
    ];
    for (name, content) in &files {
        folder.file(name, content);
    }
    folder.file("test_data_set_2/output_0.pb", b"not read");
    let set = open(folder.path(), &two_inputs()).unwrap();
    assert_eq!(values(&set, "a"), ArrayD::from_shape_vec(IxDyn(&[3, 2]), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap());
    assert_eq!(whole(&set).inputs["b"], Tensor::new(&[3], vec![1i64, -2, -3]).unwrap());
    let lines: String = files.iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect();
    assert_eq!(set.sha256(), sha256(lines.as_bytes()));
    // One set alone.
    assert_eq!(open(&folder.path().join("test_data_set_10"), &two_inputs()).unwrap().len(), 1);

    let halves = [1.5, -2.0].map(half::f16::from_f32);
    let mut cases = Vec::new();
    for (number, int32_data, expected) in [
        (2, vec![1, 255], Tensor::new(&[2], vec![1u8, 255]).unwrap()),
        (3, vec![1, -2], Tensor::new(&[2], vec![1i8, -2]).unwrap()),
        (5, vec![1, -2], Tensor::new(&[2], vec![1i16, -2]).unwrap()),
        (6, vec![1, -2], Tensor::new(&[2], vec![1i32, -2]).unwrap()),
        (9, vec![1, 0], Tensor::new(&[2], vec![true, false]).unwrap()),
        (10, halves.map(|h| h.to_bits().into()).to_vec(), Tensor::new(&[2], halves.to_vec()).unwrap()),
    ] {
        let mut tensor = proto(number, &[2]);
        tensor.int32_data = int32_data;
        cases.push((tensor.write_to_bytes().unwrap(), expected));
    }
    let mut double = proto(11, &[2]);
    double.double_data = vec![0.1, -0.2];
    cases.push((double.write_to_bytes().unwrap(), Tensor::new(&[2], vec![0.1f64, -0.2]).unwrap()));
    // Dimensions and values one to a field.
    let unpacked = [&[0x08, 0x02, 0x10, 0x01, 0x25][..], &le(&[1.0]), &[0x25], &le(&[2.0])].concat();
    cases.push((unpacked, Tensor::new(&[2], vec![1f32, 2.0]).unwrap()));
    for (content, expected) in cases {
        let folder = Folder::new();
        folder.file("test_data_set_0/input_0.pb", content);
        let set = open(folder.path(), &[spec("x", expected.dtype(), &[None])]).unwrap();
        assert_eq!(whole(&set).inputs["x"], expected);
    }
}

#[test]
fn onnx_test_data_faults() {
    #[track_caller]
    fn check(content: Vec<u8>, kind: Kind, variant: &str, parts: &[&str]) {
        let folder = Folder::new();
        folder.file("test_data_set_0/input_0.pb", content);
        let error = fault(folder.path(), &pairs(), &Limits::default());
        let message = error.to_string();
        assert!(message.contains("test_data_set_0") && message.contains("input_0.pb"), "{message}");
        expect(error, kind, variant, parts);
    }
    let floats = |change: &dyn Fn(&mut TensorProto)| {
        let mut tensor = proto(1, &[1, 2]);
        tensor.raw_data = le(&[1.0, 2.0]);
        change(&mut tensor);
        tensor.write_to_bytes().unwrap()
    };
    check(floats(&|t| t.dims[0] = 1 << 62), Kind::Malformed, "Length", &["more bytes than can be counted"]);
    check(floats(&|t| t.dims[0] = -1), Kind::Malformed, "TensorProto", &["a dimension is negative"]);
    check(floats(&|t| t.float_data = vec![1.0]), Kind::Malformed, "TensorProto", &["raw_data and typed data"]);
    check(floats(&|t| t.string_data = vec![vec![1]]), Kind::Malformed, "TensorProto", &["strings"]);
    check(floats(&|t| t.external_data = vec![Default::default()]), Kind::Malformed, "TensorProto", &["external data"]);
    check(floats(&|t| t.data_type = 8), Kind::Unsupported, "Elements", &["number 8 of TensorProto.DataType"]);
    check(floats(&|t| t.data_type = 11), Kind::Malformed, "Length", &["needs 16 bytes, the file holds 8"]);
    check(
        floats(&|t| {
            t.raw_data.clear();
            t.int64_data = vec![1, 2]
        }),
        Kind::Malformed,
        "",
        &[],
    );
    check(
        floats(&|t| t.raw_data = le(&[1.0, f32::NAN])),
        Kind::NotFinite,
        "NotFinite",
        &["`input_0.pb`, sample 0, position [1]"],
    );
    check(vec![0x0b; 300_000], Kind::Malformed, "TensorProto", &["byte 0", "groups"]);
    check(
        vec![0x4a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        Kind::Malformed,
        "TensorProto",
        &["byte 1", "beyond the end"],
    );
    check(vec![0x80; 40], Kind::Malformed, "TensorProto", &["longer than ten bytes"]);

    let folder = Folder::new();
    let other = floats(&|t| t.name = "b".into());
    folder.file("test_data_set_0/input_0.pb", other);
    expect(
        open(folder.path(), &two_inputs()).unwrap_err(),
        Kind::Malformed,
        "TensorProto",
        &["its name is `b`, but input 0 of the model is `a`"],
    );
    folder.file("test_data_set_0/input_0.pb", floats(&|_| {}));
    expect(open(folder.path(), &two_inputs()).unwrap_err(), Kind::Io, "Io", &["input_1.pb"]);
    let mut three = proto(7, &[3]);
    three.int64_data = vec![1, 2, 3];
    folder.file("test_data_set_0/input_1.pb", three.write_to_bytes().unwrap());
    expect(
        open(folder.path(), &two_inputs()).unwrap_err(),
        Kind::Malformed,
        "SampleCounts",
        &["test_data_set_0", "`input_1.pb` has 3 samples, `input_0.pb` has 1"],
    );
    expect(
        open(folder.path(), &pairs()).unwrap_err(),
        Kind::Malformed,
        "TensorProto",
        &["input_1.pb", "the model has 1 inputs"],
    );

    let folder = Folder::new();
    folder.file("test_data_set_0/input_0.pb", floats(&|_| {}));
    folder.file("test_data_set_1/input_0.pb", floats(&|t| (t.dims, t.raw_data) = (vec![1, 1], le(&[1.0]))));
    let open_dims = [spec("x", DType::F32, &[None, None])];
    expect(
        open(folder.path(), &open_dims).unwrap_err(),
        Kind::Malformed,
        "TensorProto",
        &["test_data_set_1", "shape [1, 1] cannot be joined to [1, 2]"],
    );
    let small = Limits { decoded_bytes: 10, ..Default::default() };
    expect(fault(folder.path(), &open_dims, &small), Kind::Limit, "TooLarge", &["input_0.pb"]);
}

// ---- Folders of images

fn pixel(y: usize, x: usize, c: usize) -> u8 {
    ((x * 37 + y * 59 + c * 83 + x * y * 7) % 256) as u8
}

fn rgb(height: usize, width: usize) -> image::DynamicImage {
    image::RgbImage::from_fn(width as u32, height as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|c| pixel(y as usize, x as usize, c)))
    })
    .into()
}

fn png(image: image::DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

const PLAIN: &str = r#"{"do_resize": false, "do_rescale": false, "do_normalize": false}"#;
const CONFIG: &str = "preprocessor_config.json";

/// A folder with one image and a configuration, opened for three channels of any size.
fn preprocessed(image: image::DynamicImage, config: &str) -> ArrayD<f32> {
    let folder = Folder::new();
    folder.file(CONFIG, config);
    folder.file("i.png", png(image));
    values(&open(folder.path(), &image_model(3, None, None)).unwrap(), "pixel_values")
}

#[test]
fn images_rescaled_and_normalised() {
    let config = r#"{"image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"height": 3, "width": 4},
        "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true,
        "image_mean": [0.5, 0.25, 0.1], "image_std": [0.5, 0.2, 0.3], "do_convert_rgb": null, "resample": 2}"#;
    let got = preprocessed(rgb(3, 4), config);
    assert_eq!(got.shape(), [1, 3, 3, 4]);
    let (mean, std) = ([0.5f32, 0.25, 0.1], [0.5f32, 0.2, 0.3]);
    for ((_, c, y, x), &value) in got.view().into_dimensionality::<ndarray::Ix4>().unwrap().indexed_iter() {
        let plain = (pixel(y, x, c) as f64 * 0.00392156862745098) as f32;
        assert_eq!(value, (plain - mean[c]) / std[c]);
    }
}

/// What Pillow 12 makes of `rgb(6, 8)` resized to 4 high, 5 wide, channel by channel, by filter number.
const PILLOW: [(u32, [u8; 60]); 6] = [
    (
        0,
        [
            0, 74, 148, 185, 3, 118, 220, 66, 117, 219, 177, 37, 153, 211, 71, 39, 183, 71, 143, 31, 83, 157, 231, 12,
            86, 201, 47, 149, 200, 46, 4, 120, 236, 38, 154, 122, 10, 154, 226, 114, 166, 240, 58, 95, 169, 28, 130,
            232, 27, 129, 87, 203, 63, 121, 237, 205, 93, 237, 53, 197,
        ],
    ),
    (
        2,
        [
            38, 98, 157, 145, 93, 125, 153, 109, 108, 146, 180, 109, 140, 130, 99, 102, 151, 176, 130, 123, 121, 163,
            145, 80, 110, 180, 134, 108, 160, 145, 70, 124, 138, 118, 115, 128, 97, 91, 155, 85, 165, 139, 77, 133,
            137, 86, 105, 155, 121, 120, 125, 125, 86, 129, 151, 146, 86, 163, 124, 128,
        ],
    ),
    (
        3,
        [
            29, 93, 167, 149, 86, 125, 165, 101, 102, 153, 193, 96, 143, 132, 92, 93, 153, 184, 128, 127, 117, 169,
            149, 69, 109, 196, 134, 94, 174, 152, 55, 124, 145, 113, 112, 135, 96, 81, 165, 79, 173, 141, 64, 141, 138,
            75, 96, 172, 120, 116, 129, 134, 69, 132, 155, 150, 72, 176, 121, 123,
        ],
    ),
    (
        1,
        [
            24, 92, 173, 151, 83, 129, 171, 98, 100, 150, 202, 86, 141, 136, 91, 84, 155, 191, 123, 131, 116, 173, 146,
            64, 109, 204, 133, 87, 182, 157, 52, 124, 148, 118, 108, 140, 98, 70, 171, 76, 179, 136, 60, 150, 136, 69,
            89, 177, 122, 120, 132, 141, 64, 129, 152, 155, 59, 184, 124, 115,
        ],
    ),
    (
        4,
        [
            50, 111, 172, 104, 101, 144, 220, 41, 117, 194, 174, 74, 166, 130, 95, 75, 183, 163, 143, 123, 133, 194,
            127, 59, 120, 227, 47, 124, 200, 149, 65, 157, 121, 85, 114, 158, 10, 118, 226, 78, 152, 149, 82, 142, 139,
            54, 130, 207, 27, 104, 148, 112, 76, 168, 133, 113, 93, 201, 53, 161,
        ],
    ),
    (
        5,
        [
            30, 90, 153, 150, 83, 120, 177, 90, 103, 170, 189, 88, 145, 143, 83, 94, 155, 175, 130, 111, 113, 167, 164,
            58, 102, 197, 121, 103, 177, 133, 45, 127, 158, 88, 117, 130, 82, 95, 173, 84, 172, 170, 64, 125, 139, 76,
            106, 179, 93, 109, 122, 144, 61, 138, 174, 149, 78, 177, 107, 143,
        ],
    ),
];
/// The same of `rgb(2, 3)`, bicubic, to 5 high, 7 wide: overshoot is cut off between the two passes.
const ENLARGED: [u8; 105] = [
    0, 0, 12, 30, 49, 64, 71, 4, 7, 22, 41, 61, 76, 83, 28, 33, 50, 70, 91, 107, 115, 51, 59, 77, 99, 120, 138, 146,
    60, 69, 87, 110, 132, 150, 158, 73, 80, 95, 113, 132, 147, 154, 83, 90, 105, 124, 144, 159, 166, 109, 116, 133,
    153, 174, 190, 198, 134, 142, 160, 182, 203, 221, 229, 144, 152, 170, 193, 215, 233, 241, 154, 165, 192, 222, 242,
    255, 255, 167, 171, 179, 191, 209, 225, 232, 204, 187, 144, 108, 120, 144, 153, 240, 203, 108, 25, 31, 63, 73, 253,
    209, 95, 0, 0, 33, 43,
];

#[test]
fn images_are_resized_as_pillow_does() {
    for (resample, expected) in PILLOW {
        let config = format!(
            r#"{{"size": {{"height": 4, "width": 5}}, "resample": {resample}, "do_rescale": false, "do_normalize": false}}"#
        );
        let got = preprocessed(rgb(6, 8), &config);
        assert_eq!(got.shape(), [1, 3, 4, 5]);
        for (i, (got, want)) in got.iter().zip(expected).enumerate() {
            assert_eq!(*got, f32::from(want), "filter {resample}, {i}");
        }
    }
    let config = r#"{"size": {"height": 5, "width": 7}, "resample": 3, "do_rescale": false, "do_normalize": false}"#;
    assert!(preprocessed(rgb(2, 3), config).iter().copied().eq(ENLARGED.map(f32::from)));
}

#[test]
fn sizes_and_crops() {
    let off = r#""do_rescale": false, "do_normalize": false"#;
    let shape = |config: &str| preprocessed(rgb(30, 45), &format!("{{{config}, {off}}}")).shape()[2..].to_vec();
    assert_eq!(shape(r#""size": 10"#), [10, 10]);
    assert_eq!(shape(r#""size": {"shortest_edge": 10}"#), [10, 15]);
    assert_eq!(shape(r#""size": {"shortest_edge": 7}"#), [7, 10]);
    assert_eq!(shape(r#""size": {"height": 8, "width": 9}, "crop_size": 6"#), [6, 6]);
    assert_eq!(
        shape(r#""image_processor_type": "CLIPImageProcessor", "size": 10, "crop_size": {"height": 8, "width": 12}"#),
        [8, 12]
    );
    assert_eq!(
        shape(r#""image_processor_type": "CLIPImageProcessorFast", "size": 10, "do_center_crop": false"#),
        [10, 15]
    );
    assert_eq!(shape(r#""feature_extractor_type": "ViTFeatureExtractor", "size": 10, "crop_size": 8"#), [10, 10]);
    assert_eq!(shape(r#""image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 14}"#), [14, 14]);
    assert_eq!(shape(r#""image_processor_type": "ConvNextImageProcessor", "size": 384"#), [384, 384]);
    assert_eq!(shape(r#""do_resize": false"#), [30, 45]);

    // The crop's offset is rounded down; a larger crop is surrounded by zeros.
    let crop = |size: usize| {
        preprocessed(
            rgb(5, 6),
            &format!(r#"{{"do_resize": false, "do_center_crop": true, "crop_size": {size}, {off}}}"#),
        )
    };
    for (got, size) in [(crop(2), 2i64), (crop(9), 9)] {
        let (top, left) = ((5 - size).div_euclid(2), (6 - size).div_euclid(2));
        for ((_, c, y, x), &value) in got.view().into_dimensionality::<ndarray::Ix4>().unwrap().indexed_iter() {
            let (y, x) = (y as i64 + top, x as i64 + left);
            let inside = (0..5).contains(&y) && (0..6).contains(&x);
            assert_eq!(value, if inside { pixel(y as usize, x as usize, c).into() } else { 0.0 });
        }
    }
}

#[test]
fn image_folders_with_and_without_classes() {
    let folder = Folder::new();
    let config = folder.file(CONFIG, PLAIN);
    folder.file("README.md", "about");
    folder.file(".hidden", "passed over");
    let paths = [
        folder.file("cat/b.png", png(rgb(2, 2))),
        folder.file("cat/c.PNG", png(rgb(2, 2))),
        folder.file("dog/a.jpg", png(rgb(2, 2))),
    ];
    fs::create_dir(folder.path().join("bird")).unwrap();
    let set = open(folder.path(), &image_model(3, Some(2), Some(2))).unwrap();
    assert_eq!(set.labels(), Some(&[1, 1, 2][..]));
    let read: Vec<_> = set.files().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(read, [vec![config], paths.to_vec()].concat());
    let names = [CONFIG, "cat/b.png", "cat/c.PNG", "dog/a.jpg"];
    let lines: String = set.files().iter().zip(names).map(|((_, sha), name)| format!("{sha}  {name}\n")).collect();
    assert_eq!(set.sha256(), sha256(lines.as_bytes()));
    let last = set.select(&[2, 0]).unwrap();
    assert_eq!((last.len(), last.labels()), (2, Some(&[2, 1][..])));
    assert_ne!(last.sha256(), set.sha256());
    assert_eq!(values(&last, "pixel_values").shape(), [2, 3, 2, 2]);

    let flat = Folder::new();
    flat.file(CONFIG, PLAIN);
    assert_eq!(open(flat.path(), &image_model(3, None, None)).unwrap().len(), 0);
    flat.file("b.png", png(rgb(2, 2)));
    flat.file("a.png", png(image::RgbImage::new(2, 2).into()));
    let set = open(flat.path(), &image_model(3, None, None)).unwrap();
    assert_eq!((set.len(), set.labels()), (2, None));
    assert_eq!(values(&set, "pixel_values")[[0, 2, 1, 1]], 0.0);
    assert_eq!(values(&set, "pixel_values")[[1, 2, 1, 1]], f32::from(pixel(1, 1, 2)));
}

#[test]
fn an_image_that_changes_after_it_was_hashed() {
    let folder = Folder::new();
    folder.file(CONFIG, PLAIN);
    folder.file("i.png", png(rgb(2, 2)));
    let set = open(folder.path(), &image_model(3, None, None)).unwrap();
    folder.file("i.png", png(image::RgbImage::new(2, 2).into()));
    let error = set.batches(1).next().unwrap().unwrap_err();
    expect(error, Kind::Io, "Changed", &["i.png", "changed"]);
}

#[test]
fn grey_and_colour() {
    // Pillow's convert("L") of rgb(6, 8), the first row.
    let row = [68.0, 105.0, 142.0, 149.0, 186.0, 73.0, 110.0, 71.0];
    let folder = Folder::new();
    folder.file(CONFIG, PLAIN);
    folder.file("i.png", png(rgb(6, 8)));
    let set = open(folder.path(), &image_model(1, Some(6), Some(8))).unwrap();
    assert_eq!(values(&set, "pixel_values").shape(), [1, 1, 6, 8]);
    assert_eq!(values(&set, "pixel_values").as_slice().unwrap()[..8], row);
    let grey = image::GrayImage::from_fn(3, 2, |x, y| image::Luma([(x * 7 + y) as u8]));
    let colour = preprocessed(grey.clone().into(), PLAIN);
    assert!((0..3).all(|c| colour[[0, c, 1, 2]] == 15.0));
    let mut half = image_model(3, None, None);
    half[0].dtype = DType::F16;
    let folder = Folder::new();
    folder.file(CONFIG, PLAIN);
    folder.file("i.png", png(grey.into()));
    assert_eq!(whole(&open(folder.path(), &half).unwrap()).inputs["pixel_values"].dtype(), DType::F16);
}

#[test]
fn image_faults() {
    let default = Limits::default();
    let folder = |config: &str, files: &[(&str, Vec<u8>)]| {
        let folder = Folder::new();
        folder.file(CONFIG, config);
        files.iter().for_each(|(name, content)| drop(folder.file(name, content)));
        folder
    };
    let model = image_model(3, Some(2), Some(2));
    let check = |files: &[(&str, Vec<u8>)], kind, variant, parts: &[&str]| {
        expect(fault(folder(PLAIN, files).path(), &model, &default), kind, variant, parts);
    };
    let good = png(rgb(2, 2));
    check(&[("a.webp", b"RIFF\0\0\0\0WEBPVP8 ".to_vec())], Kind::Unsupported, "NotAnImage", &["a.webp", "PNG or JPEG"]);
    check(&[("a.png", b"no image".to_vec())], Kind::Unsupported, "NotAnImage", &["a.png"]);
    check(&[("a.png", good[..20].to_vec())], Kind::Malformed, "Image", &["a.png"]);
    check(&[("a.png", good[..good.len() - 20].to_vec())], Kind::Malformed, "Image", &["a.png", "cannot be decoded"]);
    check(
        &[("a.png", png(rgb(2, 3)))],
        Kind::Malformed,
        "ImageSize",
        &["a.png", "[2, 3] (height, width), expected [2, 2]", "width that model input `pixel_values` takes"],
    );
    check(&[("a.png", good.clone()), ("c/b.png", good.clone())], Kind::Malformed, "MixedFolder", &["a.png"]);
    check(&[("c/d/b.png", good.clone())], Kind::Malformed, "NestedFolder", &["c/d"]);
    let two = folder(PLAIN, &[("a.png", good.clone()), ("b.png", png(rgb(3, 2)))]);
    expect(
        fault(two.path(), &image_model(3, None, None), &default),
        Kind::Malformed,
        "ImageSize",
        &["b.png", "a.png", "expected [2, 2]"],
    );

    let one = folder(PLAIN, &[("a.png", good.clone())]);
    for inputs in
        [pairs(), two_inputs(), image_model(4, None, None), vec![spec("x", DType::U8, &[None, Some(3), None, None])]]
    {
        expect(fault(one.path(), &inputs, &default), Kind::Unsupported, "NotAnImageModel", &[]);
    }
    let limits = Limits { image_pixels: 3, ..Default::default() };
    expect(fault(one.path(), &model, &limits), Kind::Limit, "TooManyPixels", &["a.png", "2x2 pixels", "limit is 3"]);
    let limits = Limits { decoded_bytes: 47, ..Default::default() };
    expect(
        fault(one.path(), &model, &limits),
        Kind::Limit,
        "TooLarge",
        &["a batch of 1 images takes 48 bytes, the limit is 47"],
    );

    // A header that claims 2^31-1 by 2^31-1 pixels; a resize that would make as many.
    let mut bomb = good.clone();
    bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    check(&[("bomb.png", bomb)], Kind::Limit, "ImageMemory", &["bomb.png", "limit on pixels"]);
    let wide = folder(r#"{"size": {"shortest_edge": 500}, "do_normalize": false}"#, &[("wide.png", png(rgb(1, 1000)))]);
    expect(
        fault(wide.path(), &image_model(3, None, None), &default),
        Kind::Limit,
        "TooManyPixels",
        &["wide.png", "the resized image has 500x500000"],
    );
    let tall = folder(
        r#"{"size": {"height": 1, "width": 1000000}, "do_normalize": false}"#,
        &[("tall.png", png(rgb(1000, 1)))],
    );
    expect(
        fault(tall.path(), &image_model(3, None, None), &default),
        Kind::Limit,
        "TooManyPixels",
        &["tall.png", "along its rows has 1000x1000000"],
    );
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb88320 } else { c >> 1 })
    })
}

#[test]
fn configuration_faults() {
    let cases = [
        ("[]", Kind::Malformed, "Config", "JSON object"),
        ("{", Kind::Malformed, "Config", "(the file)"),
        ("{}", Kind::Malformed, "Config", "`size`"),
        (r#"{"size": 0}"#, Kind::Malformed, "Config", "`size`: expected a whole number"),
        (r#"{"size": {"height": 2}}"#, Kind::Malformed, "Config", "`size`"),
        (r#"{"size": {"shortest_edge": 2, "longest_edge": 9}}"#, Kind::Unsupported, "ConfigUnsupported", "`size`"),
        (r#"{"size": 2, "resample": 9}"#, Kind::Malformed, "Config", "`resample`"),
        (r#"{"size": 2, "do_resize": "yes"}"#, Kind::Malformed, "Config", "`do_resize`: expected true or false"),
        (r#"{"size": 2, "do_center_crop": true}"#, Kind::Malformed, "Config", "`crop_size`"),
        (r#"{"size": 2, "rescale_factor": "1/255"}"#, Kind::Malformed, "Config", "`rescale_factor`"),
        (r#"{"size": 2}"#, Kind::Malformed, "Config", "`image_mean`: expected 3 finite numbers"),
        (r#"{"size": 2, "image_mean": [0.5, 0.5], "image_std": 0.5}"#, Kind::Malformed, "Config", "`image_mean`"),
        (r#"{"size": 2, "image_mean": 0.5, "image_std": [1, 0, 1]}"#, Kind::Malformed, "Config", "`image_std`"),
        (r#"{"size": 2, "do_pad": true}"#, Kind::Unsupported, "ConfigUnsupported", "`do_pad` = true"),
        (
            r#"{"size": 2, "image_processor_type": "SamImageProcessor"}"#,
            Kind::Unsupported,
            "ConfigUnsupported",
            "SamImageProcessor",
        ),
        (
            r#"{"size": 2, "do_normalize": false, "rescale_factor": 1e300}"#,
            Kind::NotFinite,
            "NotFinite",
            "sample 0, position [0, 0, 1]",
        ),
    ];
    for (config, kind, variant, part) in cases {
        let folder = Folder::new();
        folder.file(CONFIG, config);
        folder.file("i.png", png(rgb(2, 2)));
        expect(fault(folder.path(), &image_model(3, None, None), &Limits::default()), kind, variant, &[part]);
    }
}

// ---- Paths

#[test]
fn paths_that_are_no_data() {
    let folder = Folder::new();
    let none = folder.path().join("none.npy");
    expect(open(&none, &pairs()).unwrap_err(), Kind::Io, "Io", &["none.npy", "No such file"]);
    expect(
        open(folder.path(), &pairs()).unwrap_err(),
        Kind::Unsupported,
        "FolderKind",
        &["preprocessor_config.json", "test_data_set_*"],
    );
    expect(
        open(&folder.file("d.parquet", "PAR1"), &pairs()).unwrap_err(),
        Kind::Unsupported,
        "Parquet",
        &["d.parquet", ".npz"],
    );
    expect(
        open(&folder.file("d.csv", "1,2"), &pairs()).unwrap_err(),
        Kind::Unsupported,
        "FileKind",
        &["d.csv", "kind `.csv`", ".npz"],
    );
    expect(
        open(&folder.file("d", "1,2"), &pairs()).unwrap_err(),
        Kind::Unsupported,
        "FileKind",
        &["without an extension"],
    );
    expect(
        open(&folder.file("d\x1b[31m.csv", ""), &pairs()).unwrap_err(),
        Kind::Unsupported,
        "FileKind",
        &["d\\u{1b}[31m.csv"],
    );
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_and_links_followed() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    expect(open(&pipe, &pairs()).unwrap_err(), Kind::Io, "NotRegular", &["pipe.npy"]);
    let file = folder.file("real.npy", npy(counting(&[3, 2])));
    let link = folder.path().join("link.npy");
    std::os::unix::fs::symlink(file, &link).unwrap();
    assert_eq!(open(&link, &pairs()).unwrap().len(), 3);
}

// ---- Arrays in memory, selections, batches

fn in_memory(samples: usize) -> DataSet {
    let b: Vec<i64> = (0..samples as i64).collect();
    let inputs = BTreeMap::from([
        ("a".to_owned(), Tensor::from(counting(&[samples, 2]))),
        ("b".to_owned(), Tensor::new(&[samples], b.clone()).unwrap()),
    ]);
    DataSet::from_arrays(inputs, Some(b), &two_inputs()).unwrap()
}

#[test]
fn arrays_in_memory() {
    let set = in_memory(5);
    assert_eq!((set.len(), set.files().len(), set.sha256().len()), (5, 0, 64));
    assert_eq!(set.sha256(), in_memory(5).sha256());
    assert_ne!(set.sha256(), in_memory(4).sha256());
    let one = |tensor: Tensor| DataSet::from_arrays(BTreeMap::from([("x".to_owned(), tensor)]), None, &pairs());
    let long =
        DataSet::from_arrays(BTreeMap::from([("x".to_owned(), counting(&[3, 2]).into())]), Some(vec![1]), &pairs());
    expect(long.unwrap_err(), Kind::Malformed, "SampleCounts", &["<memory>", "`labels` has 1 samples, `x` has 3"]);
    expect(
        one(counting(&[2, 3]).into()).unwrap_err(),
        Kind::Malformed,
        "WrongShape",
        &["<memory>", "[2, 3]", "[1, 2]"],
    );
    expect(one(counting(&[2, 2]).mapv(f64::from).into()).unwrap_err(), Kind::Malformed, "WrongType", &["float64"]);
    expect(
        one(counting(&[2, 2]).mapv(|x| 1.0 / (x + 2.5)).into()).unwrap_err(),
        Kind::NotFinite,
        "NotFinite",
        &["sample 0, position [1]: inf"],
    );
}

#[test]
fn selections() {
    let set = in_memory(6);
    let some = set.select(&[4, 1, 1]).unwrap();
    assert_eq!(some.labels(), Some(&[4, 1, 1][..]));
    assert_eq!(whole(&some).inputs["b"], Tensor::new(&[3], vec![4i64, 1, 1]).unwrap());
    let again = some.select(&[2, 0]).unwrap();
    assert_eq!(whole(&again).inputs["b"], Tensor::new(&[2], vec![1i64, 4]).unwrap());
    assert_ne!(some.sha256(), set.select(&[1, 4, 1]).unwrap().sha256());
    assert_eq!(set.select(&[]).unwrap().len(), 0);
    expect(some.select(&[3]).unwrap_err(), Kind::Usage, "Index", &["sample 3", "has 3"]);
}

// ---- What must always hold

fn config() -> ProptestConfig {
    ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() }
}

/// Opening this content under every kind of file and as a test data set returns, whatever it says.
fn survives(content: &[u8]) {
    let folder = Folder::new();
    let limits = Limits { decoded_bytes: 1 << 20, image_pixels: 1 << 16 };
    for name in ["x.npy", "x.npz", "x.safetensors"] {
        let _ = DataSet::open(&folder.file(name, content), &pairs(), &limits);
    }
    folder.file("test_data_set_0/input_0.pb", content);
    let _ = DataSet::open(folder.path(), &pairs(), &limits);
    folder.file("images/i.png", content);
    folder.file("images/preprocessor_config.json", PLAIN);
    if let Ok(set) = DataSet::open(&folder.path().join("images"), &image_model(3, None, None), &limits) {
        let _ = set.batches(1).count();
    }
}

/// A small good file of every kind.
fn seeds() -> Vec<Vec<u8>> {
    let array = npy(counting(&[3, 2]));
    let mut tensor = proto(1, &[2, 2]);
    tensor.float_data = vec![1.0, 2.0, 3.0, 4.0];
    let mut jpeg = Cursor::new(Vec::new());
    rgb(4, 4).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    vec![
        array.clone(),
        npz(&[("x.npy", array), ("labels.npy", npy(Array1::from(vec![1u8, 2, 3])))]),
        safetensors(&[("x", safetensors::Dtype::F32, vec![1, 2], le(&[1.0, 2.0]))]),
        tensor.write_to_bytes().unwrap(),
        png(rgb(4, 4)),
        jpeg.into_inner(),
    ]
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    let names = ["x.npy", "x.npz", "x.safetensors", "input_0.pb", "i.png", "i.jpg"];
    for (seed, name) in seeds().into_iter().zip(names) {
        let folder = Folder::new();
        for length in 0..seed.len() {
            let file = folder.file(name, &seed[..length]);
            let result = match name {
                "input_0.pb" => open(folder.path(), &pairs()).map(drop),
                "i.png" | "i.jpg" => {
                    folder.file(CONFIG, PLAIN);
                    // A decoder may accept an image that lacks no more than its end.
                    let set = open(folder.path(), &image_model(3, None, None));
                    let _ = set.map(|set| set.batches(1).count());
                    continue;
                }
                _ => open(&file, &pairs()).map(drop),
            };
            assert!(result.is_err(), "{name} cut to {length} bytes");
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_bytes_never_panic(content in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&content);
    }

    #[test]
    fn damaged_files_never_panic(which in 0usize..6, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut content = seeds().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(content.len());
            content[at] = byte;
        }
        survives(&content);
    }

    #[test]
    fn random_headers_never_panic(dictionary in "[{}()\\[\\]'\", :0-9a-zTF<>|\\-]{0,80}") {
        survives(&raw_npy(&dictionary, &[0; 16]));
        survives(&raw_npy(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dictionary})}}"), &[0; 16]));
    }

    #[test]
    fn random_configurations_never_panic(config in "[{}\\[\\]\", :0-9.a-z_\\-]{0,60}", size in any::<i64>(), factor in any::<f64>()) {
        let folder = Folder::new();
        folder.file("i.png", png(rgb(2, 2)));
        let limits = Limits { decoded_bytes: 1 << 20, image_pixels: 1 << 16 };
        for text in [config, format!(r#"{{"size": {size}, "crop_size": {size}, "rescale_factor": {factor}, "do_normalize": false}}"#)] {
            folder.file(CONFIG, text);
            if let Ok(set) = DataSet::open(folder.path(), &image_model(3, None, None), &limits) {
                let _ = set.batches(1).count();
            }
        }
    }

    #[test]
    fn batches_together_are_the_whole(samples in 0usize..20, size in 0usize..25) {
        let set = in_memory(samples);
        let (mut a, mut labels) = (Vec::new(), Vec::new());
        for batch in set.batches(size) {
            let batch = batch.unwrap();
            prop_assert!(batch.samples >= 1 && batch.samples <= size.max(1));
            prop_assert_eq!(batch.inputs["a"].shape(), &[batch.samples, 2]);
            prop_assert_eq!(batch.inputs["b"].to_i64(), batch.labels.clone());
            a.extend_from_slice(batch.inputs["a"].slice::<f32>().unwrap());
            labels.extend(batch.labels.unwrap());
        }
        prop_assert_eq!(a, counting(&[samples, 2]).into_raw_vec_and_offset().0);
        prop_assert_eq!(Some(&labels[..]), set.labels());
    }
}
