# Everything runs inside the virtual environment $(VENV), which `make` creates and keeps up to date by itself.
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
STEPS ?=

VENV_PYTHON := $(VENV)/bin/python
INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := setup.cfg pyproject.toml constraints.txt
TYPECHECK := build/typecheck


.PHONY: help venv demo test lint format check-format type commit-checks clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"sb3_latent needs Python >= 3.10, {sys.executable} is {sys.version.split()[0]}: run make with PYTHON=<a newer one>")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment without pip and venv: install them for $(PYTHON) (Debian, Ubuntu: python3-venv)" >&2; exit 1; }

$(VENV)/.installed-demo: $(PINS) | $(VENV_PYTHON)
	@echo "installing sb3_latent[atari] into $(VENV): a few minutes, once"
	@$(INSTALL) --editable '.[atari]'
	@touch $@

$(VENV)/.installed: $(PINS) | $(VENV_PYTHON)
	@echo "installing sb3_latent[atari,box2d,dmc,report,video,zoo,postgres,dev] into $(VENV): a few minutes, once"
	@$(INSTALL) --editable '.[atari,box2d,dmc,report,video,zoo,postgres,dev]'
	@touch $@ $(VENV)/.installed-demo

venv: $(VENV)/.installed ## create the virtual environment with all that tests and checks need

demo: $(VENV)/.installed-demo ## train PPO + VAE on Atari Breakout, about five minutes (STEPS=... for longer)
	$(VENV_PYTHON) examples/demo.py $(if $(STEPS),--steps $(STEPS))

# Two workers with many threads each would fight over the cores.
test: export OMP_NUM_THREADS = 1
test: venv ## run all tests
	$(VENV_PYTHON) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: venv ## check the code style
	$(VENV_PYTHON) -m ruff check .

format: venv ## sort imports and format the code
	$(VENV_PYTHON) -m ruff check --select I --fix .
	$(VENV_PYTHON) -m ruff format .

check-format: venv ## check that the code is formatted
	$(VENV_PYTHON) -m ruff format --check .

# mypy cannot follow the mapping callbacks/ -> sb3_latent.callbacks of an editable install, so it reads an installed wheel.
# It starts in that folder because mypy prefers the working directory over every other place.
type: venv ## check the types of package, examples and benchmarks
	@rm -rf build
	$(VENV_PYTHON) -m build --no-isolation --outdir build/dist . >/dev/null
	@$(INSTALL) --no-deps --target $(TYPECHECK) build/dist/*.whl
	cd $(TYPECHECK) && $(abspath $(VENV_PYTHON)) -m mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache \
		sb3_latent $(wildcard $(CURDIR)/examples/*.py $(CURDIR)/benchmarks/*.py $(CURDIR)/benchmarks/learn/*.py \
		$(CURDIR)/benchmarks/speed/*.py)

commit-checks: format lint type test ## what to run before a commit

clean: ## remove what the targets wrote, except runs/
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
