"""Part of `make lint`: compile the C sources against the headers of Debian 13's Python and libfuse.

    python3 -m tests.debian13.headers [SOURCE ...]

apt fetches the two packages once, from the mirror that it uses here, into a cache of the user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.debian13.__main__ import CHECKOUT, Debian13Error, mirror, run

SUITE: Final = "trixie"
PACKAGES: Final = ("libpython3.13-dev", "libfuse3-dev")
KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cached_headers() -> Path:
    """Return the directory with the headers; fetch them if it is not there. Raises Debian13Error."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "policyfs")
    headers = cache / f"{SUITE}-headers"
    if headers.exists():
        return headers
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fetched = _fetch(Path(scratch))
        if not headers.exists():
            fetched.rename(headers)
    return headers


def _fetch(scratch: Path) -> Path:
    """Unpack the headers of the packages below *scratch*. Leave the lists of this machine's apt alone."""
    apt = scratch / "apt"
    for name in ("lists/partial", "archives/partial", "parts"):
        (apt / name).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb [signed-by={KEYS}] {mirror()} {SUITE} main\n", encoding="utf-8")
    settings = {
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": apt / "parts",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    run("apt-get", "-qq", *options, "update")
    run(
        "sh",
        "-c",
        'cd "$1" && shift && exec apt-get -qq "$@"',
        "sh",
        str(scratch),
        *options,
        "download",
        *PACKAGES,
    )
    for package in scratch.glob("*.deb"):
        run("dpkg-deb", "--extract", str(package), str(scratch / "unpacked"))
    return scratch / "unpacked/usr/include"


def compile_sources(headers: Path, sources: list[str]) -> int:
    """Return gcc's exit code."""
    flags = ["-fsyntax-only", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-D_FILE_OFFSET_BITS=64"]
    flags.append(f"-I{CHECKOUT / 'policyfs/kernel'}")
    flags += [f"-isystem{headers / name}" for name in ("", "python3.13", "fuse3")]
    return subprocess.run(["gcc", *flags, *sources], cwd=CHECKOUT, check=False).returncode


def main() -> int:
    """Command line."""
    if shutil.which("apt-get") is None or not Path(KEYS).exists():
        print("tests.debian13.headers: this is no Debian; nothing is compiled for Debian 13", file=sys.stderr)
        return 0
    sources = sys.argv[1:] or [str(path) for path in sorted((CHECKOUT / "policyfs").rglob("_*.c"))]
    try:
        return compile_sources(cached_headers(), sources)
    except Debian13Error as error:
        print(f"tests.debian13.headers: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
