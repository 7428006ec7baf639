#!/bin/sh
# Makes the virtual environment .venv, in two parts: `venv.sh wheels`, then `venv.sh bridge`. Run from the top
# of the checkout. wheels: what requirements.lock names, as far as it is there compiled; needs no compiler, so
# that it may run beside packages.sh. bridge: the rest of the lock file, the C bridge, and policyfs (editable).
# What pip says is shown if it fails.
set -eu

# Locked as sources only: compiling it needs Debian's packages.
sources="pyfuse3"

python=$("$(dirname "$0")/python.sh")
if ! "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))'; then
    echo "venv.sh: policyfs needs Python 3.11 or newer, this is $("$python" --version 2>&1)" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'wait; rm -rf "$scratch"' EXIT

quietly() {
    log=$(mktemp -p "$scratch")
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "venv.sh: this failed: $*" >&2
        exit 1
    fi
}

export POLICYFS_STRICT_BUILD=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
install() {
    quietly .venv/bin/python -m pip install --quiet "$@"
}

case "${1:-}" in
wheels)
    echo "installing into .venv, which takes a minute"
    [ -x .venv/bin/python ] || quietly "$python" -m venv .venv
    awk -v sources="$sources" 'BEGIN { split(sources, names); for (i in names) left_out[names[i]] }
        /^[A-Za-z0-9]/ { split($1, parts, "=="); kept = !(parts[1] in left_out) } kept' requirements.lock >"$scratch/wheels"
    install --require-hashes -r "$scratch/wheels"
    ;;
bridge)
    # Two compilers side by side. Without symbols for a debugger pyfuse3 compiles faster, and what compiles it
    # is used once. setuptools takes CFLAGS instead of Python's own flags, so these stand in it, too.
    (
        own=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))')
        export PIP_NO_COMPILE=1 CFLAGS="${CFLAGS:-$own} -g0"
        install --require-hashes -r requirements.lock
    ) &
    rest=$!
    install --no-deps --no-build-isolation --editable .
    wait "$rest"
    ;;
*)
    echo "usage: venv.sh wheels|bridge" >&2
    exit 2
    ;;
esac
