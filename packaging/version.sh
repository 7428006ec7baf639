#!/bin/sh
# Prints the version of the checkout: that of the newest tag (v1.2.3), with the commits since; before the first tag the
# version that is being made, below it in order.
set -eu
cd "$(dirname "$0")/.."
if found=$(git describe --tags --match 'v[0-9]*' 2>/dev/null); then
    echo "${found#v}" | sed 's/-\([0-9]*\)-g/+\1.g/'
else
    coming=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' policyfs/__init__.py)
    echo "$coming~$(git rev-list --count HEAD).g$(git rev-parse --short=12 HEAD)"
fi
