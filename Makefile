# Requires Python 3.11 or later and make; some targets also need git, a network or root. `make` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# After its Python was removed, the virtual environment is created and filled again.
REMOVED := $(shell [ -x $(BIN)/python ] || rm -f $(VENV)/*.installed)

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop run report superset test cluster containers integrations faults bench bench-cluster dictionary graph lint audit format requirements clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/run.installed ## Run the pipeline on an embedded PostgreSQL and S3, with sample data
	$(BIN)/python main.py --demo

demo-stop: ## Stop the demo's PostgreSQL; its data stays in .local/
	@if [ -e .local/postgres ]; then $(MAKE) --silent $(VENV)/run.installed; fi
	@if [ -e .local/postgres ]; then $(BIN)/python -m etl.local.embedded .local; else echo "No demo has run here"; fi

run: $(VENV)/run.installed ## Run the pipeline with the settings in the environment or .env
	$(BIN)/python main.py

report: $(VENV)/run.installed ## Write reports/lead_quality.html from the warehouse; without settings, from that of the demo
	$(BIN)/python main.py --report

superset: .venv-superset/installed ## Start Superset with the dashboard, on the demo's warehouse or that of PGHOST
	.venv-superset/bin/python integrations/superset/serve.py

test: $(VENV)/dev.installed ## Run all tests but those of the cluster, containers and BI tools, or only TESTS, in four processes
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile $(TESTS)

cluster: $(VENV)/dev.installed ## Test runs on a Dask cluster, whose scheduler and workers fail (three minutes; one test needs root)
	$(BIN)/python -m pytest -m cluster --numprocesses 4 --dist loadfile tests/integration/cluster tests/faults/cluster

containers: $(VENV)/dev.installed ## Test image, compose file and dev container in a separate Docker engine (five minutes; needs root)
	$(BIN)/python -m pytest -m containers tests/containers

integrations: $(VENV)/dev.installed .venv-dbt/installed .venv-superset/installed ## Test gold with JDBC, ODBC, dbt and Superset (four minutes; needs root)
	$(BIN)/python -m pytest -m integrations tests/integrations

faults: $(VENV)/dev.installed ## Run the full fault suite: kills, lost connections, S3 faults (half an hour)
	FAULTS=long $(BIN)/python -m pytest -m "" tests/faults

bench: $(VENV)/run.installed ## Benchmark the pipeline and its peers on two servers (two hours; options in BENCH): docs/performance.md
	$(BIN)/python -m benchmarks.bench --write docs/performance.md $(BENCH)

bench-cluster: $(VENV)/dev.installed ## Benchmark a Dask cluster on this machine (ten minutes): docs/scale.md
	$(BIN)/python -m benchmarks.cluster --write docs/scale.md

dictionary: $(VENV)/run.installed ## Generate docs/data_dictionary.md, img/gold-model.svg and files of integrations/ from an empty warehouse
	$(BIN)/python -m tools.data_dictionary

graph: $(VENV)/run.installed ## Draw img/graph.png, the trend of new high-quality leads, from the sample data
	$(BIN)/python -m tools.trend_graph

lint: $(VENV)/dev.installed ## Check Python with ruff and mypy, SQL with sqlfluff, and files for secrets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --nocolor --disable-progress-bar sql_scripts
	$(BIN)/python .ci/audit.py --only secrets

audit: $(VENV)/dev.installed ## Check dependencies for known vulnerabilities, and files for secrets
	$(BIN)/python .ci/audit.py

format: $(VENV)/dev.installed ## Format Python and SQL, and fix lint findings
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --quiet sql_scripts

requirements: $(VENV)/dev.installed ## Compile requirements*.in into the pinned requirements*.txt
	for name in requirements requirements-dask requirements-dev integrations/requirements-dbt integrations/requirements-superset; do \
		$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --quiet \
			--custom-compile-command "make requirements" --output-file $$name.txt $$name.in || exit; \
	done

clean: demo-stop ## Stop the demo, delete .local/ and the virtual environments
	rm -rf .local $(VENV) .venv-dbt .venv-superset

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is required, $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 …"; exit 1; }
	@find -L $(BIN) -name 'python*' -type l -delete 2>/dev/null || true # links to a Python that was removed
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# --no-compile: most installed modules are never imported, and Python compiles the others at their first import.
$(VENV)/run.installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing the packages of the pipeline into $(VENV): once, a minute or two …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev.installed: requirements-dev.txt requirements-dask.txt $(VENV)/run.installed
	@echo "Installing the packages of the tests …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
		-r requirements-dev.txt -r requirements-dask.txt
	@touch $@

.venv-%/installed: integrations/requirements-%.txt | $(VENV)/dev.installed
	@echo "Installing $* into .venv-$*: once, a minute …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	@$(BIN)/uv pip install --quiet --python .venv-$*/bin/python --requirement $<
	@touch $@
