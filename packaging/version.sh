#!/bin/sh
# Prints the version of the source: that of the newest tag (v1.2.3), with the commits since. Before the first tag it is
# the version that CHANGELOG.md begins with, and below it in order (0.1.0~SECONDS.gCOMMIT). `git archive` fills in two
# lines, so that a tree without git knows its version, too.
set -eu
cd "$(dirname "$0")/.."
found='$Format:%(describe:tags,abbrev=12,match=v[0-9]*)$'
commit='$Format:%ct.g%H$'
case $commit in
*%*)
    found=$(git describe --tags --abbrev=12 --match 'v[0-9]*' 2>/dev/null) || found=
    commit=$(git log -1 --format=%ct.g%H 2>/dev/null) || commit=0.gnone
    ;;
esac
coming=$(sed -n 's/^## \([0-9.]*\).*/\1/p;T;q' CHANGELOG.md)
found=${found:-$coming~$(echo "$commit" | cut -c 1-24)}
echo "${found#v}" | sed 's/-\([0-9]*\)-g/+\1.g/'
