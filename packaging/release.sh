#!/bin/sh
# Makes a release with the number and date that CHANGELOG.md begins with, from the commit HEAD: `release.sh PYTHON`.
# All is checked and built in a clone; only if the two builds are alike the commit, which sets the number, comes into
# this repository, and the packages into dist.
set -eu
cd "$(dirname "$0")/.."
python=$1
fail() {
    echo "release.sh: $1" >&2
    exit 1
}

[ -z "$(git status --porcelain)" ] || fail "the work tree has changes: commit or remove them"
entry=$(sed -n '/^## /{p;q}' CHANGELOG.md)
number=$(echo "$entry" | sed -nE 's/^## ([0-9]+\.[0-9]+\.[0-9]+) \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$/\1/p')
[ "$number" ] || fail "CHANGELOG.md begins with '$entry'; write its number and date, such as '## 1.2.3 ($(date +%F))'"
last=$(sed -n '$s/ .*//p' packaging/releases)
dpkg --compare-versions "$number" gt "$(echo "$last" | sed 's/a/~a/')" || fail "$number does not come after $last"
layout=$("$python" -c "
from policyfs.fs.saved.state_memory import READABLE, VERSION
print(VERSION if $(sed -n '$s/.* //p' packaging/releases) in READABLE else '')")
[ "$layout" ] || fail "this code cannot follow a daemon of $last: READABLE in policyfs/fs/saved/state_memory.py"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet . "$scratch/policyfs"
(
    cd "$scratch/policyfs"
    echo "$number $layout" >>packaging/releases
    git -c user.name="$(git -C "$OLDPWD" config user.name)" -c user.email="$(git -C "$OLDPWD" config user.email)" \
        commit --quiet --all --message "release: $number"
    for build in one two; do
        packaging/debian/build.sh "$scratch/$build"
        "$python" packaging/wheel.py "$scratch/$build"
    done
)
diff -r "$scratch/one" "$scratch/two" || fail "two builds differ; nothing was released"
git fetch --quiet "$scratch/policyfs" HEAD
git merge --quiet --ff-only FETCH_HEAD
mkdir -p dist
cp "$scratch"/one/* dist
echo "$number is the commit $(git log -1 --format=%h), and its packages are in dist. It may get a tag:"
echo "    git tag --annotate --message $number v$number"
