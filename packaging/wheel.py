"""Builds dist/policyfs-*.whl and the sdist from the commit HEAD: `wheel.py [DIRECTORY]`.

The wheel carries a list of the libraries it is tested with, from requirements.lock (CycloneDX 1.6, in the
directory that PEP 770 names). Two builds of a commit have the same bytes. Needs .venv (`make setup`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from run_time import entries, resolved  # beside this file

CHECKOUT: Final = Path(__file__).resolve().parents[1]


def bill(lock: str, wanted: list[str], version: str) -> dict[str, object]:
    """Return the list of libraries as a CycloneDX document. lock: the lock file. wanted: the dependencies of
    pyproject.toml."""
    locked = entries(lock)
    components = []
    for name in sorted(resolved(wanted, locked)):
        number = re.match(r"[^=]*==([^\s;\\]+)", locked[name])[1]
        digests = re.findall(r"sha256:(\w+)", locked[name])
        purl = f"pkg:pypi/{name}@{number}"
        components.append({
            "type": "library", "name": name, "version": number, "purl": purl, "bom-ref": purl,
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
        })  # fmt: skip
    digest = hashlib.sha256(lock.encode()).hexdigest()
    serial = "-".join((digest[:8], digest[8:12], "5" + digest[13:16], "8" + digest[17:20], digest[20:32]))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": f"urn:uuid:{serial}",
        "metadata": {"component": {
            "type": "application", "name": "policyfs", "version": version, "bom-ref": "policyfs",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }},
        "components": components,
    }  # fmt: skip


def settle(sdist: Path, stamp: int) -> None:
    """Give all files of an sdist one time and root as their owner: setuptools takes those of the build."""
    with tarfile.open(sdist) as archive:
        files = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        packed = gzip.GzipFile(f"{sdist}.new", "wb", mtime=stamp)
        with packed, tarfile.open(fileobj=packed, mode="w") as new:
            for member, content in sorted(files, key=lambda file: file[0].name):
                member.pax_headers = {}
                member.mtime, member.uid, member.gid, member.uname, member.gname = stamp, 0, 0, "", ""
                new.addfile(member, content)
    os.replace(f"{sdist}.new", sdist)


def main() -> None:
    """Command line."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").absolute()
    stamp = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    # setuptools takes these flags instead of Python's own, which optimise.
    flags = f"{sysconfig.get_config_var('CFLAGS')} -g0"
    environment = os.environ | {"SOURCE_DATE_EPOCH": stamp, "CFLAGS": flags}

    def run(*command: str | Path, cwd: Path) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        subprocess.run(command, cwd=cwd, env=environment, check=True, **quiet)

    with tempfile.TemporaryDirectory() as name:
        source, scratch = Path(name, "policyfs"), Path(name, "wheel")
        out.mkdir(exist_ok=True)
        source.mkdir()
        scratch.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x"], cwd=source, input=archive.stdout, check=True)
        version = subprocess.check_output([CHECKOUT / "packaging/version.sh"], text=True).strip()
        with (source / "packaging/releases").open("a", encoding="utf-8") as releases:
            releases.write(f"{version} -\n")
        build = "from setuptools import build_meta as b; import sys; b.build_sdist(sys.argv[1])"
        run(sys.executable, "-c", build, scratch, cwd=source)
        [sdist] = scratch.glob("*.tar.gz")
        settle(sdist, int(stamp))
        sdist.replace(out / sdist.name)
        pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
        run(*pip, "-w", scratch, source, cwd=source)
        [wheel] = scratch.glob("*.whl")
        run(sys.executable, "-m", "wheel", "unpack", "-d", scratch, wheel, cwd=source)
        [tree] = (path for path in scratch.iterdir() if path.is_dir())
        [info] = tree.glob("*.dist-info")
        project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
        lock = (source / "requirements.lock").read_text("utf-8")
        listed = bill(lock, project["dependencies"], info.name.split("-")[1].removesuffix(".dist"))
        (info / "sboms").mkdir()
        (info / "sboms/policyfs.cdx.json").write_text(json.dumps(listed, indent=1) + "\n", "utf-8")
        run(sys.executable, "-m", "wheel", "pack", "-d", out, tree, cwd=source)


if __name__ == "__main__":
    main()
