"""Modules, libraries and programs that an app puts where root stands, or where root's variables point."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux.interpreter import program
from tests.support.machine.counts import count
from tests.support.machine.namespace import abort_connection, detach, mounts_below

CHECKOUT: Final = Path(__file__).parents[2]
POLICY: Final = CHECKOUT / "policies/family-photos.yaml"
MODULES: Final = (
    "argparse", "json", "trio", "runpy", "policyfs", "sitecustomize", "usercustomize",
)  # fmt: skip
PROGRAMS: Final = (
    "fusermount3", "fusermount", "ldconfig", "gcc", "cc", "ld", "objdump", "mkdir", "readlink", "dirname",
    "tr", "env", "sh", "python", "python3", "policyfs", "id", "mount", "umount",
)  # fmt: skip
ALWAYS: Final = (
    ("up", "{place}/s.site.yaml"), ("inspect", str(POLICY)), ("doctor",),
    ("unit", "--to", "{place}/units", "{place}/s.site.yaml"),
    ("run", "--policy", str(POLICY), "--app", "gallery", "{store}", "--", "true"),
)  # fmt: skip
"""Those that start other programs, or workers."""
COMMANDS: Final = (
    ("status",), ("reload", "--all"), ("policy", "check", str(POLICY)), ("audit", "search", "-n", "1"),
    ("quarantine", "list", "{store}"), ("owner", "show", "{store}"), ("compose", "{place}/s.site.yaml"),
    ("audit", "follow", "--user", "no-such-user"),
)  # fmt: skip
ENDS: Final = (("down", "{place}/s.site.yaml"), ("umount", "{place}/mnt"))


class Planted:
    """A directory of an app that is full of modules, libraries and programs. log: what of it has run."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.place, self.store = arena, store
        self.log, self.here = arena / "ran", arena / "app"
        self.here.mkdir()
        for name in MODULES:
            (self.here / f"{name}.py").write_text(f"open({str(self.log)!r}, 'a').write('module {name}\\n')\n")
        for name in PROGRAMS:
            (self.here / name).write_text(f"#!/bin/sh\necho program {name} >> {self.log}\n")
            (self.here / name).chmod(0o755)
        source = arena / "library.c"
        source.write_text(
            "#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void ran(void)\n"
            f'{{ write(open("{self.log}", O_WRONLY | O_CREAT | O_APPEND, 0600), "library\\n", 8); }}\n'
        )
        library = self.here / "libmagic.so.1"
        subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
        user = self.here / f".local/lib/python3.{sys.version_info.minor}/site-packages"
        user.mkdir(parents=True)
        (user / "usercustomize.py").write_text((self.here / "usercustomize.py").read_text())
        (arena / "s.site.yaml").write_text(
            "apiVersion: policyfs/v1\nkind: Site\nname: s\n"
            f"store: {store}\npolicy: {POLICY}\ntrail: {arena}/trail\nmounts:\n"
            f"  - {{app: gallery, at: {arena}/gallery}}\n"
        )
        where = str(self.here)
        self.environment = os.environ | {
            "PYTHONPATH": f"{where}:.", "PYTHONHOME": where, "PYTHONSTARTUP": f"{where}/json.py",
            "PYTHONUSERBASE": f"{where}/.local", "HOME": where, "LD_LIBRARY_PATH": where,
            "PATH": f"{where}:{os.environ['PATH']}", "POLICYFS_RUNTIME_DIR": f"{arena}/run",
            "POLICYFS_KEY_DIR": f"{arena}/keys", "POLICYFS_TRAIL_DIR": f"{arena}/trail",
            "POLICYFS_CACHE_DIR": f"{arena}/cache",
        }  # fmt: skip

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.here, env=self.environment, capture_output=True, text=True, timeout=100,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    def ran(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def planted(arena: Path, store: Path) -> Iterator[Planted]:
    yield Planted(arena, store)
    for entry in mounts_below(arena):
        abort_connection(entry.device)
        detach(entry.mountpoint)


def _installed(name: str) -> Path:
    return Path(sys.executable).with_name(name)


@pytest.mark.timeout(150)
def test_nothing_that_was_planted_runs(planted: Planted) -> None:
    """Attack F3.17: Put modules, libraries or programs where root starts policyfs, or where PYTHONPATH,
    PYTHONHOME, HOME, LD_LIBRARY_PATH or PATH of root points
    Guard: policyfs/linux/interpreter.py::interpreter, packaging/bin/policyfs
    Without: ::test_it_would_run
    """
    (planted.place / "mnt").mkdir()
    options = f"policy={POLICY},trail={planted.place}/trail"
    made = planted.run(
        _installed("mount.fuse.policyfs"), planted.store, planted.place / "mnt", "-o", options
    )
    assert made.returncode == 0, made


    def run(words: Sequence[str]) -> None:
        said = [word.format(place=planted.place, store=planted.store) for word in words]
        done = planted.run(_installed("policyfs"), *said)
        assert planted.ran() == "", (words, done)
        if words[0] in {"up", "down", "run", "umount", "unit"}:
            assert done.returncode == 0, done

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, (*ALWAYS, *COMMANDS[: count(1, 8)])))
        list(pool.map(run, ENDS))


LOOKS: Final = ("ldconfig", "gcc", "cc", "ld", "objdump")
"""The programs by which ctypes looks for a library (ctypes.util)."""


@pytest.mark.timeout(150)
def test_no_program_is_asked_for_a_library(planted: Planted) -> None:
    """Nor the system's own, found without PATH: in a mount namespace the planted ones are in their place."""
    (planted.store / "words").write_text("text whose kind a worker asks libmagic for")
    files = {os.path.realpath(path): name for name in LOOKS if (path := program(name))}
    replaced = [("/usr/bin/mount", "--bind", planted.here / name, path) for path, name in files.items()]

    def run(*commands: Sequence[str | Path]) -> str:
        script = "\n".join(shlex.join(map(str, words)) for words in (*replaced, *commands))
        inside = ("/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-uc", script)
        return planted.run(*inside).stdout

    site = planted.place / "s.site.yaml"
    ours = (("up", site), ("doctor",), ("inspect", planted.store / "words"), ("down", site))
    said = run(*((_installed("policyfs"), *words) for words in ours))
    for sign in ("gallery: up", "finds the kind of files", "text/plain", "gallery: down"):
        assert sign in said
    assert planted.ran() == ""
    run((sys.executable, "-I", "-c", "import ctypes.util; ctypes.util.find_library('magic')"))
    assert "program ldconfig\n" in planted.ran()


@pytest.mark.timeout(60)
def test_it_would_run(planted: Planted) -> None:
    """Without isolation: the interpreter by `-m`, a program by PATH, and a library by LD_LIBRARY_PATH."""
    del planted.environment["PYTHONHOME"]
    planted.run(sys.executable, "-c", "import policyfs, json, ctypes.util; ctypes.util.find_library('x')")
    planted.run(sys.executable, "-I", "-c", "import ctypes; ctypes.CDLL('libmagic.so.1')")
    ran = planted.ran().split("\n")
    assert {"module policyfs", "module json", "module sitecustomize", "program gcc", "library"} <= set(ran)
