# make demo   forgets one digit from two models and shows what came of it
# make test   all tests
# The other targets are listed by make help.

CARGO   ?= cargo
PYTHON  ?= python3
VENV    := .venv
SURVEY  := .survey
BINARY  := target/release/onnx-unlearn
RUNTIME := target/onnxruntime
NODES   := target/onnx-nodes

.PHONY: help demo test lint gradcheck nodes nodes-manifest parity survey classes bench fixtures schema operators cost build runtime runtime-cuda test-gpu bench-gpu bench-gpu-models venv clean

help:
	@echo 'demo       forget one digit from two models, show before and after beside retrained models'
	@echo 'test       all tests'
	@echo 'lint       formatting and lints'
	@echo 'gradcheck  every gradient rule against central differences'
	@echo 'nodes      fetch the node tests of the ONNX package'
	@echo 'nodes-manifest  judge them and write tests/nodes/manifest.txt'
	@echo 'parity     importance and new weights against PyTorch (makes a virtual environment)'
	@echo 'survey     importance of many exported models against their frameworks (hours; makes a virtual environment)'
	@echo 'classes    every digit forgotten in turn, over alpha, for both models'
	@echo 'bench      time and memory of importance beside PyTorch: docs/benchmarks.md (an hour; makes a virtual environment)'
	@echo 'fixtures   train and export the models anew (makes a virtual environment)'
	@echo 'schema     write docs/report.schema.json and docs/sweep.schema.json'
	@echo 'operators  write docs/operators.md'
	@echo 'runtime-cuda  fetch ONNX Runtime for NVIDIA GPUs, with CUDA and cuDNN'
	@echo 'test-gpu   the GPU against the CPU, on a machine with one (needs no compiler)'
	@echo 'bench-gpu-models  the graphs for bench-gpu (makes a virtual environment)'
	@echo 'bench-gpu  the GPU beside PyTorch, on a machine with both: docs/benchmarks-gpu.md (needs no compiler)'
	@echo 'cost       what it costs to build the backward graph of 5,000 nodes'

build:
	$(CARGO) build --release --locked

# The node tests of the ONNX package, from its wheel.
nodes: $(NODES)/fetched

$(NODES)/fetched: scripts/nodes.py
	rm -rf $(NODES)
	$(PYTHON) scripts/nodes.py $(NODES)/node
	touch $@

nodes-manifest: runtime nodes
	NODES_WRITE=1 $(CARGO) test --release --locked --test nodes

# ONNX Runtime, from its wheel. The tests need it; everything else goes on with the embedded runtime.
runtime: build
	@ls $(RUNTIME)/libonnxruntime.* >/dev/null 2>&1 || $(BINARY) runtime install --to $(RUNTIME) --python $(PYTHON)

# ONNX Runtime for NVIDIA GPUs, with CUDA 13 and cuDNN 9 of this machine, or fetched where it lacks them.
runtime-cuda: build
	$(BINARY) runtime install --cuda --to $(RUNTIME) --python $(PYTHON)

# On a machine with an NVIDIA GPU; builds nothing. MODELS names more models.
test-gpu:
	scripts/test_gpu.sh $(MODELS)

bench-gpu-models: venv
	$(VENV)/bin/python -W ignore scripts/bench_gpu.py models

# Builds nothing; PYTHON has PyTorch and numpy.
bench-gpu:
	$(PYTHON) scripts/bench_gpu.py run

demo: build
	@$(MAKE) --no-print-directory runtime || echo 'going on with the embedded runtime'
	$(PYTHON) scripts/demo.py $(BINARY)

test: runtime nodes
	$(CARGO) test --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

gradcheck: runtime
	$(CARGO) test --release --locked --test gradcheck

classes: runtime
	$(CARGO) run --release --locked --example classes -- models/resnet18_torchscript.onnx 2 3 4 5 6
	$(CARGO) run --release --locked --example classes -- models/resnet18_torchscript_folded.onnx 2 3 4 5 6
	$(CARGO) run --release --locked --example classes -- models/vit_torchscript.onnx 1.5 2 2.5 3 4

parity: runtime venv
	$(VENV)/bin/python scripts/parity.py

# Goes on where it was stopped: exports and results lie in target/survey.
survey: runtime $(SURVEY)/installed
	for source in torch.nn torchvision timm segmentation-models transformers onnxruntime keras jax scikit-learn paddle; do \
	  OMP_NUM_THREADS=1 $(SURVEY)/bin/python -W ignore scripts/survey/export.py $$source || exit 1; \
	done
	OMP_NUM_THREADS=1 $(SURVEY)/bin/python scripts/survey/check.py
	ONNX_UNLEARN_RUNTIME=$(RUNTIME) $(CARGO) run --release --locked --example cost -- target/survey/*/*/*/model.onnx > target/survey/nodes.tsv
	$(SURVEY)/bin/python scripts/survey/table.py

bench: runtime venv
	RAYON_NUM_THREADS=1 $(CARGO) bench --locked --bench kernels
	$(VENV)/bin/python -W ignore scripts/bench_models.py
	$(VENV)/bin/python scripts/bench.py

fixtures: venv
	$(VENV)/bin/python scripts/train.py

operators: build
	$(CARGO) run --release --locked --example operators > docs/operators.tmp
	mv docs/operators.tmp docs/operators.md

cost: runtime
	ONNX_UNLEARN_RUNTIME=$(RUNTIME) $(CARGO) run --release --locked --example cost

schema: build
	$(CARGO) run --release --locked --example schema > docs/report.schema.json
	$(CARGO) run --release --locked --example schema -- sweep > docs/sweep.schema.json

venv: $(VENV)/installed

$(VENV)/installed: scripts/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
	touch $@

$(SURVEY)/installed: scripts/survey/requirements.txt
	$(PYTHON) -m venv $(SURVEY)
	$(SURVEY)/bin/pip install --quiet --disable-pip-version-check -r scripts/survey/requirements.txt
	touch $@

clean:
	rm -rf target $(VENV) $(SURVEY)
