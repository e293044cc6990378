#!/bin/sh
# The CUDA execution provider against the CPU, on a machine with an NVIDIA GPU. Needs the built program, ONNX Runtime
# with CUDA where the program finds it, and Python 3 with numpy; no compiler and no network.
#
#   scripts/test_gpu.sh [MODEL.onnx...]       more models: their data are made up
#
# PROGRAM, PYTHON and DEVICE (cuda, cuda:1, …) may be set. DEVICE=cpu holds the CPU against itself, which tests this
# script and nothing else. Not yet run on a machine with a GPU.
set -eu
cd "$(dirname "$0")/.."
PROGRAM=${PROGRAM:-target/release/onnx-unlearn}
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
OUT=target/test-gpu
mkdir -p "$OUT"

"$PROGRAM" runtime show
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
fi

# Importance on both devices, and the time of each; $1 model, $2 data, $3 name, $4 reduction, then more options.
parity() {
    given=$1 samples=$2 title=$3 kind=$4
    shift 4
    # Without what an earlier run left, which would be gone on from.
    rm -f "$OUT/$title".*.profile*
    begin=$("$PYTHON" -c 'import time; print(time.time())')
    "$PROGRAM" importance "$given" --data "$samples" --reduction "$kind" --device cpu -q "$@" -o "$OUT/$title.reference.profile" >/dev/null
    middle=$("$PYTHON" -c 'import time; print(time.time())')
    "$PROGRAM" importance "$given" --data "$samples" --reduction "$kind" --device "$DEVICE" -q "$@" -o "$OUT/$title.$DEVICE.profile" >/dev/null
    end=$("$PYTHON" -c 'import time; print(time.time())')
    "$PYTHON" scripts/test_gpu.py parity "$OUT/$title.reference.profile" "$OUT/$title.$DEVICE.profile" "$title, $kind reduction" \
        "$begin" "$middle" "$end"
}

for model in resnet18_torchscript vit_torchscript; do
    for reduction in sample batch; do
        parity "models/$model.onnx" fixtures/digits/forget.npz "$model" "$reduction" --batch-size 32
    done
    "$PROGRAM" forget "models/$model.onnx" --forget fixtures/digits/forget.npz --retain fixtures/digits/retain.npz \
        --alpha 3 --min-retained-agreement 0 --dry-run --device "$DEVICE" -q -o "$OUT/none.onnx" --report "$OUT/$model" >/dev/null
    "$PYTHON" scripts/test_gpu.py proof "$OUT/$model/report.json" "$DEVICE"
done

for model in "$@"; do
    name=$(basename "$model" .onnx)
    "$PROGRAM" inspect "$model" --json >"$OUT/$name.json"
    "$PYTHON" scripts/test_gpu.py data "$OUT/$name.json" 16 "$OUT/$name.npz"
    for reduction in sample batch; do
        parity "$model" "$OUT/$name.npz" "$name" "$reduction" --batch-size 8
    done
    # More than fits: it must either fit after all or say what is wrong, and leave nothing.
    "$PYTHON" scripts/test_gpu.py data "$OUT/$name.json" 4096 "$OUT/$name.large.npz"
    rm -f "$OUT/$name.large.profile"*
    code=0
    timeout 600 "$PROGRAM" importance "$model" --data "$OUT/$name.large.npz" --batch-size 4096 --device "$DEVICE" -q \
        -o "$OUT/$name.large.profile" >/dev/null 2>"$OUT/$name.large.err" || code=$?
    rm -f "$OUT/$name.large.npz"
    "$PYTHON" scripts/test_gpu.py memory "$name" "$code" "$OUT/$name.large.err" "$OUT/$name.large.profile"
done
# Beside PyTorch, where it is there and 'make bench-gpu-models' has written the graphs.
if [ "$DEVICE" != cpu ] && [ -f target/gpu/vit_b16.onnx ] && "$PYTHON" -c 'import torch' 2>/dev/null; then
    "$PYTHON" scripts/bench_gpu.py run --binary "$PROGRAM" --device "$DEVICE"
fi
echo 'all passed'
