# make demo | test | wheel-test | docs | bench | lint | install | clean. Needs only Python 3.11 or newer, git and make; everything else goes into .venv.
# Another interpreter: make test PYTHON=/path/to/python3.12.  Another package index: pip's own variables (PIP_INDEX_URL, ...).

PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
# Python compiles what it imports, which is a small part of what is installed, and keeps it. Images of containers often
# forbid that with this variable; then every start would compile again, which takes longer than the start itself.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile
PACKAGES := -c constraints.txt torch==2.13.0 -e '.[dev,docs,monai]'
# uv installs the same in a third of the time. It reads no settings of pip, so it gets those that say where packages are.
said = $${PIP_$(1):-$$($(VENV)/bin/pip config get global.$(2) 2>/dev/null)}
UV = index="$(call said,INDEX_URL,index-url)"; links="$(call said,FIND_LINKS,find-links)"; \
     UV_DEFAULT_INDEX=$${index:-https://pypi.org/simple} UV_INDEX="$$PIP_EXTRA_INDEX_URL" \
     UV_INDEX_STRATEGY=unsafe-best-match UV_FIND_LINKS="$$(echo $$links | tr ' ' ,)" \
     $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python
# Threads of the numerical libraries: more than the cores of a small machine only makes tests slower.
THREADS ?= 2
THREADS_EACH = $(THREADS)
ENV = OMP_NUM_THREADS=$(THREADS_EACH) MKL_NUM_THREADS=$(THREADS_EACH) OPENBLAS_NUM_THREADS=$(THREADS_EACH)

.PHONY: demo test pytest wheel-test docs bench lint install clean

demo: $(STAMP)
	$(ENV) $(VENV)/bin/ucseg demo

# Lint, then the tests; with make's --jobs both at once. WHEEL=1: with those of the wheel among them.
test: lint pytest

# As many tests at once as there are THREADS, each on one: the tensors of tests are too small to share among cores.
# worksteal: each process gets whole folders, so that what a file's tests share is mostly made once.
# A test that hangs prints where it stands after five minutes.
pytest: THREADS_EACH := 1
pytest: $(STAMP)
	$(ENV) $(VENV)/bin/python -m pytest -n $(THREADS) --dist worksteal -rs -o faulthandler_timeout=300 $(if $(filter 1,$(WHEEL)),-m '')

# The wheel by itself, in an environment of its own without what the tests need, runs the demo.
wheel-test: $(STAMP)
	$(ENV) $(VENV)/bin/python -m pytest -m wheel tests/packaging

# The documentation as a site: site/index.html. A broken link is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# The benchmarks in short against the stored figures; fails where one is clearly worse. The machine should do nothing else.
bench: $(STAMP)
	$(ENV) $(VENV)/bin/python benchmarks/bench.py

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy src

install: $(STAMP)

# torch has an exact pin: that is what lets an index offer its CPU build instead of a CUDA one.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; say where a newer one is with PYTHON=..." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) -c constraints.txt uv
	$(UV) $(PACKAGES) || { echo "uv did not find them; pip tries." >&2; $(PIP) $(PACKAGES); }
	touch $(STAMP)

clean:
	rm -rf $(VENV) ucseg-demo build dist site .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
