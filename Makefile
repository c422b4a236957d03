# What a developer needs, from a fresh clone with Python 3.11 or newer and make. `make help` lists it.
# Everything is installed into .venv in this folder; `make clean` removes it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Empty: what follows a target on the command line goes here, as in `make demo ARGS="--port 9000"`.
ARGS ?=

# The files of tests are shared out over processes, each with servers of its own: as many as there are processors, since
# with one more some servers get their turn too late. Their order is that of tests/conftest.py.
PROCESSES := $(shell nproc)
PARALLEL := --numprocesses $(PROCESSES) --maxprocesses 5 --dist loadfile --no-loadscope-reorder

# What clients see, whatever is between the gateway and its servers.
HTTP_TESTS := tests/live/test_http.py $(patsubst %,tests/live/test_http_%.py,routes input works outcomes joined crowd)
ONE_WORKER := -k "not gthread and not sync"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Container images like to set it; then each of the hundreds of processes that the tests start compiles the gateway anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(VENV)/.installed-demo ## PostgreSQL with two replicas, a sample shop and the gateway; ARGS="--port 9000"
	@exec $(BIN)/gateway demo $(ARGS)

.PHONY: test
test: $(VENV)/.installed-test ## the tests, but for those that need programs pip does not install; ARGS="-k pool"
	@exec $(BIN)/python -m pytest -m "not system and not chaos" $(PARALLEL) $(ARGS)

.PHONY: test-system
test-system: $(VENV)/.installed-test ## the tests that need such a program (Debian's packages caddy, chromium, curl, haproxy, npm, systemd)
	@exec $(BIN)/python -m pytest -m system $(PARALLEL) $(ARGS)

.PHONY: test-poolers
test-poolers: $(VENV)/.installed-test ## the HTTP tests with PgBouncer in between, in both of its modes; ARGS="-k joined"
	@set -e; for mode in session transaction; do \
	    GATEWAY_TEST_POOLER=$$mode $(BIN)/python -m pytest $(PARALLEL) $(HTTP_TESTS) $(ARGS); done

.PHONY: test-poolers-short
test-poolers-short: $(VENV)/.installed-test ## its short form, as CI runs it: one kind of worker, and half of them a mode
	@GATEWAY_TEST_POOLER=transaction $(BIN)/python -m pytest $(PARALLEL) $(ONE_WORKER) $(HTTP_TESTS)
	@GATEWAY_TEST_POOLER=session $(BIN)/python -m pytest $(ONE_WORKER) $(firstword $(HTTP_TESTS))

.PHONY: chaos
chaos: $(VENV)/.installed-test ## what clients notice while servers and networks break, into docs/measured.md; ARGS="--only failover --times 20"
	@exec $(BIN)/python -m tests.chaos --save $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed-test ## format, lint, types, import contracts, openapi.yaml
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/openapi-spec-validator openapi.yaml

# Two parts at a time, as each of them waits a lot. Beside what breaks servers, and has limits for how long they may be
# missed, goes what has none, as far as that leaves it time.
IDLY := chrt --idle 0

.PHONY: check
check: $(VENV)/.installed-test ## all that CI runs
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target chaos-short apart
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target PROCESSES=2 test-system test-poolers-short ARGS=--ignore=tests/image
	@$(MAKE) --no-print-directory test

.PHONY: apart
apart: $(VENV)/.installed-test
	@$(IDLY) $(MAKE) --no-print-directory lint
	@$(IDLY) $(BIN)/python -m pytest -m system tests/image

.PHONY: chaos-short
chaos-short: $(VENV)/.installed-test ## its short form, as CI runs it: some four minutes
	@exec $(BIN)/python -m tests.chaos --short --again 2

.PHONY: soak
soak: $(VENV)/.installed-test ## ten minutes of load with random faults: nothing may grow; ARGS="--seconds 3600 --save"
	@exec $(BIN)/python -m tests.soak $(ARGS)

.PHONY: soak-short
soak-short: $(VENV)/.installed-test ## its short form: 40 seconds
	@exec $(BIN)/python -m tests.soak --seconds 40

.PHONY: bench
bench: $(VENV)/.installed-test ## requests a second, next to other programs', into docs/measured.md; needs wrk; ARGS="--rounds 7"
	@exec $(BIN)/python -m tests.bench --save $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.installed-test ## input that means harm to everything that reads input; ARGS="--seed 7 --only heads"
	@exec $(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: pictures
pictures: $(VENV)/.installed-test ## take the pictures of the status page in docs/ (needs Debian's package chromium)
	@exec $(BIN)/python -m tests.pictures

.PHONY: vendored
vendored: ## fetch the newest Swagger UI and uPlot into gateway/web/static (needs npm)
	@exec sh gateway/web/static/refresh.sh

.PHONY: clean
clean: ## remove .venv and what the tools left
	rm -rf $(VENV) .bench .fuzz build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find gateway tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: touched last, so that an installation that broke off is begun again, and a second run installs nothing.

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	    echo "$(PYTHON) is not here. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$$($(PYTHON) -V 2>&1) is too old. Install Python 3.11 or newer, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$($(PYTHON) -V 2>&1) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	@echo "Installing the gateway and an embedded PostgreSQL into $(VENV) (half a minute with a good connection)"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.created pyproject.toml
	@echo "Installing the gateway, an embedded PostgreSQL and the test tools into $(VENV) (a minute with a good connection)"
	@$(PIP) --editable '.[demo,test]'
	@touch $@ $(VENV)/.installed-demo
