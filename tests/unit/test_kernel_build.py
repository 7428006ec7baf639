"""Building what is in C: without warnings, and with advice where something is missing."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import sysconfig
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "policyfs").rglob("_*.c"))
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "policyfs").rglob("_*.h"))


@functools.cache
def fuse_flags():
    return run("pkg-config", "--cflags", "fuse3").stdout.split()


ROOMS = ("wire", "memory", "table", "store", "answers", "queue", "device", "door")
"""The rooms of the bridge. A room includes and calls only those above it (docs/architecture/vectors.md)."""
KERNEL = "policyfs/kernel"
INCLUDES = (f"-I{KERNEL}", f"-isystem{sysconfig.get_path('include')}")


def room_of(path: str) -> int:
    return ROOMS.index(path.split("/")[-2])


def test_the_rooms_of_the_bridge_include_none_below():
    files = [path for path in SOURCES + HEADERS if path.startswith(KERNEL)]
    included = [
        (path, name) for path in files for name in re.findall(r'#include "(.*?)"', (ROOT / path).read_text())
    ]
    assert len(included) > len(files)
    assert [one for one in included if room_of(one[1]) > room_of(one[0])] == []


def test_the_rooms_of_the_bridge_call_none_below_and_no_circle(tmp_path):
    symbols = {}
    for source in (path for path in SOURCES if path.startswith(KERNEL)):
        made = tmp_path / f"{Path(source).stem}.o"
        done = run("gcc", "-O0", "-std=gnu11", "-c", "-o", str(made), *INCLUDES, *fuse_flags(), source)
        assert done.returncode == 0, done.stderr
        symbols[source] = run("nm", "-P", str(made)).stdout.splitlines()
    named = [(part, *line.split()[:2]) for part, lines in symbols.items() for line in lines]
    defined = {name: part for part, name, kind in named if kind in "TDBCR"}
    calls = {(part, defined[name]) for part, name, kind in named if kind == "U" and name in defined}
    assert [(one, other) for one, other in calls if room_of(other) > room_of(one)] == []
    graph = {part: {other for one, other in calls if one == part and other != part} for part in symbols}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("optimisation", ["-O2", pytest.param("-O0", marks=pytest.mark.soak)])
def test_c_compiles_without_a_warning(optimisation, source):
    strict = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    done = run("gcc", optimisation, "-c", "-o", "/dev/null", *strict, *INCLUDES, *fuse_flags(), source)
    assert (done.returncode, done.stderr) == (0, "")


def test_lint_compiles_with_the_headers_of_python_3_13(tmp_path):
    source = tmp_path / "hash.c"
    source.write_text("""
        #include <Python.h>
        #if PY_VERSION_HEX < 0x030d0000 || PY_VERSION_HEX >= 0x030e0000
        #error "another Python"
        #endif
        Py_hash_t hash_of(const void *bytes) { return _Py_HashBytes(bytes, 1); }
        """)
    done = run("python3", "-m", "tests.debian13.headers", str(source))
    assert done.returncode == 1
    assert re.findall("error: (.*?) ‘", done.stderr) == ["implicit declaration of function"]


def test_c_uses_no_private_name_of_python():
    """A later Python may take such a name away: 3.13 did so with the hash of bytes, and nothing compiled."""
    codes = {
        source: re.sub(r"/\*.*?\*/", "", (ROOT / source).read_text(), flags=re.DOTALL)
        for source in SOURCES + HEADERS
    }
    assert {source: found for source, code in codes.items() if (found := re.findall(r"\b_Py\w+", code))} == {}


@pytest.mark.parametrize(
    ("environment", "missing"),
    [({"PATH": "/nowhere"}, "pkg-config"), ({"PKG_CONFIG_LIBDIR": "/nowhere"}, "headers of libfuse 3.14")],
)
def test_what_is_missing_is_named_with_the_packages_to_install(environment, missing):
    done = run(sys.executable, "setup.py", "--name", **environment)
    assert done.returncode == 1
    assert missing in done.stderr
    assert "apt install gcc pkg-config libfuse3-dev python3-dev" in done.stderr


def test_a_confined_daemon_has_what_ends_a_thread() -> None:
    """For a thread's pthread_exit(3) glibc loads the unwinder, and aborts if it may not. Python ends so the
    threads that wait for it at its own end."""
    code = "import policyfs.kernel.bridge; print('/libgcc_s.so' in open('/proc/self/maps').read())"
    assert run(sys.executable, "-c", code).stdout == "True\n"
