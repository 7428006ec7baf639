"""`make try-deb`: build the Debian package twice in a root of a release, and try it in another, fresh root.

    python3 -m tests.debian13.package [--suite trixie] [--root DIR] [--arm64]

The two builds must have the same bytes, and lintian must report no error. first_try.sh and package.sh have
what is tried, and in Debian 13 first_minutes.sh, with Docker (an older Compose does not replace volumes).
With --arm64 (`make try-arm64`) arm64.sh cross-builds the package for that architecture, and mounts nothing.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.debian13.__main__ import (
    BUILT,
    CHECKOUT,
    PLACE,
    Debian13Error,
    build,
    inside,
    put_checkout,
    root_directory,
    run,
)
from tests.support.samples import jpegs

CLIENTS: Final = Path(__file__).with_name("clients.py")
TRIED: Final = Path(__file__).with_name("package.sh")
TRY: Final = Path(__file__).with_name("first_try.sh")
MINUTES: Final = Path(__file__).with_name("first_minutes.sh")
DOCKERD: Final = CHECKOUT / "tests/support/machine/dockerd.sh"
PIXEL: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcp"
    "LDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAA"
    "AAD/2gAIAQEAAD8AP//Z"
)
"""A JPEG of one pixel; no tool is needed to make it."""
BUILD: Final = """\
packaging/setup/packages.sh deb && rm -rf /one /two \
&& { packaging/debian/build.sh /one & packaging/debian/build.sh /two && wait $!; } \
&& cmp /one/*.deb /two/*.deb && sha256sum /one/*.deb /two/*.deb \
&& lintian --fail-on error /one/*.deb"""
WHEELS: Final = """\
rm -rf /w /wheels /wheels2 && python3 -m venv /w \
&& /w/bin/pip install --quiet setuptools wheel 'cyclonedx-python-lib[json-validation]' \
&& { /w/bin/python packaging/wheel.py /wheels & /w/bin/python packaging/wheel.py /wheels2 && wait $!; } \
&& for file in $(ls /wheels); do cmp /wheels/$file /wheels2/$file || exit 1; done \
&& sha256sum /wheels/* /wheels2/* \
&& /w/bin/python tests/debian13/bill.py /wheels/*.whl requirements.lock"""
NEWER: Final = """\
dpkg-deb --raw-extract /one/*.deb /newer \
&& sed -i 's/^Version: .*/&.1/' /newer/DEBIAN/control \
&& echo '# Other code: a daemon follows only one that has another digest.' \
    >>"$(ls /newer/usr/lib/policyfs/code/lib/python*/site-packages/policyfs/__init__.py)" \
&& rm -rf /old && mv /one /old && mkdir /one && dpkg-deb -Zgzip --build /newer /one/newer.deb >/dev/null \
&& rm -r /newer"""
RELEASED: Final = """\
rm -rf /old /released && git worktree prune && git worktree add --quiet --detach /released {commit} \
&& (cd /released && packaging/setup/packages.sh deb && packaging/debian/build.sh /old)"""


def last_release(checkout: Path) -> str:
    """Return the commit of the newest release before HEAD (packaging/release.sh); empty if there is none."""
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%h", "--grep", "^release: ", "HEAD^"]
    return subprocess.check_output([*command, "--", "packaging/releases"], text=True).strip()


def tried(builder: Path, fresh: Path, suite: str) -> int:
    """Build the packages in one root and try them in the other; returns an exit code."""
    build(fresh, suite)
    if not (builder / BUILT).exists():
        run("cp", "--archive", f"{fresh}/.", str(builder))
    put_checkout(builder)
    if commit := last_release(builder / PLACE):
        print(f"the old package is the release of commit {commit}, the new one is HEAD", flush=True)
    else:
        print("no release is before HEAD: the new package has another number and a comment", flush=True)
    before = RELEASED.format(commit=commit) if commit else NEWER
    if status := inside(builder, f"{BUILD} && {WHEELS} && {before}"):
        return status
    place = fresh / PLACE
    place.mkdir()
    for name, directory in (("old.deb", "old"), ("new.deb", "one")):
        [package] = (builder / directory).glob("*.deb")
        shutil.copy(package, place / name)
    [wheel], [sdist] = (builder / "wheels").glob("*.whl"), (builder / "wheels").glob("*.tar.gz")
    for file in (wheel, sdist, CLIENTS, TRIED, TRY, MINUTES, DOCKERD):
        shutil.copy(file, place)
    photo = jpegs.with_segments(PIXEL, jpegs.exif_segment(jpegs.exif()))
    (place / "photo.jpg").write_bytes(photo)
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), fresh / "etc" / name)
    script = f"sh ./{TRY.name} new.deb && sh ./{TRIED.name} old.deb new.deb *.whl *.tar.gz"
    if suite != "bookworm":
        script += " && rm -rf /srv/media /srv/kept /etc/policyfs /var/l*/policyfs"
        script += f" && sh ./{MINUTES.name} new.deb photo.jpg"
    return inside(fresh, script)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.debian13.package", description="tries packages")
    parser.add_argument("--suite", default="trixie", help="the release, as the mirror names it (trixie)")
    parser.add_argument("--root", metavar="DIR", help="build there, keep the root, use it again")
    parser.add_argument("--arm64", action="store_true", help="the package for arm64, under qemu-user")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("tests.debian13.package: needs root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # the roots are removed
    try:
        if arguments.arm64:
            with root_directory(arguments.root) as builder:
                build(builder, arguments.suite)
                put_checkout(builder)
                return inside(builder, "tests/debian13/arm64.sh")
        with root_directory(arguments.root) as builder, root_directory(None) as fresh:
            return tried(builder, fresh, arguments.suite)
    except (Debian13Error, subprocess.CalledProcessError) as error:
        print(f"tests.debian13.package: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
