"""Translation of paths in a store, or in a container, to paths in mounts, which alone a trail has."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from policyfs.cli.site.own_units import known_sites
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.record import Record
from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.query.expression import And, Expression, Not, Or, Term, Value, all_of, any_of
from policyfs.trail.query.query import compile_glob

MOUNTS: Final = frozenset({"mount"})
_STATUS_S: Final = 2.0


class StorePaths:
    """The directories that the mounts of a trail show: stores, mountpoints, and the targets of sites."""

    def __init__(self, trail: IndexedTrail) -> None:
        self._trail = trail
        self._stores: dict[str, set[str]] = {}
        self._tops: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        """The paths in mounts of directories, by the store, and the mountpoint if others have them not."""

    @property
    def stores(self) -> dict[str, set[str]]:
        """The mountpoints of each store: by the trail, by the sites of this machine, and by its daemons if
        the trail does not keep the starts of all mounts any more."""
        if not self._stores:
            kept = []
            for chain in self._trail.chains:
                starts = [item for item in self._trail.own(chain, MOUNTS) if isinstance(item, Record)]
                for item in starts:
                    self._add(option_of(item, "store"), option_of(item, "mountpoint"))
                kept.append(bool(starts))
            with contextlib.suppress(PolicyfsError):  # only root may look for sites
                for path in known_sites():
                    with contextlib.suppress(PolicyfsError):  # `up` tells its errors
                        self._add_site(path)
            for asked in [] if all(kept) else control.runtime_dir().glob("*.sock"):
                with contextlib.suppress(PolicyfsError):
                    status = control.ask(asked, "status", _STATUS_S)
                    self._add(str(status["store"]), str(status["mountpoint"]))
        return self._stores

    def _add(self, store: str, at: str) -> None:
        if store:
            self._stores.setdefault(store, set()).add(at)
            self._tops[store, ""] |= dict.fromkeys(filter(None, (store, at)), "/")

    def _add_site(self, path: str) -> None:
        from policyfs.cli.site.site_document import read_site

        site = read_site(path)
        for mount in site.mounts:
            self._add(site.store, mount.at)
            found = {target: one.path for target, one in mount.targets.items()}
            self._tops[site.store, mount.at] |= found | dict.fromkeys(mount.places, "/")

    def find(self, glob: str) -> set[tuple[str, str]]:
        """Return the stores, and the globs in their mounts, for which an absolute glob may stand: several, if
        a store is in another one, or services have different directories at a path. Of the directories of one
        mount, only the innermost counts."""
        names, found = _names(glob), set[tuple[str, str]]()
        for (store, _), tops in self._tops.items() if self.stores else ():
            below = {top: {*_below(names, _names(quoted(top)))} for top in tops}
            top = max((top for top in tops if below[top]), key=len, default="")
            for rest in below.get(top, ()):
                found.add((store, "/" + "/".join((*_names(quoted(tops[top])), *rest))))
        return found

    def told(self, path: str) -> set[str]:
        """Return the paths in the mounts for which an absolute path may stand, and say so on stderr; the path
        itself if it is in no known directory."""
        found = {(store, plain(inner)) for store, inner in self.find(quoted(path))}
        _tell(path, found)
        return {inner for _, inner in found} or {os.path.normpath("/" + path.lstrip("/"))}

    def translated(self, tree: Expression) -> Expression:
        """Return a query in which each path also stands for those in the mounts of stores."""
        if isinstance(tree, Not):
            return Not(self.translated(tree.part))
        if isinstance(tree, And | Or):
            return type(tree)(tuple(map(self.translated, tree.parts)))
        asked = tree.values if tree.field == "path" else ()
        more = [term for one in asked if one.text.startswith("/") for term in self._in_mounts(one)]
        return any_of(tree, *more) if more else tree

    def _in_mounts(self, value: Value) -> Iterator[Expression]:
        _tell(value.text, found := self.find(value.text))
        for store, inner in sorted(found):
            path = Term("path", (Value(inner, value.literal, value.at),))
            mounts = tuple(Value(at, literal=True) for at in sorted(self.stores[store]) if at)
            if inner != value.text:
                yield all_of(path, Term("mount", mounts)) if mounts else path


def _names(glob: str) -> tuple[str, ...]:
    return tuple(name for name in os.path.normpath(glob).split("/") if name)


def _below(
    glob: tuple[str, ...], top: tuple[str, ...], *, is_first: bool = True
) -> Iterator[tuple[str, ...]]:
    """Yield what is left of a glob's names below a directory. Its first name must be the directory's: a glob
    such as ``/*/x`` is one in mounts."""
    if not top:
        yield glob
    elif is_first:
        yield from _below(glob[1:], top[1:], is_first=False) if glob[:1] == top[:1] else ()
    elif glob[:1] == ("***",) or glob == ("**",):
        yield ("***",)
    elif glob[:1] == ("**",):
        yield from _below(glob[1:], top, is_first=False)
        yield from _below(glob, top[1:], is_first=False)
    elif glob and compile_glob(f"/{glob[0]}").fullmatch(b"/" + os.fsencode(plain(top[0]))):
        yield from _below(glob[1:], top[1:], is_first=False)


def _tell(path: str, found: set[tuple[str, str]]) -> None:
    for store, inner in sorted(found):
        if inner != path:
            told = f"{shown_path(os.fsencode(path))} is {shown_path(os.fsencode(inner))} in the mounts"
            print(f"policyfs: {told} of {shown(store)}", file=sys.stderr)


def option_of(item: object, name: str) -> str:
    """Return a path among the options in a ``mount`` record, or an empty text if the record has none."""
    options = item.fields.get("options") if isinstance(item, Record) else None
    found = options.get(name) if isinstance(options, dict) else None
    return os.path.normpath(found) if isinstance(found, str) else ""


def plain(glob: str) -> str:
    """Return the path that quoted() made a glob of."""
    return re.sub(r"\\(.)", r"\1", glob, flags=re.DOTALL)


def quoted(path: str) -> str:
    """Return the glob that matches this path alone."""
    return "".join("\\" + char if char in "\\*?{}[],()" else char for char in path)
