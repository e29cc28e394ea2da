# Needs make and Python 3.10 or newer, nothing else: everything is installed into .venv.
#
#   make test PYTHON=/usr/bin/python3.12                           another Python
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu     torch and torchvision from another index
#
# A stamp file is the last thing that a step writes: a step that was interrupted is repeated.

PYTHON ?= python3
TORCH_INDEX ?=

PIP := .venv/bin/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install --no-compile
PYTEST := SUPER_SELFISH_INSTALLED=1 .venv/bin/pytest
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
WHEEL := build/wheel/super_selfish-*.whl
# Folders are listed too: their date changes when a file is deleted.
SOURCES := $(shell find super_selfish -name __pycache__ -prune -o -print)
BENCHMARKS := $(wildcard $(patsubst %,benchmarks/%.py,views recipes files bank bank_memory backbones overhead restart end_to_end))
LEARN ?= cifar10_sub.npz clothing10_48.npz

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check format learn bench gpu-check clean
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

demo: .venv/library ## Train on images that come with the dependencies, compare with an untrained backbone
	@.venv/bin/super-selfish demo

test: .venv/library .venv/test ## Run the fast tests against the installed library (what CI runs)
	@$(PYTEST) $(PARALLEL)

check: .venv/library .venv/dev ## Format, lint, types and all tests but the learning ones: documents, examples, faults
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) $(PARALLEL) -m "not learn"

format: .venv/dev ## Rewrite the source files in the project's format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

learn: .venv/library .venv/test ## Train every algorithm until it has learned something (long)
	@echo "Learning tests, then every algorithm on: $(LEARN)"
	@$(PYTEST) -m learn || [ $$? -eq 5 ]  # 5: there are none
	@echo "== plain defaults on photographs"; .venv/bin/python benchmarks/plain_defaults.py --table
	@for data in $(LEARN); do echo "== $$data"; .venv/bin/python benchmarks/learning.py --data "$$data" || exit 1; done
	@echo "== benchmarks/learning_adapt.py"; .venv/bin/python benchmarks/learning_adapt.py

bench: .venv/library ## Run every speed benchmark (one to two hours), then build/benchmarks/benchmarks.md
	@for script in $(BENCHMARKS); do echo "== $$script"; .venv/bin/python "$$script" || exit 1; done
	@echo "== where the time of a step goes"; .venv/bin/python benchmarks/end_to_end.py --profile
	@echo "== benchmarks/time_to_accuracy.py"; .venv/bin/python benchmarks/time_to_accuracy.py
	@.venv/bin/python benchmarks/report.py

gpu-check: .venv/library .venv/test ## On a machine with a GPU: precision, compilation, resume, several devices, images/s
	@$(PYTEST) -m gpu -v
	@.venv/bin/python benchmarks/gpu.py --compile

clean: ## Remove .venv and everything that was built; trained weights stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, from the outside in: .venv, dependencies, the library as a wheel, test tools, developer tools.

.venv/created:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no $(PYTHON). Install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, $(PYTHON) is `"$(PYTHON)" --version`. Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Creating .venv"
	@"$(PYTHON)" -m venv --clear .venv
	@touch $@

# What was built goes first: setuptools would pack files that have been deleted since. Results of benchmarks stay.
build/wheel/built: pyproject.toml MANIFEST.in README.md LICENSE $(SOURCES) | .venv/created
	@echo "Building the library"
	@rm -rf build/lib build/bdist.* build/wheel *.egg-info
	@$(PIP) wheel . --no-deps --wheel-dir build/wheel
	@touch $@

# .venv/incomplete is there while pip works: found at the start, it tells of half-installed packages.
.venv/dependencies: pyproject.toml | build/wheel/built
	@if [ -e .venv/incomplete ]; then "$(PYTHON)" -m venv --clear .venv && touch .venv/created; fi
	@touch .venv/incomplete
	@echo "Installing the dependencies (some minutes the first time)"
	@if [ -n "$(TORCH_INDEX)" ]; then $(INSTALL) --index-url "$(TORCH_INDEX)" torch torchvision; fi
	@$(INSTALL) $(WHEEL)
	@rm .venv/incomplete
	@touch $@

.venv/library: build/wheel/built .venv/dependencies
	@$(INSTALL) --force-reinstall --no-deps $(WHEEL)
	@touch $@

.venv/test .venv/dev: pyproject.toml | .venv/library
	@echo "Installing the tools for make $(if $(filter %dev,$@),check,test)"
	@for wheel in $(WHEEL); do $(INSTALL) "$$wheel[$(@F)]" || exit 1; done
	@touch $@
