# `make` alone lists the targets. PYTHON=/path/to/python3.x chooses the Python of the environment.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_SERVING := .venv-peers-serving
WORKERS ?= 2
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test dev serve lint format bench bench-scoring bench-serving clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(READY) ## Set up .venv, or bring it up to date

# pip runs again only when what it reads has changed, or when it did not get to its end.
$(READY): pyproject.toml setup.cfg constraints.txt
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	if ! $(BIN)/python -c "$$fits" 2>/dev/null; then \
		python=; \
		for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
			if "$$candidate" -c "$$fits" 2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "error: no Python 3.11, 3.12 or 3.13 found (tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11));" \
				"install one, or name it: make PYTHON=/path/to/python3.13 venv" >&2; exit 1; \
		fi; \
		echo "Setting up $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV) || { \
			echo "error: $$python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
			exit 1; \
		}; \
	fi; \
	echo "Installing packages into $(VENV)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	touch $@

demo: $(READY) ## Simulate 45 days, run every asset over them, print what was found
	@$(BIN)/batch-assets demo $(ARGS)

test: $(READY) ## Run all tests; ARGS goes to pytest
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

dev: $(READY) ## Open the Dagster UI over the data home
	@$(BIN)/batch-assets dev $(ARGS)

serve: $(READY) ## Serve predictions on http://127.0.0.1:8000
	@$(BIN)/batch-assets serve $(ARGS)

lint: $(READY) ## Style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code and put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure, and write benchmarks/results
	@$(BIN)/python -m benchmarks $(ARGS)

bench-scoring: $(READY) $(PEERS)/.ready ## Measure the scoring engine against Daft, Ray Data, Spark and others
	@$(BIN)/python -m benchmarks.scoring --peers $(PEERS)/bin/python $(ARGS)

bench-serving: $(READY) $(PEERS_SERVING)/.ready ## Measure the server under load against Redis, Feast and LanceDB
	@$(BIN)/python -m benchmarks.serving --peers $(PEERS_SERVING)/bin/python $(ARGS)

$(PEERS)/.ready: benchmarks/scoring/peers.txt
$(PEERS_SERVING)/.ready: benchmarks/serving/peers.txt

# A peer that cannot be installed is left out, and its row says so.
$(PEERS)/.ready $(PEERS_SERVING)/.ready: | $(READY)
	@echo "Installing what ours is compared with into $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@pip="$(@D)/bin/python -m pip install --quiet --disable-pip-version-check"; \
	$$pip -r $< || for package in $$(grep -v '^#' $<); do \
		$$pip "$$package" || echo "warning: $$package cannot be installed" >&2; \
	done; \
	touch $@

clean: ## Remove the environment and what tools left behind; the data home stays
	rm -rf $(VENV) $(PEERS) $(PEERS_SERVING) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +
