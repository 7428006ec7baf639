"""Prints the part of the lock file that policyfs needs when it runs: `run_time.py LOCK PYPROJECT`; or that
packages of these names have: `run_time.py LOCK PYPROJECT NAME...`.

The dependencies of each package stand in the metadata that pip fetches, so pip resolves them: what it would
install for pyproject.toml's dependencies, at the versions of the lock file.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path


def entries(lock: str) -> dict[str, str]:
    """The lines of each package in a lock file, by its normal name (PEP 503)."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(==(?:.*\\\n)*.*\n?)", lock, re.MULTILINE)
    return {_normal(name): name + rest for name, rest in found}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def resolved(wanted: list[str], locked: dict[str, str]) -> set[str]:
    """The names of all packages that *wanted* needs, from pip."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as versions:
        versions.writelines(entry.split("\\")[0].rstrip() + "\n" for entry in locked.values())
        versions.flush()
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        command += ["--dry-run", "--ignore-installed", "--report", "-"]
        command += ["--constraint", versions.name, *wanted]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {_normal(item["metadata"]["name"]) for item in report["install"]}


def main() -> None:
    """Command line."""
    lock, project = (Path(name) for name in sys.argv[1:3])
    locked = entries(lock.read_text(encoding="utf-8"))
    wanted = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = set(sys.argv[3:]) or resolved(wanted, locked)
    print("".join(locked[name] for name in sorted(names)), end="")


if __name__ == "__main__":
    main()
