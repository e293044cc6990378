//! What the table does not say of operators: the sides of their kinks, and why some have no row.

/// Where an operator is not smooth, and the slope taken there: PyTorch's. Where elements are said to share,
/// each of the equal ones gets the same part.
pub const KINKS: &[(&str, &str)] = &[
    ("Abs", "0: slope 0"),
    ("Celu", "0: the curved side"),
    ("Clip", "both bounds: slope 1"),
    ("Elu", "0: the curved side"),
    ("GlobalMaxPool", "the first of equal elements"),
    ("HardSigmoid", "both ends: slope 0"),
    ("HardSwish", "-3: slope 0; 3: slope 1"),
    ("LeakyRelu", "0: slope alpha"),
    ("LpNormalization", "a norm of zero: no gradient"),
    ("LpPool", "a norm of zero: no gradient"),
    ("Max", "equal operands share"),
    ("MaxPool", "the first of equal elements"),
    ("Min", "equal operands share"),
    ("PRelu", "0: the slope's side"),
    ("Pow", "a base of zero: no gradient for the exponent"),
    ("ReduceL1", "0: slope 0"),
    ("ReduceL2", "a norm of zero: no gradient"),
    ("ReduceMax", "equal elements share"),
    ("ReduceMin", "equal elements share"),
    ("Relu", "0: slope 0"),
    ("Selu", "0: the curved side"),
    ("ThresholdedRelu", "the step: slope 0"),
    ("TopK", "the elements that the operator picks"),
];

/// Operators of the default domain that have no row, and why.
pub const WITHOUT: &[(&str, &str)] = &[
    ("CumProd", "no exporter writes it"),
    ("DFT", "complex numbers are not supported"),
    ("DeformConv", "no rule yet"),
    ("DynamicQuantizeLinear", "its scale depends on the extremes of the whole batch"),
    ("ImageDecoder", "ONNX Runtime does not run it"),
    ("MelWeightMatrix", "its operands are settings"),
    ("OptionalGetElement", "optional values are not tensors"),
    ("STFT", "complex numbers are not supported"),
    ("StringConcat", "text has no gradient"),
    ("TensorScatter", "no rule yet"),
    ("Unique", "the number of outputs depends on data"),
];
