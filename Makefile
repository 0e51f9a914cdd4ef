# Every command of the project. `make` lists them; `make demo` needs nothing but Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The package index of torch, and of torch alone. On Linux, PyPI's torch comes with several GB of CUDA
# libraries; without a GPU, PyTorch's own CPU index spares them:
#   make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
# It reaches the commands through the environment, so that its address is never printed.
TORCH_INDEX ?=
export TORCH_INDEX

# Bytecode is worth its files: without it every start takes seconds longer.
export PYTHONDONTWRITEBYTECODE :=

# The constraints go in as an environment variable because, unlike -c, it also pins the build backend.
# --no-compile: the demo compiles what it imports, in a quarter of the time that all would take.
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install \
	--quiet --quiet --no-compile --prefer-binary
# Torch first, without its dependencies: those come from the ordinary index with all the rest, which then
# finds torch installed and asks no other index for anything.
INSTALL := $(if $(TORCH_INDEX),$(PIP) --no-deps --index-url "$$TORCH_INDEX" "$$(grep '^torch==' constraints.txt)" && )$(PIP) --editable

# Two processes; one that has nothing left to do takes tests of the other.
PYTEST := -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo serve stop deploy install test slow lint bench clean

help: ## List the commands.
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.installed-runtime ## Simulate a scene, turn it into a cube, compare with the truth.
	@$(BIN)/spectile demo

serve: $(VENV)/.installed-runtime ## Start a Prefect server and worker on loopback, with every deployment; PORT=4200.
	@$(BIN)/python -m spectile.flows.deployed.serve start $(if $(PORT),--port $(PORT))

stop: ## End what make serve started.
	@$(BIN)/python -m spectile.flows.deployed.serve stop

deploy: $(VENV)/.installed-runtime ## Make work pools and deployments on the server that PREFECT_API_URL names.
	@$(BIN)/python -m spectile.flows.deployed.serve deploy

install: $(VENV)/.installed-dev ## Make .venv with everything that tests and benchmarks need.

test: install ## Run the tests but the slow ones; SPECTILE_DATA adds the tests on real imagery.
	@$(BIN)/pytest $(PYTEST) -m "not slow"

slow: install ## Run the slow tests alone.
	@$(BIN)/pytest $(PYTEST) -m slow

lint: install ## Check style, types and the import rules.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## Run every benchmark, small; results go to bench-out/. Some need SPECTILE_DATA.
	@failed=; for script in benchmarks/*.py; do \
		echo "$$script"; $(BIN)/python "$$script" || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

clean: ## Remove .venv, caches, build and benchmark results; cubes stay.
	rm -rf $(VENV) build dist bench-out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# The stamps make a second call instant and an edited dependency list take effect.
$(VENV)/.installed-runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing spectile and what it runs on into $(VENV); the first time takes a few minutes"
	@$(INSTALL) .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing spectile and what its tests need into $(VENV); the first time takes a few minutes"
	@$(INSTALL) '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # Some packages carry templates.
	@touch $@ $(VENV)/.installed-runtime
