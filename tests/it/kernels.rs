//! The kernels that contract activations and gradients to weights, against plain loops.

use ndarray::{ArrayD, IxDyn};
use onnx_unlearn::autograd::{Contraction, ConvGeometry, Operand, Use, View, Weight};
use onnx_unlearn::importance::{Power, Values, accumulate};
use onnx_unlearn::specialise::samples::SampleAxis;
use onnx_unlearn::tensor::Tensor;
use proptest::prelude::*;

/// Small integers, so that every sum is exact.
fn numbers(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let mut state = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % 7) as f64 - 3.0
    })
}

fn operand(name: &str, array: &ArrayD<f64>, samples: Option<SampleAxis>) -> Operand {
    Operand { name: name.into(), shape: array.shape().to_vec(), samples }
}

fn weight(shape: &[usize], contraction: Contraction, views: Vec<View>) -> Weight {
    Weight { name: "w".into(), shape: shape.to_vec(), uses: vec![Use { contraction, views }] }
}

/// The kernel's sums in float64 and, since the numbers are small integers, the same in float32.
fn run(weight: &Weight, batch: usize, values: &[(&str, Tensor)], power: Power) -> Vec<f64> {
    let sums = |values: &Values| {
        let mut total = vec![0.0; weight.shape.iter().product()];
        accumulate(weight, batch, values, power, &mut total).unwrap();
        total
    };
    let narrow = |t: &Tensor| match t {
        Tensor::F64(a) => Tensor::F32(a.mapv(|v| v as f32)),
        other => other.clone(),
    };
    let narrowed: Vec<(&str, Tensor)> = values.iter().map(|(n, t)| (*n, narrow(t))).collect();
    let [double, single] = [values, &narrowed].map(|v| sums(&v.iter().map(|(n, t)| (*n, t.into())).collect()));
    assert_eq!(double, single);
    double
}

/// What is kept of each sample's gradient, added up.
fn powers(samples: &[Vec<f64>], power: Power) -> Vec<f64> {
    let apply = |g: f64| match power {
        Power::Absolute => g.abs(),
        Power::Square => g * g,
        Power::Signed => g,
    };
    (0..samples[0].len()).map(|i| samples.iter().map(|g| apply(g[i])).sum()).collect()
}

fn power() -> impl Strategy<Value = Power> {
    prop_oneof![Just(Power::Absolute), Just(Power::Square), Just(Power::Signed)]
}

/// An axis `outer × batch × inner` among others, and the sample of an index along it.
fn sample_of(axis: SampleAxis, batch: usize, index: usize) -> usize {
    assert!(index < axis.outer * batch * axis.inner);
    (index / axis.inner) % batch
}

/// Steps to the next index of a shape in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    let count: usize = shape.iter().product();
    (0..count).map(move |flat| {
        let mut rest = flat;
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        index
    })
}

/// One spatial axis: input, kernel, stride, dilation, padding before and after.
fn spatial() -> impl Strategy<Value = [usize; 6]> {
    let free = (1..6usize, 1..4usize, 1..4usize, 1..4usize, 0..4usize, 0..4usize).prop_map(<[usize; 6]>::from);
    free.prop_filter("the kernel fits", |[n, k, _, d, before, after]| n + before + after > d * (k - 1))
}

/// Gradients of a convolution with `[group, channels, outputs]` and so many images of a sample, against plain loops.
fn check_convolution(
    axes: &[[usize; 6]],
    batch: usize,
    [group, channels, outputs]: [usize; 3],
    inner: usize,
    power: Power,
    seed: u64,
) {
    let column = |f: fn(&[usize; 6]) -> usize| axes.iter().map(f).collect::<Vec<_>>();
    let (input, kernel, strides) = (column(|a| a[0]), column(|a| a[1]), column(|a| a[2]));
    let (dilations, pads) = (column(|a| a[3]), column(|a| a[4]));
    let output = column(|[n, k, s, d, before, after]| (n + before + after - d * (k - 1) - 1) / s + 1);
    let images = batch * inner;
    let x = numbers(&[&[images, group * channels], &input[..]].concat(), seed);
    let dy = numbers(&[&[images, group * outputs], &output[..]].concat(), seed ^ 1);
    let shape = [&[group * outputs, channels], &kernel[..]].concat();
    let split = SampleAxis { axis: 0, outer: 1, inner };

    let mut samples = vec![vec![]; batch];
    for w in indices(&shape) {
        let mut gradient = vec![0.0; batch];
        for at in indices(&[&[images], &output[..]].concat()) {
            let image = at[0];
            let mut from = vec![image, w[0] / outputs * channels + w[1]];
            for axis in 0..input.len() {
                let place = at[axis + 1] * strides[axis] + w[axis + 2] * dilations[axis];
                match place.checked_sub(pads[axis]).filter(|&p| p < input[axis]) {
                    Some(place) => from.push(place),
                    None => break,
                }
            }
            if from.len() == input.len() + 2 {
                let to = [&[image, w[0]], &at[1..]].concat();
                gradient[sample_of(split, batch, image)] += x[&from[..]] * dy[&to[..]];
            }
        }
        gradient.into_iter().enumerate().for_each(|(n, g)| samples[n].push(g));
    }

    let geometry = ConvGeometry { group, kernel, strides, dilations, pads };
    let (left, right) = (operand("x", &x, Some(split)), operand("dy", &dy, Some(split)));
    let weight = weight(&shape, Contraction::Conv { x: left, dy: right, geometry }, vec![]);
    assert_eq!(run(&weight, batch, &[("x", x.into()), ("dy", dy.into())], power), powers(&samples, power));
}

/// Few, or more than the panels of the kernels hold.
fn some(few: std::ops::Range<usize>) -> impl Strategy<Value = usize> {
    prop_oneof![7 => few, 1 => 7..70usize]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions(
        axes in prop::collection::vec(spatial(), 1..4),
        (batch, group, channels, outputs, inner) in (1..4usize, 1..4usize, 1..3usize, 1..3usize, 1..3usize),
        (power, seed) in (power(), any::<u64>()),
    ) {
        check_convolution(&axes, batch, [group, channels, outputs], inner, power, seed);
    }

    #[test]
    fn convolutions_of_many_channels(
        axes in prop::collection::vec(spatial().prop_map(|[n, k, s, d, before, after]| [n, k.min(2), s, d, before.min(1), after.min(1)]), 1..3),
        (batch, group, channels, outputs) in (1..3usize, 1..3usize, 1..45usize, 1..20usize),
        (power, seed) in (power(), any::<u64>()),
    ) {
        let axes: Vec<_> = axes.into_iter().filter(|[n, k, _, d, before, after]| n + before + after > d * (k - 1)).collect();
        prop_assume!(!axes.is_empty());
        check_convolution(&axes, batch, [group, channels, outputs], 1, power, seed);
    }

    #[test]
    fn convolutions_of_many_groups(
        axes in prop::collection::vec(spatial(), 1..3),
        (batch, group, outputs) in (1..4usize, 2..40usize, 1..3usize),
        (power, seed) in (power(), any::<u64>()),
    ) {
        check_convolution(&axes, batch, [group, 1, outputs], 1, power, seed);
    }

    #[test]
    fn products(
        (before, outer, batch, inner, after) in (1..3usize, 1..4usize, 1..4usize, 1..4usize, 1..3usize),
        (rows, columns) in (some(1..4), some(1..4)),
        (transposed, power, seed) in (any::<bool>(), power(), any::<u64>()),
    ) {
        let leading = [before, outer * batch * inner, after];
        let left = numbers(&[&leading[..], &[rows]].concat(), seed);
        let right = numbers(&[&leading[..], &[columns]].concat(), seed ^ 1);
        let split = SampleAxis { axis: 1, outer, inner };
        let mut samples = vec![vec![0.0; rows * columns]; batch];
        for at in indices(&leading) {
            let sample = &mut samples[sample_of(split, batch, at[1])];
            for (k, m) in indices(&[rows, columns]).map(|i| (i[0], i[1])) {
                let place = if transposed { m * rows + k } else { k * columns + m };
                sample[place] += left[[at[0], at[1], at[2], k]] * right[[at[0], at[1], at[2], m]];
            }
        }
        let contraction = Contraction::Product {
            left: operand("l", &left, Some(split)),
            right: operand("r", &right, Some(split)),
        };
        let (shape, views) = match transposed {
            true => ([columns, rows], vec![View::Permute(vec![1, 0])]),
            false => ([rows, columns], vec![]),
        };
        let weight = weight(&shape, contraction, views);
        prop_assert_eq!(run(&weight, batch, &[("l", left.into()), ("r", right.into())], power), powers(&samples, power));
    }

    #[test]
    fn rows_of_a_table(
        (outer, batch, inner, tokens) in (1..3usize, 1..4usize, 1..3usize, 1..4usize),
        (table, width) in (1..4usize, 1..4usize),
        (power, seed) in (power(), any::<u64>()),
    ) {
        let shape = [outer * batch * inner, tokens];
        let picked = numbers(&shape, seed).mapv(|v| (v as i64).rem_euclid(2 * table as i64) - table as i64);
        let dy = numbers(&[shape[0], tokens, width], seed ^ 1);
        let split = SampleAxis { axis: 0, outer, inner };
        let mut samples = vec![vec![0.0; table * width]; batch];
        for at in indices(&shape) {
            let row = picked[&at[..]].rem_euclid(table as i64) as usize;
            for column in 0..width {
                samples[sample_of(split, batch, at[0])][row * width + column] += dy[[at[0], at[1], column]];
            }
        }
        let indices = Operand { name: "i".into(), shape: shape.to_vec(), samples: Some(split) };
        let contraction = Contraction::Rows { indices, dy: operand("dy", &dy, Some(split)), rows: table };
        let weight = weight(&[table, width], contraction, vec![]);
        prop_assert_eq!(run(&weight, batch, &[("i", picked.into()), ("dy", dy.into())], power), powers(&samples, power));
    }

    #[test]
    fn sums(
        (before, outer, batch, inner, after) in (1..3usize, 1..3usize, 1..4usize, 1..3usize, 1..3usize),
        (power, seed) in (power(), any::<u64>()),
    ) {
        let dy = numbers(&[before, outer * batch * inner, after], seed);
        let split = SampleAxis { axis: 1, outer, inner };
        let mut samples = vec![vec![0.0; before * after]; batch];
        for at in indices(dy.shape()) {
            samples[sample_of(split, batch, at[1])][at[0] * after + at[2]] += dy[&at[..]];
        }
        let contraction = Contraction::Sum { dy: operand("dy", &dy, Some(split)), shape: vec![before, after] };
        let weight = weight(&[before, after], contraction, vec![]);
        prop_assert_eq!(run(&weight, batch, &[("dy", dy.into())], power), powers(&samples, power));
    }
}

/// The gradients of two uses are added before the absolute value, and an index beyond the table is an error.
#[test]
fn uses_and_faults() {
    let dy = numbers(&[2, 3], 1);
    let split = Some(SampleAxis { axis: 0, outer: 1, inner: 1 });
    let sum = |name| Contraction::Sum { dy: operand(name, &dy, split), shape: vec![3] };
    let mut twice = weight(&[3], sum("a"), vec![]);
    twice.uses.push(Use { contraction: sum("b"), views: vec![] });
    let opposite = -&dy;
    assert_eq!(run(&twice, 2, &[("a", dy.clone().into()), ("b", opposite.into())], Power::Absolute), [0.0; 3]);

    let indices = Operand { name: "i".into(), shape: vec![2], samples: split };
    let table = weight(&[4, 3], Contraction::Rows { indices, dy: operand("dy", &dy, split), rows: 4 }, vec![]);
    for index in [4i64, -5] {
        let (i, dy) = (Tensor::new(&[2], vec![0, index]).unwrap(), Tensor::F64(dy.clone()));
        let values = Values::from([("i", (&i).into()), ("dy", (&dy).into())]);
        accumulate(&table, 2, &values, Power::Absolute, &mut [0.0; 12]).unwrap_err();
    }
}
