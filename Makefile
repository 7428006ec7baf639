# policyfs: `make demo` shows it, `make test` checks it. Everything is set up on the way.
# Needs root for what mounts; see docs/testing.md for what runs where.

SHELL := /bin/sh
PY := .venv/bin/python

# A thousand processes import the same modules here: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

BRIDGE_SOURCES := setup.py $(wildcard policyfs/kernel/*.c policyfs/kernel/*.h)
STAMP := .venv/.stamp-installed

.PHONY: help demo demo-shell test lint checks soak sanitize fuzz bench setup packages-demo packages-test packages-soak packages-bench man docs lock clean test-debian13

help:
	@echo "make demo        who sees what of a small store, in one screen"
	@echo "make demo-shell  the same store, left mounted for you to look around"
	@echo "make test        set-up, lint, types, import contract, every test (about 18 minutes on two CPUs)"
	@echo "make test-debian13  set-up, doctor, demo and every test in a root of Debian 13 (docs/debian13.md)"
	@echo "make soak        the long counts (some hours)"
	@echo "make sanitize    tests of the C bridge with AddressSanitizer and UBSan in it (ten minutes)"
	@echo "make fuzz        the locators under a coverage-guided fuzzer, ten minutes for each kind of file"
	@echo "make bench       the figures of docs/performance.md"
	@echo "make lint        ruff, mypy and the import contract alone"
	@echo "make man         manual pages and completions, after a change of the command line or the policy language"
	@echo "make docs        docs/modules.md, the schema and the tables of redaction, after one of them changed"
	@echo "make setup       system packages, .venv, the C bridge"

# The stamp is newer than the lock file, the metadata and the C sources once all is installed.
$(STAMP): requirements.lock pyproject.toml $(BRIDGE_SOURCES) packaging/setup/venv.sh
	@packaging/setup/venv.sh
	@touch $@

packages-demo:
	@packaging/setup/packages.sh demo

packages-test:
	@packaging/setup/packages.sh test

packages-soak:
	@packaging/setup/packages.sh soak

packages-bench:
	@packaging/setup/packages.sh bench

# Packages come before the environment: its set-up compiles C.
setup: packages-test
	@$(MAKE) -s $(STAMP)

demo: packages-demo
	@$(MAKE) -s $(STAMP)
	@PYTHONPATH=. $(PY) packaging/demo/demo.py

demo-shell: packages-demo
	@$(MAKE) -s $(STAMP)
	@PYTHONPATH=. $(PY) packaging/demo/demo.py --shell

lint: setup
	@$(MAKE) -s checks

checks:
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

# Every process that runs tests would compile them anew, with their assertions: this one does it for all.
COMPILED := .venv/.stamp-compiled
$(COMPILED): $(STAMP) $(shell find tests -name '*.py')
	@$(PY) -m pytest -p no:cacheprovider --collect-only -q >/dev/null 2>&1 || true
	@touch $@

# How many tests run at the same time.
JOBS ?= 3
SIDE_BY_SIDE := $(PY) -m pytest -q -n $(JOBS) --dist worksteal

# What failed beside others and passes alone failed by the load; tests/support/machine/second_try.py says what may.
AGAIN := [ $$? -eq 1 ] && $(PY) -m pytest -q -rN --last-failed --last-failed-no-failures none --second-try

# Files that may have tests marked alone: the others need not even be imported. tests/conftest.py holds to it.
ALONE = $(shell grep -rl 'pytest\.mark\.alone' tests --include='test_*.py')

# These tests fork all the time. A process that knows the others, too, is thrice as large, and each fork as dear.
FORKING := tests/attack tests/faults tests/mount tests/posix

test: setup
	@$(MAKE) -s -j 2 checks $(COMPILED)
	@$(PY) -m pytest -q -m "alone and not soak" $(ALONE) || { $(AGAIN); }
	@$(SIDE_BY_SIDE) -m "not soak and not alone" $(FORKING) || { $(AGAIN); }
	@$(SIDE_BY_SIDE) -m "not soak and not alone" $(addprefix --ignore=,$(FORKING)) || { $(AGAIN); }

# TESTS: some of them instead of all. ROOT: a directory to build it in and to keep. SUITE: another release.
SUITE ?= trixie

test-debian13:
	@packaging/setup/packages.sh debian13
	@python3 -m tests.debian13 --suite $(SUITE) --jobs $(JOBS) $(if $(ROOT),--root $(ROOT)) $(TESTS)

LONG := POLICYFS_SOAK=1 POLICYFS_CASES=200000
soak: packages-soak setup
	@$(LONG) $(SIDE_BY_SIDE) -m "not alone" --timeout=3600
	@$(LONG) $(PY) -m pytest -q -m alone --timeout=3600 $(ALONE)

sanitize: setup
	@$(PY) -m tests.sanitize

# Seconds for each kind of file that has a locator.
SECONDS ?= 600

fuzz: setup
	@$(PY) -m tests.fuzz --seconds $(SECONDS)

bench: packages-bench
	@$(MAKE) -s $(STAMP)
	@$(PY) -m tests.bench
	@$(PY) -m tests.bench.comparison

docs:
	@$(PY) packaging/docs/modules.py
	@PYTHONPATH=. $(PY) -m policyfs.cli.main policy schema > policies/policyfs.schema.json
	@PYTHONPATH=. $(PY) -m policyfs.cli.main audit schema > policies/policyfs-trail.schema.json
	@POLICYFS_UPDATE_GOLDEN=1 $(PY) -m pytest -q tests/unit/test_redact_parts.py >/dev/null || true

man:
	@PYTHONPATH=. $(PY) packaging/man/generate.py
	@PYTHONPATH=. $(PY) packaging/completion/generate.py

lock:
	@uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock

clean:
	rm -rf .venv build dist *.egg-info policyfs/kernel/*.so
