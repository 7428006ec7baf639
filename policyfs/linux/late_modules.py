"""Modules that libraries import and policyfs does not use: each is loaded only if it is used after all.

INVARIANT: this package replaces no module that this process has already imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class LateModule(ModuleType):
    """A module that is loaded when one of its names is looked up that was not given to it."""

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


@contextmanager
def stand_in(name: str, **known: object) -> Iterator[None]:
    """Give a module these names, instead of loading it, for imports in the block."""
    if name in sys.modules:
        yield
        return
    module = sys.modules[name] = LateModule(name)
    vars(module).update(known)
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]
