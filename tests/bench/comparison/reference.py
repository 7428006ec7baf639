"""The C++ reference: libfuse's passthrough_hp, built from Debian's source package of libfuse.

Only for the comparison. Where the source cannot be had, the comparison goes without it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_GET = r"""
set -eu
cd "$1"
mkdir -p lists/partial
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
    sed -n 's/\(.*\) Debian$/deb-src \1/p' | sort -u >sources.list
test -s sources.list
options="-o Dir::Etc::sourcelist=$1/sources.list -o Dir::Etc::sourceparts=/dev/null"
options="$options -o Dir::State::lists=$1/lists -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
apt-get $options update -qq
apt-get $options source -qq --download-only fuse3
mkdir source
tar -xf "$(ls fuse3_*.orig.tar.* | grep -v '[.]asc$')" -C source --strip-components=1
sed -i 's/"default_permissions,/"allow_other,default_permissions,/' source/example/passthrough_hp.cc
grep -q '"allow_other,' source/example/passthrough_hp.cc
g++ -O2 -std=c++17 -o passthrough_hp source/example/passthrough_hp.cc -Isource/include \
    $(pkg-config --cflags --libs fuse3) -pthread
"""


def build(directory: Path, deadline_s: float = 300.0) -> Path | None:
    """Build the program in a directory that is there. None, with a word to the user, if it cannot be."""
    done = subprocess.run(
        ["sh", "-c", _GET, "sh", str(directory)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=deadline_s,
        check=False,
    )
    program = directory / "passthrough_hp"
    if done.returncode != 0 or not program.exists():
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        print("no C++ reference:", " / ".join(said) or f"exit {done.returncode}")
        return None
    return program
