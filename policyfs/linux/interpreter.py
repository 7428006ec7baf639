"""Python interpreters that policyfs starts, isolated from the directory and the variables of the caller; and
modules that libraries import and policyfs does not use.

Others import modules from the current directory (``-m``) or PYTHONPATH: an app's code, and root would run it.
INVARIANT: no other module of policyfs uses ``sys.executable``, or looks for a program or library by PATH
(tests/unit/test_linux_interpreter.py).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final, NamedTuple

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The directories in which policyfs, and the programs that it starts, look for programs."""
_KEPT: Final = r"POLICYFS_\w+|LC_\w+|LANG|LANGUAGE|TZ|TERM|NO_COLOR|HOME"
_LIBRARIES: Final = {"pthread": "libc.so.6", "magic": "libmagic.so.1"}
"""The libraries that trio and python-magic look for when they are imported."""
UNUSED: Final = ("ssl", "idna", "asyncio", "rich")
"""Modules that trio imports for connections that policyfs does not make, and structlog for another event loop
and for tracebacks in colours."""


class Interpreter(NamedTuple):
    """A command line and the environment to start it with."""

    words: list[str]
    environment: dict[str, str]


def interpreter(module: str, *words: str, path: Sequence[str] | None = None) -> Interpreter:
    """Return the command line that runs a module as a program, in this interpreter's installation.

    The environment has the caller's settings of policyfs, language, time zone and terminal; nothing for
    Python (PYTHON*) or the loader (LD_*). path: directories of modules, instead of those of site-packages;
    then the environment has no settings of the caller, and the interpreter starts faster.
    """
    if path is None:
        return Interpreter([sys.executable, "-I", "-m", module, *words], clean_environment())
    return Interpreter(
        [sys.executable, "-P", "-s", "-S", "-m", module, *words],
        {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(path)},
    )


def clean_environment() -> dict[str, str]:
    """Return the variables of this process that another command of policyfs needs, and a fixed PATH."""
    kept = {name: value for name, value in os.environ.items() if re.fullmatch(_KEPT, name)}
    return kept | {"PATH": PATH}


def own_program() -> str:
    """Return the path of this installation's `policyfs`, or of the link in PATH that leads there: it outlives
    an upgrade. systemd finds bare names in few directories only."""
    beside = os.path.join(os.path.dirname(sys.executable), "policyfs")
    known = program("policyfs")
    if known is not None and (not os.path.exists(beside) or os.path.samefile(known, beside)):
        return known
    return beside if os.path.exists(beside) else "policyfs"


def program(name: str) -> str | None:
    """Return the absolute path of a program, from the directories of PATH (above); None if it is missing."""
    return shutil.which(name, path=PATH)


def load_libraries_by_name() -> None:
    """Make ctypes find libraries without a program. Otherwise trio and python-magic start ldconfig, gcc.

    The module that would find them is never loaded: it imports all that starts programs, in each command."""
    module = ModuleType("ctypes.util")
    module.__dict__["find_library"] = _LIBRARIES.get
    ctypes.__dict__["util"] = sys.modules[module.__name__] = module


class LateModule(ModuleType):
    """A module that is loaded when one of its names is looked up."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system asks for such names of every module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def load_late(*names: str) -> None:
    """Let later imports of these modules load nothing before the first use."""
    for name in names:
        sys.modules.setdefault(name, LateModule(name))
