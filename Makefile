# Consent Gateway. `make demo` and `make test` install all they need into this folder and ask nothing.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
LEDGER ?= embedded

.PHONY: help setup demo run sandbox test test-all test-postgres screenshots messages check bench lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

setup: .venv/product .venv/dev ## the environment, in .venv

.venv/product: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; PYTHON=... names one."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing what the product needs (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/dev: requirements-dev.lock .venv/product
	@echo "Installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/product ## the whole story on this terminal, then the portal on localhost
	@LEDGER=$(LEDGER) $(MANAGE) demo

sandbox: .venv/product ## twelve synthetic patients for AI engineers, a clock to move ahead, faults to switch on
	@$(MANAGE) sandbox up

run: .venv/product ## an installation that keeps its data, in var/
	@$(MANAGE) run

test: .venv/dev ## the tests; needs nothing else
	@$(BIN)/python -m pytest -m "not exhaustive" -n 2 --dist loadfile

test-all: .venv/dev ## the tests, with the whole product of cases
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-postgres: .venv/dev ## the tests on a real PostgreSQL
	@$(BIN)/python tests/on_postgres.py -m "not exhaustive" -n 2 --dist loadfile

screenshots: .venv/dev ## a picture of each page in each state, in screenshots/
	@rm -rf screenshots; mkdir screenshots
	@SCREENSHOTS=screenshots $(BIN)/python -m pytest -m browser -n 2 --dist loadfile tests/browser
	@echo "screenshots/ has $$(ls screenshots | wc -l) pictures"

messages: .venv/dev ## collect what is to be translated, and compile the catalogues
	@$(BIN)/python -m deploy.messages

check: .venv/dev ## formatting, lint, types, layers, security, migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r ledger consent gateway
	$(MANAGE) makemigrations --check --dry-run
	$(MANAGE) check --fail-level WARNING

bench: .venv/dev ## the product beside its peers and its limits
	@$(MANAGE) bench

lock: .venv/dev ## resolve pyproject.toml into the lock files again (needs uv)
	uv pip compile -q --universal --generate-hashes --no-annotate --no-header pyproject.toml -o requirements.lock
	uv pip compile -q --universal --generate-hashes --no-annotate --no-header --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment and the local installation
	rm -rf .venv var
