#!/bin/sh
# Makes the virtual environment .venv with what requirements.lock names, compiles the C bridge and
# installs policyfs into it (editable). Run from the top of the checkout.
set -eu

if ! python3 -c 'import sys; raise SystemExit(sys.version_info < (3, 11))'; then
    echo "venv.sh: policyfs needs Python 3.11 or newer, this is $(python3 --version 2>&1)" >&2
    exit 1
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
pip="env POLICYFS_STRICT_BUILD=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore .venv/bin/python -m pip"
$pip install --quiet --require-hashes -r requirements.lock
$pip install --quiet --no-deps --no-build-isolation --editable .
