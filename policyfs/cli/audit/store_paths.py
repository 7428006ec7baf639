"""Translation of paths in a store, or in a container, to paths in mounts, which alone a trail has."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from typing import Final

from policyfs.cli.site.own_units import known_sites
from policyfs.errors import PolicyfsError
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.record import Record
from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.query.expression import And, Expression, Not, Or, Term, Value, all_of, any_of

MOUNTS: Final = frozenset({"mount"})


class StorePaths:
    """The directories that the mounts of a trail show: stores, mountpoints, and the targets of sites."""

    def __init__(self, trail: IndexedTrail) -> None:
        self._trail = trail
        self._stores: dict[str, set[str]] = {}
        self._tops: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)

    @property
    def stores(self) -> dict[str, set[str]]:
        """The mountpoints of each store: by the trail, and by the sites of this machine."""
        if not self._stores:
            for chain in self._trail.chains:
                for item in self._trail.own(chain, MOUNTS):
                    store, at = (option_of(item, name) for name in ("store", "mountpoint"))
                    if store:
                        self._add(store, at)
            sites = list[str]()
            with contextlib.suppress(PolicyfsError):  # only root may look for sites
                sites = known_sites()
            for path in sites:
                with contextlib.suppress(PolicyfsError):  # `up` tells its errors
                    self._add_site(path)
        return self._stores

    def _add(self, store: str, at: str) -> None:
        self._stores.setdefault(store, set()).add(at)
        for top in filter(None, (store, at)):
            self._tops[top].add((store, "/"))

    def _add_site(self, path: str) -> None:
        from policyfs.cli.site.site_document import read_site

        site = read_site(path)
        for mount in site.mounts:
            self._add(site.store, mount.at)
            for target, one in mount.targets.items():
                self._tops[target].add((site.store, one.path))
            for place in mount.places:
                self._tops[place].add((site.store, "/"))

    def find(self, path: str) -> tuple[str, str] | None:
        """Return the store and the path in its mounts of an absolute path or glob; None if it is under no
        known directory, or if services have directories of several paths there."""
        if not self.stores:
            return None
        tops = [top for top in self._tops if f"{path}/".startswith(f"{quoted(top)}/")]
        found = self._tops[max(tops, key=len)] if tops else set()
        if len(found) != 1:
            return None
        ((store, below),) = found
        return store, below.rstrip("/") + path[len(quoted(max(tops, key=len))) :] or "/"

    def told(self, path: str) -> str:
        """Return the path in the mounts, and say so on stderr; *path* if it is one already."""
        store, inner = self.find(path) or ("", path)
        if inner != path:
            told = f"{shown_path(os.fsencode(path))} is {shown_path(os.fsencode(inner))} in the mounts"
            print(f"policyfs: {told} of {shown(store)}", file=sys.stderr)
        return inner

    def translated(self, tree: Expression) -> Expression:
        """Return a query in which each path also stands for that in the mounts of its store."""
        if isinstance(tree, Not):
            return Not(self.translated(tree.part))
        if isinstance(tree, And | Or):
            return type(tree)(tuple(map(self.translated, tree.parts)))
        asked = tree.values if tree.field == "path" else ()
        found = (self._in_mounts(one) for one in asked if one.text.startswith("/"))
        more = [one for one in found if one is not None]
        return any_of(tree, *more) if more else tree

    def _in_mounts(self, value: Value) -> Expression | None:
        inner = self.told(value.text)
        if inner == value.text:
            return None
        store, _ = self.find(value.text) or ("", "")
        path = Term("path", (Value(inner, value.literal, value.at),))
        mounts = tuple(Value(at, literal=True) for at in sorted(self.stores[store]) if at)
        return all_of(path, Term("mount", mounts)) if mounts else path


def option_of(item: object, name: str) -> str:
    """Return a path among the options in a ``mount`` record, or an empty text if the record has none."""
    options = item.fields.get("options") if isinstance(item, Record) else None
    found = options.get(name) if isinstance(options, dict) else None
    return os.path.normpath(found) if isinstance(found, str) else ""


def quoted(path: str) -> str:
    """Return the glob that matches this path alone."""
    return "".join("\\" + char if char in "\\*?{}[],()" else char for char in path)
