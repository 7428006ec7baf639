#!/bin/sh
# Cross-builds the Debian package for arm64 twice, and runs unit tests with it under qemu-user. For a root of its own,
# in which a clone is the current directory. Nothing is mounted: qemu-user passes on no requests of FUSE.
set -eu
export DEBIAN_FRONTEND=noninteractive
checkout=$PWD
place=/arm64
tests=
for name in redact_jpeg_scan redact_isobmff_stbl policy_globs_automaton; do
    tests="$tests tests/unit/test_$name.py" # of modules in C, and of the engine
done

packaging/setup/packages.sh deb
python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
dpkg --add-architecture arm64
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    crossbuild-essential-arm64 libpython3-dev:arm64 libfuse3-dev:arm64 qemu-user >/dev/null

rm -rf /one /two $place
packaging/debian/build.sh /one arm64 &
packaging/debian/build.sh /two arm64
wait $!
cmp /one/*.deb /two/*.deb
lintian --fail-on error /one/*.deb

mkdir $place
cp -r tests pyproject.toml policies $place
cd $place
apt-get download -qq "$python-minimal:arm64"
dpkg-deb -x "$python"-minimal_*.deb interpreter
dpkg-deb -x /one/*.deb package
libraries=$place/package/usr/lib/policyfs/code/lib/$python/site-packages
cp -r "$libraries/policyfs" .
/usr/bin/python3 "$checkout/packaging/run_time.py" "$checkout/requirements.lock" "$checkout/pyproject.toml" \
    pytest pluggy iniconfig packaging pygments hypothesis sortedcontainers >lock
/usr/bin/python3 -m venv pip
pip/bin/pip install --quiet --target more --no-deps --require-hashes \
    --only-binary=:all: --platform manylinux2014_aarch64 -r lock
PYTHONPATH=$libraries:$place/more
export PYTHONPATH
emulated() {
    qemu-aarch64 "interpreter/usr/bin/$python" "$@"
}
emulated -c 'from policyfs.kernel.bridge import pyfuse3'
emulated -m policyfs.cli.main policy check policies/home-server.yaml
# shellcheck disable=SC2086 # a list of names
emulated -m pytest -c /dev/null --rootdir . -q --noconftest -p no:cacheprovider -W ignore $tests
