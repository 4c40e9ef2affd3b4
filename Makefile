# The commands of the project. Each sets up what it needs by itself.
.PHONY: help setup demo test unit test-full compat bench format clean

# Compose files of well-known projects with what docker compose makes of them; tests/corpus is our own small one.
CORPUS ?= ../shared/compose-corpus

help: ## Show this help.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## Install system packages (as root) and stackctl into .venv.
	@.ci/setup

demo: ## Bring examples/webapp up on the built-in engine and show it (as root).
	@.ci/setup demo
	@examples/demo

test: ## Run every check and test, the real-engine ones included (as root).
	@.ci/setup dev
	@[ "$$(id -u)" = 0 ] || { echo "make test needs root: the real-engine tests make namespaces, mounts and bridges (sudo make test; without root: make unit)" >&2; exit 1; }
	.venv/bin/python -m pytest

unit: ## Run what needs no root.
	@.ci/setup dev
	.venv/bin/python -m pytest -m 'not root and not bench and not long'

test-full: ## Run everything, the long suites too (as root; by hand).
	@.ci/setup full
	.venv/bin/python -m pytest -m 'not bench'

compat: ## Compare config with docker compose's answers (CORPUS=folder of cases).
	@[ -x "$(CORPUS)/check" ] || { echo "no corpus at $(CORPUS): CORPUS=FOLDER says where it is" >&2; exit 1; }
	@.ci/setup dev
	"$(CORPUS)/check" --show 0 --require-location --known tests/compat/compose-corpus.known -- .venv/bin/stackctl

bench: ## Measure; prints numbers, gates nothing (as root).
	@.ci/setup dev
	.venv/bin/python -m pytest -m bench -s tests/bench

format: ## Format and fix what can be fixed.
	@.ci/setup dev
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean: ## Remove what the commands above made here (not images or volumes).
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
