#!/bin/sh
# Makes the virtual environment .venv with what requirements.lock names, compiles the C bridge and
# installs policyfs into it (editable). Run from the top of the checkout. What pip says is shown if it fails.
set -eu

if ! python3 -c 'import sys; raise SystemExit(sys.version_info < (3, 11))'; then
    echo "venv.sh: policyfs needs Python 3.11 or newer, this is $(python3 --version 2>&1)" >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

quietly() {
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "venv.sh: this failed: $*" >&2
        exit 1
    fi
}

[ -x .venv/bin/python ] || quietly python3 -m venv .venv
export POLICYFS_STRICT_BUILD=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
echo "installing into .venv, which takes a minute"
quietly .venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
quietly .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
