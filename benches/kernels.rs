//! The kernels that contract activations and gradients to importance, on layers of known networks, beside a plain
//! product of matrices with as many operations; one thread. `make bench` puts the rates into `docs/benchmarks.md`.

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use ndarray::{Array2, ArrayD, IxDyn};
use onnx_unlearn::autograd::{Contraction, ConvGeometry, Operand, Use, Weight};
use onnx_unlearn::importance::{Power, Values, accumulate};
use onnx_unlearn::specialise::samples::SampleAxis;
use onnx_unlearn::tensor::Tensor;

const BATCH: usize = 4;
const BY_SAMPLE: Option<SampleAxis> = Some(SampleAxis { axis: 0, outer: 1, inner: 1 });

/// Numbers from -1 to 1, the same ones every time.
fn numbers(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut state = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn operand(name: &str, shape: &[usize]) -> Operand {
    Operand { name: name.into(), shape: shape.to_vec(), samples: BY_SAMPLE }
}

/// Adds up the absolute values of each sample's gradient, which takes so many multiplications and additions.
fn bench(group: &mut BenchmarkGroup<WallTime>, name: &str, weight: &Weight, operations: usize) {
    let [left, right] = weight.uses[0].contraction.operands()[..] else { return };
    let (a, b): (Tensor, Tensor) = (numbers(&left.shape, 1).into(), numbers(&right.shape, 2).into());
    let values: Values = [(&*left.name, (&a).into()), (&*right.name, (&b).into())].into();
    let mut total = vec![0.0; weight.shape.iter().product()];
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| accumulate(weight, BATCH, &values, Power::Absolute, &mut total).unwrap());
    });
}

fn weight(shape: Vec<usize>, contraction: Contraction) -> Weight {
    Weight { name: "w".into(), shape, uses: vec![Use { contraction, views: vec![] }] }
}

/// A square kernel over square images, `size` elements wide after it, padded to keep the size.
fn convolution(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    [channels, outputs, groups]: [usize; 3],
    [kernel, stride, size]: [usize; 3],
) {
    let x = operand("x", &[BATCH, channels, size * stride, size * stride]);
    let dy = operand("dy", &[BATCH, outputs, size, size]);
    let geometry = ConvGeometry {
        group: groups,
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads: vec![kernel / 2; 2],
    };
    let shape = vec![outputs, channels / groups, kernel, kernel];
    let operations = 2 * BATCH * size * size * shape.iter().product::<usize>();
    bench(group, name, &weight(shape, Contraction::Conv { x, dy, geometry }), operations);
}

/// `[tokens, from]` to `[tokens, to]` in each sample.
fn product(group: &mut BenchmarkGroup<WallTime>, name: &str, [tokens, from, to]: [usize; 3]) {
    let shape = |columns| if tokens == 1 { vec![BATCH, columns] } else { vec![BATCH, tokens, columns] };
    let (left, right) = (operand("x", &shape(from)), operand("dy", &shape(to)));
    let operations = 2 * BATCH * tokens * from * to;
    bench(group, name, &weight(vec![from, to], Contraction::Product { left, right }), operations);
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(20);
    let (rows, inner) = (1024, 1024);
    let [a, b] = [1, 2].map(|seed| numbers(&[rows, inner], seed).into_shape_with_order((rows, inner)).unwrap());
    let mut c = Array2::<f32>::zeros((rows, inner));
    group.throughput(Throughput::Elements((2 * rows * inner * inner) as u64));
    group.bench_function("product, 1024×1024×1024", |bencher| {
        bencher.iter(|| ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, &mut c));
    });
    convolution(&mut group, "3×3, 64 to 64, 56×56", [64, 64, 1], [3, 1, 56]);
    convolution(&mut group, "3×3, 512 to 512, 7×7", [512, 512, 1], [3, 1, 7]);
    convolution(&mut group, "3×3 by 2, 128 to 256, 14×14", [128, 256, 1], [3, 2, 14]);
    convolution(&mut group, "1×1, 256 to 64, 56×56", [256, 64, 1], [1, 1, 56]);
    convolution(&mut group, "7×7 depthwise, 96, 56×56", [96, 96, 96], [7, 1, 56]);
    convolution(&mut group, "3×3 in 32 groups, 256 to 256, 14×14", [256, 256, 32], [3, 1, 14]);
    product(&mut group, "tokens, 197 of 768 to 3072", [197, 768, 3072]);
    product(&mut group, "tokens, 128 of 768 to 768", [128, 768, 768]);
    product(&mut group, "rank one, 2048 to 1000", [1, 2048, 1000]);
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
