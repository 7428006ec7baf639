#!/bin/sh
# Builds the Debian package of this release from the commit HEAD: `build.sh [DIRECTORY [ARCHITECTURE]]` (dist, this
# machine's). The same commit on the same release gives the same bytes.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "${1:-dist}"
out=$(cd "${1:-dist}" && pwd)
source=$(packaging/version.sh)
# In dpkg's order, too: 0.1.0~a0~deb12, 0.1.0~deb12, 0.1.0~deb13, 0.1.0+1.g0123456789ab~deb12.
version=$(echo "$source" | sed 's/^\([0-9.]*\)a/\1~a/')~deb$(. /etc/os-release && echo "$VERSION_ID")
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/policyfs"
git archive HEAD | tar -x -C "$scratch/policyfs"
cd "$scratch/policyfs"
echo "$source -" >>packaging/releases
cp -r packaging/debian debian
cat >debian/changelog <<END
policyfs ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- The policyfs developers <maintainers@policyfs.invalid>  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
END
dpkg-buildpackage --build=binary --no-sign ${2:+"--host-arch=$2"} >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
}
[ -n "${1:-}" ] || rm -f "$out"/policyfs_*.deb # README installs the package that is there
cp "$scratch"/policyfs_*.deb "$out"
(cd "$out" && ls "policyfs_$version"_*.deb)
