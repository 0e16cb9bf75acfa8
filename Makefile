# Everything works from a fresh clone: a target installs what it needs into .venv first.
PYTHON ?= python3
PARTITION ?= mini
UI_PORT ?= 3000
REPORTS_PORT ?= 3001
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)/.dagster
# Where `make dev` serves the reports; `make run` links to it as well.
run dev: export SPARKIFY_REPORTS_URL ?= http://127.0.0.1:$(REPORTS_PORT)
# What Java, Python and Dagster would say about themselves is not news to the user.
export PYTHONWARNINGS := ignore

.DEFAULT_GOAL := help
.PHONY: help run results pictures test dev bench check audit lock clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: .venv/installed ## log to scored users: materialize mini, then print what came out
	@$(BIN)/python -m sparkify_assets --partition $(PARTITION)

results: .venv/installed ## the table of results in README.md, from what is in the lake
	@$(BIN)/python -m sparkify_assets.results

pictures: .venv/installed-dev ## the docs' pictures: of findings in the lake, and of Dagster's UI
	@$(BIN)/python -m sparkify_assets.gallery --partition $(PARTITION)
	@SPARKIFY_PICTURES=docs/pictures $(BIN)/python -m pytest -m picture

dev: .venv/installed ## Dagster's UI on 127.0.0.1:3000, and the reports on 127.0.0.1:3001
	@$(BIN)/python -m sparkify_assets.serve --port $(REPORTS_PORT) --check || { \
		echo "Choose another port: make dev REPORTS_PORT=3002" >&2; exit 2; }
	@$(BIN)/python -m sparkify_assets.serve --port $(REPORTS_PORT) & trap "kill $$! 2>/dev/null" EXIT INT TERM; \
	$(BIN)/dagster dev --host 127.0.0.1 --port $(UI_PORT)

test: .venv/installed-dev ## the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

bench: .venv/installed-dev ## the slow tests and the benchmark tables
	@$(BIN)/python -m pytest -m slow
	@$(BIN)/python -m benchmarks

check: .venv/installed-dev ## style, types and definitions
	@$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/dagster definitions validate

audit: .venv/installed-dev ## known vulnerabilities of the locked dependencies
	@$(BIN)/python .ci/audit.py

lock: .venv/installed-dev ## write the versions that are installed now to requirements.lock
	@$(BIN)/pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools > requirements.lock

clean: ## remove what was installed and computed
	rm -rf .venv lake .dagster/storage .dagster/history .dagster/schedules .dagster/logs

.venv/installed: pyproject.toml requirements.lock
	@sh .ci/install "$(PYTHON)" .
	@touch $@

.venv/installed-dev: pyproject.toml requirements.lock
	@sh .ci/install "$(PYTHON)" '.[dev]'
	@touch $@ .venv/installed
