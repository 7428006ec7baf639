#!/bin/sh
# Prints the Python interpreter from which venv.sh makes .venv. The system's own comes first: Debian builds it with
# profiles, so that the tests take a tenth less time than with a Python that pyenv has built, and programs of every
# user can start it. The first python3 of PATH comes next, where the system's is too old, or where it lacks venv and
# headers and no apt-get can install them. POLICYFS_PYTHON names another one.
set -eu

new_enough() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null
}

# A Python of its own (pyenv, /usr/local) brings venv and headers; Debian's has them in packages.
complete() {
    "$1" -c 'import ensurepip, os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

system=/usr/bin/python3
first=$(command -v python3 || echo "$system")
if [ -n "${POLICYFS_PYTHON:-}" ]; then
    chosen=$(command -v "$POLICYFS_PYTHON")
elif new_enough "$system" && { complete "$system" || [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
    chosen=$system
else
    chosen=$first
fi

case "${1:-path}" in
path) echo "$chosen" ;;
complete) complete "$chosen" ;;
*)
    echo "usage: python.sh [path|complete]" >&2
    exit 2
    ;;
esac
