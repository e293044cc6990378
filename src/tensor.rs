//! A dense tensor in row-major order, of any element type that the product computes with.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use std::fmt;

/// Element types by their ONNX meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    Bool,
}

impl DType {
    /// The type's number in `TensorProto.DataType`.
    pub fn to_onnx(self) -> i32 {
        match self {
            DType::F32 => 1,
            DType::U8 => 2,
            DType::I8 => 3,
            DType::I16 => 5,
            DType::I32 => 6,
            DType::I64 => 7,
            DType::Bool => 9,
            DType::F16 => 10,
            DType::F64 => 11,
            DType::BF16 => 16,
        }
    }

    /// The type with this number in `TensorProto.DataType`, or none for the types
    /// that are passed through unread (strings, complex, 4-bit and 8-bit floats, …).
    pub fn from_onnx(number: i32) -> Option<Self> {
        Some(match number {
            1 => DType::F32,
            2 => DType::U8,
            3 => DType::I8,
            5 => DType::I16,
            6 => DType::I32,
            7 => DType::I64,
            9 => DType::Bool,
            10 => DType::F16,
            11 => DType::F64,
            16 => DType::BF16,
            _ => return None,
        })
    }

    /// Bytes an element takes in `raw_data`.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether gradients flow through values of this type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U8 => "uint8",
            DType::Bool => "bool",
        })
    }
}

/// A dense tensor in standard (row-major, contiguous) layout.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    F16(ArrayD<f16>),
    BF16(ArrayD<bf16>),
    I8(ArrayD<i8>),
    I16(ArrayD<i16>),
    I32(ArrayD<i32>),
    I64(ArrayD<i64>),
    U8(ArrayD<u8>),
    Bool(ArrayD<bool>),
}

/// Runs `$body` with `$a` bound to the array of any tensor.
#[macro_export]
macro_rules! with_array {
    ($tensor:expr, $a:ident => $body:expr) => {
        match $tensor {
            $crate::tensor::Tensor::F32($a) => $body,
            $crate::tensor::Tensor::F64($a) => $body,
            $crate::tensor::Tensor::F16($a) => $body,
            $crate::tensor::Tensor::BF16($a) => $body,
            $crate::tensor::Tensor::I8($a) => $body,
            $crate::tensor::Tensor::I16($a) => $body,
            $crate::tensor::Tensor::I32($a) => $body,
            $crate::tensor::Tensor::I64($a) => $body,
            $crate::tensor::Tensor::U8($a) => $body,
            $crate::tensor::Tensor::Bool($a) => $body,
        }
    };
}

/// A Rust type that is an element of a [`Tensor`], with its little-endian bytes.
pub trait Element: Copy + Send + Sync + 'static {
    const DTYPE: DType;
    fn wrap(array: ArrayD<Self>) -> Tensor;
    fn unwrap(tensor: &Tensor) -> Option<&ArrayD<Self>>;
    /// The element in the first `DTYPE.size()` bytes; the caller gives that many.
    fn from_le(bytes: &[u8]) -> Self;
    /// Writes the element to `DTYPE.size()` bytes; the caller gives that many.
    fn write_le(self, out: &mut [u8]);
}

macro_rules! element {
    ($($t:ty => $variant:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            fn wrap(array: ArrayD<Self>) -> Tensor { Tensor::$variant(array) }
            fn unwrap(tensor: &Tensor) -> Option<&ArrayD<Self>> {
                match tensor { Tensor::$variant(a) => Some(a), _ => None }
            }
            fn from_le(bytes: &[u8]) -> Self {
                let mut le = [0; size_of::<$t>()];
                le.copy_from_slice(&bytes[..size_of::<$t>()]);
                <$t>::from_le_bytes(le)
            }
            fn write_le(self, out: &mut [u8]) { out.copy_from_slice(&self.to_le_bytes()) }
        }
        impl From<ArrayD<$t>> for Tensor {
            fn from(array: ArrayD<$t>) -> Tensor { Tensor::$variant(array) }
        }
    )*};
}
element!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn wrap(array: ArrayD<Self>) -> Tensor {
        Tensor::Bool(array)
    }
    fn unwrap(tensor: &Tensor) -> Option<&ArrayD<Self>> {
        match tensor {
            Tensor::Bool(a) => Some(a),
            _ => None,
        }
    }
    fn from_le(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
    fn write_le(self, out: &mut [u8]) {
        out[0] = self as u8;
    }
}

impl From<ArrayD<bool>> for Tensor {
    fn from(array: ArrayD<bool>) -> Tensor {
        Tensor::Bool(array)
    }
}

impl Tensor {
    /// A tensor of `shape` from its elements in row-major order; none where their number differs.
    pub fn new<T: Element>(shape: &[usize], elements: Vec<T>) -> Option<Tensor> {
        ArrayD::from_shape_vec(IxDyn(shape), elements).ok().map(T::wrap)
    }

    /// A tensor of a type from numbers, rounded or cut off to it; truth values are what is not zero.
    pub fn from_f64(dtype: DType, values: ArrayD<f64>) -> Tensor {
        match dtype {
            DType::F32 => Tensor::F32(values.mapv(|x| x as f32)),
            DType::F64 => Tensor::F64(values),
            DType::F16 => Tensor::F16(values.mapv(f16::from_f64)),
            DType::BF16 => Tensor::BF16(values.mapv(bf16::from_f64)),
            DType::I8 => Tensor::I8(values.mapv(|x| x as i8)),
            DType::I16 => Tensor::I16(values.mapv(|x| x as i16)),
            DType::I32 => Tensor::I32(values.mapv(|x| x as i32)),
            DType::I64 => Tensor::I64(values.mapv(|x| x as i64)),
            DType::U8 => Tensor::U8(values.mapv(|x| x as u8)),
            DType::Bool => Tensor::Bool(values.mapv(|x| x != 0.0)),
        }
    }

    /// A tensor of `shape` from little-endian bytes; none where their number is not
    /// `product(shape) * dtype.size()`.
    pub fn from_le_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Tensor> {
        fn read<T: Element>(shape: &[usize], bytes: &[u8]) -> Option<Tensor> {
            let elements = bytes.chunks_exact(T::DTYPE.size()).map(T::from_le).collect();
            Tensor::new::<T>(shape, elements)
        }
        if !bytes.len().is_multiple_of(dtype.size()) {
            return None;
        }
        match dtype {
            DType::F32 => read::<f32>(shape, bytes),
            DType::F64 => read::<f64>(shape, bytes),
            DType::F16 => read::<f16>(shape, bytes),
            DType::BF16 => read::<bf16>(shape, bytes),
            DType::I8 => read::<i8>(shape, bytes),
            DType::I16 => read::<i16>(shape, bytes),
            DType::I32 => read::<i32>(shape, bytes),
            DType::I64 => read::<i64>(shape, bytes),
            DType::U8 => read::<u8>(shape, bytes),
            DType::Bool => read::<bool>(shape, bytes),
        }
    }

    /// The elements as little-endian bytes, row-major: the content of `raw_data`.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len() * self.dtype().size()];
        self.write_le_bytes(&mut out);
        out
    }

    /// Writes [`Tensor::to_le_bytes`] to `out`, which has their length.
    pub fn write_le_bytes(&self, out: &mut [u8]) {
        fn write<T: Element>(array: &ArrayD<T>, out: &mut [u8]) {
            let chunks = out.chunks_exact_mut(T::DTYPE.size());
            chunks.zip(array.iter()).for_each(|(out, x)| x.write_le(out));
        }
        with_array!(self, a => write(a, out));
    }

    pub fn dtype(&self) -> DType {
        fn of<T: Element>(_: &ArrayD<T>) -> DType {
            T::DTYPE
        }
        with_array!(self, a => of(a))
    }

    pub fn shape(&self) -> &[usize] {
        with_array!(self, a => a.shape())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_array!(self, a => a.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The array, where the elements are of type `T`.
    pub fn array<T: Element>(&self) -> Option<&ArrayD<T>> {
        T::unwrap(self)
    }

    /// The elements in row-major order, where they are of type `T`.
    pub fn slice<T: Element>(&self) -> Option<&[T]> {
        self.array::<T>().and_then(|a| a.as_slice())
    }

    /// Floating-point elements as f64 (exact); none for other types.
    pub fn to_f64(&self) -> Option<ArrayD<f64>> {
        Some(match self {
            Tensor::F32(a) => a.mapv(f64::from),
            Tensor::F64(a) => a.clone(),
            Tensor::F16(a) => a.mapv(f64::from),
            Tensor::BF16(a) => a.mapv(f64::from),
            _ => return None,
        })
    }

    /// Half-precision elements as f32 (exact); none for other types.
    pub fn to_single(&self) -> Option<Tensor> {
        Some(Tensor::F32(match self {
            Tensor::F16(a) => a.mapv(f32::from),
            Tensor::BF16(a) => a.mapv(f32::from),
            _ => return None,
        }))
    }

    /// Integer elements as i64, row-major; none for other types.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self {
            Tensor::I8(a) => a.iter().map(|&x| x.into()).collect(),
            Tensor::I16(a) => a.iter().map(|&x| x.into()).collect(),
            Tensor::I32(a) => a.iter().map(|&x| x.into()).collect(),
            Tensor::I64(a) => a.iter().copied().collect(),
            Tensor::U8(a) => a.iter().map(|&x| x.into()).collect(),
            _ => return None,
        })
    }

    /// Flat index of the first element that is NaN or infinite.
    pub fn first_not_finite(&self) -> Option<usize> {
        match self {
            Tensor::F32(a) => a.iter().position(|x| !x.is_finite()),
            Tensor::F64(a) => a.iter().position(|x| !x.is_finite()),
            Tensor::F16(a) => a.iter().position(|x| !x.is_finite()),
            Tensor::BF16(a) => a.iter().position(|x| !x.is_finite()),
            _ => None,
        }
    }
}
