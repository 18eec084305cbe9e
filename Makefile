# Every target sets up .venv itself, once: it is made anew only when pyproject.toml or
# constraints.txt change. On a machine without an NVIDIA card
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# takes torch from there and spares gigabytes of CUDA libraries (needed on the first call only).

PYTHON ?= python3
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo app test test-all bench bench-gpu cuda quality lint wheel sdist setup clean
.DEFAULT_GOAL := demo

demo: $(READY) ## upscale a sample photo and compare it with bicubic
	$(BIN)/python scripts/demo.py

app: $(READY) ## the page, in the browser
	$(BIN)/adapool-sr app --open

test: $(READY) ## the tests but for the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: test ## all tests
	$(BIN)/python -m pytest -m slow

bench: $(READY) ## time the pooling operators against PyTorch's own
	$(BIN)/python benchmarks/pooling.py

# A machine with a GPU may have a torch of its own and no way to the package index: then .venv is not
# made, and a library that `make cuda` built elsewhere serves where there is no nvcc.
bench-gpu: ## build, check and time the CUDA kernels, on a machine with an NVIDIA card
	PYTHONPATH=. $(if $(wildcard $(READY)),$(BIN)/python,$(PYTHON)) benchmarks/pooling_gpu.py

cuda: $(READY) ## the CUDA kernels for every architecture, build/adapool_cuda.so (needs nvcc, no card)
	$(BIN)/python scripts/cuda_library.py

quality: $(READY) ## measure every shipped model on the sets in ADAPOOL_DATA
	$(BIN)/python benchmarks/quality.py

lint: $(READY) ## style, format and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy adapool_sr tests scripts benchmarks
	$(BIN)/python -m mypy app

wheel: $(READY) ## the package with the kernels built in, into dist/
	$(BIN)/python scripts/wheel.py

sdist: $(READY) ## the source archive, into dist/
	$(BIN)/python -m build --sdist --no-isolation --outdir dist

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { \
	  echo "make: $(PYTHON) not found; name a Python: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	    "name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { \
	  echo "make: $(PYTHON) has no venv (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
ifneq ($(strip $(TORCH_INDEX)),)
	$(PIP) --index-url $(TORCH_INDEX) torch
endif
	$(PIP) -e '.[all,dev]'
	@touch $@

clean: ## remove what the targets made, .venv too
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
