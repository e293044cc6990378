//! Forms and meanings that operators had in older operator sets.

use super::*;

/// A square of what the operator gives, so that the gradient tells where each element went.
fn square(op: &'static str, what: &str, call: &str, x: &[usize]) -> Case {
    case(op, what, format!("t = {call}; y = Mul(t, t)")).act("x", x)
}

fn inputs_that_were_attributes() -> Vec<Case> {
    let clip = |what: &str, attributes: &str| {
        case("Clip", what, format!("t = Clip{attributes}(x); y = Mul(t, t)"))
            .act_in(Sampler::Off(&[-0.5, 0.25]), "x", &[12])
            .single("older operator sets have float32 kernels alone")
    };
    vec![
        clip("bounds as attributes", "<min=-0.5,max=0.25>").opsets(&[7, 9]),
        clip("lower bound as an attribute", "<min=-0.5>").opsets(&[7]),
        clip("no bounds", "").opsets(&[7, 11]),
        square("Slice", "attributes", "Slice<starts=[1,-3],ends=[3,9],axes=[1,2]>(x)", &[4, 4]).opsets(&[7, 9]),
        square("Slice", "attributes, no axes", "Slice<starts=[0,1],ends=[9,3]>(x)", &[4]).opsets(&[7]),
        square("Pad", "attributes", "Pad<pads=[0,1,2,0,0,1]>(x)", &[2, 3]).opsets(&[7, 9]),
        square("Pad", "a value", "Pad<pads=[0,1,0,0,0,1],value=0.5>(x)", &[2, 3]).opsets(&[9]),
        square("Squeeze", "axes as an attribute", "Squeeze<axes=[1,3]>(x)", &[1, 3, 1]).opsets(&[7, 11, 12]),
        square("Unsqueeze", "axes as an attribute", "Unsqueeze<axes=[1,3]>(x)", &[3]).opsets(&[7, 11, 12]),
        square("ReduceSum", "axes as an attribute", "ReduceSum<axes=[1],keepdims=0>(x)", &[3, 2]).opsets(&[7, 11, 12]),
        square("Split", "parts as an attribute", "Split<axis=1,split=[1,3]>(x)", &[4])
            .replace("t = ", "s, t = ")
            .opsets(&[7, 11, 12]),
        square("Split", "equal parts, older", "Split<axis=1>(x)", &[4]).replace("t = ", "s, t = ").opsets(&[7, 12]),
        square("TopK", "number as an attribute", "TopK<axis=1,k=2>(x)", &[5])
            .replace("t = ", "t, i = ")
            .opsets(&[7, 9]),
        square("TopK", "number as an input", "TopK<axis=1>(x, k)", &[5])
            .replace("t = ", "t, i = ")
            .ints("k", &[2])
            .opsets(&[10]),
        square("Dropout", "ratio as an attribute", "Dropout<ratio=0.3>(x)", &[5]).opsets(&[7, 10, 11]),
        square("Dropout", "with its mask", "Dropout<ratio=0.3>(x)", &[5]).replace("t = ", "t, m = ").opsets(&[7, 10]),
    ]
}

fn axes_counted_as_one() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ["Softmax", "LogSoftmax", "Hardmax"] {
        let make = |what: &str, attributes: &str| {
            let case = case(op, what, format!("t = {op}{attributes}(x); y = Mul(t, x)"));
            let case = case.act_in(Sampler::Distinct, "x", &[3, 4]);
            if op == "Hardmax" { case.single(NO_F64) } else { case }
        };
        cases.extend([
            make("axes after the first as one", "").opsets(&[7, 11, 12]),
            make("axes after the second as one", "<axis=2>").opsets(&[7, 12]),
            make("the last axis of older operator sets", "<axis=-1>").opsets(&[11, 12]),
            make("a negative axis as one", "<axis=-2>").opsets(&[11]),
            make("all axes as one", "<axis=0>").opsets(&[7]).mixes("the samples are among them"),
        ]);
    }
    cases
}

fn normalisation() -> Vec<Case> {
    let batch = |what: &str, attributes: &str, shape: &[usize]| {
        case("BatchNormalization", what, format!("y = BatchNormalization<{attributes}>(x, s, b, m, v)"))
            .act("x", &[3, 2, 2])
            .weight_in(POSITIVE, "s", shape)
            .weight("b", shape)
            .constant(Sampler::Uniform(-1.0, 1.0), "m", shape)
            .constant(POSITIVE, "v", shape)
    };
    vec![
        batch("per channel, older", "spatial=1,momentum=0.8,epsilon=0.01", &[3]).opsets(&[7, 8]),
        batch("momentum, older", "momentum=0.8", &[3]).opsets(&[9, 12, 14]),
        batch("statistics for every element", "spatial=0,epsilon=0.01", &[3, 2, 2])
            .opsets(&[7, 8])
            .single("statistics for every element have float32 kernels alone"),
    ]
}

pub fn cases() -> Vec<Case> {
    [inputs_that_were_attributes(), axes_counted_as_one(), normalisation()].concat()
}
