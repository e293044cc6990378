//! What the table does not say of operators: the sides of their kinks, and why some have no row.

/// Where an operator is not smooth, and the slope taken there: PyTorch's. Where elements are said to share,
/// each of the equal ones gets the same part.
pub const KINKS: &[(&str, &str)] = &[
    ("Abs", "0: slope 0"),
    ("Celu", "0: the curved side"),
    ("Clip", "both bounds: slope 1"),
    ("Elu", "0: the curved side"),
    ("GlobalMaxPool", "the first of equal elements"),
    ("GridSample", "whole places: the slope after them"),
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
    ("QuantizeLinear", "rounding: slope 1; where it saturates: slope 0"),
    ("ReduceL1", "0: slope 0"),
    ("ReduceL2", "a norm of zero: no gradient"),
    ("ReduceMax", "equal elements share"),
    ("ReduceMin", "equal elements share"),
    ("Relu", "0: slope 0"),
    ("ScatterElements", "equal elements share the gradient of the extreme"),
    ("ScatterND", "equal elements share the gradient of the extreme"),
    ("Selu", "0: the curved side"),
    ("Shrink", "both bounds: slope 0"),
    ("ThresholdedRelu", "the step: slope 0"),
    ("TopK", "the elements that the operator picks"),
];

/// Operators of the default domain that have no row, and why.
pub const WITHOUT: &[(&str, &str)] = &[
    ("CumProd", "no exporter writes it"),
    ("DeformConv", "no rule yet"),
    ("ImageDecoder", "ONNX Runtime does not run it"),
    ("MelWeightMatrix", "its operands are settings"),
    ("OptionalGetElement", "optional values are not tensors"),
    ("StringConcat", "text has no gradient"),
    ("TensorScatter", "no rule yet"),
    ("Unique", "the number of outputs depends on data"),
];
