"""Search a store for near misses: names that differ from a name in a glob only in case or Unicode form."""

from __future__ import annotations

import functools
import json
import os
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from policyfs.policy.globs.paths import DEEP, Glob, parse_glob
from policyfs.policy.model import Effect, Policy, Rule


class NearName(NamedTuple):
    """A name in the store that a rule's glob probably means, but does not match. path: the path of the name
    in the store, below the store's root. missing: True if the store lacks the name that the glob has."""

    rule: Rule
    glob: str
    path: str
    missing: bool

    @property
    def message(self) -> str:
        """A text with both names. Letters outside ASCII are escapes, because forms of a letter look alike."""
        return f"{json.dumps(self.glob)} does not match {json.dumps(self.path)} in the store"


def near_names(policy: Policy, store: str) -> Iterator[NearName]:
    """Yield near misses in the directories before the first wildcard of each glob. If the store also has the
    exact name of an allow, another name does not count."""
    listed = functools.lru_cache(maxsize=4096)(_listed)
    for rule in policy.rules:
        globs = [parse_glob(glob) for glob in rule.paths or ()]
        meant = {literal_names(glob)[:depth] for glob in globs for depth in range(len(glob.segments) + 1)}
        seen: set[str] = set()
        for glob in globs:
            names = literal_names(glob)
            for depth, name in enumerate(names):
                directory = "/".join((store, *names[:depth]))
                same = listed(directory).get(_folded(name), ())
                exact = name in same
                for one in same if not exact or rule.effect is not Effect.ALLOW else ():
                    path = "/" + "/".join((*names[:depth], one))
                    alike = one == name or (rule.ignore_case and _lower(one) == _lower(name))
                    if not alike and path not in seen and (*names[:depth], one) not in meant:
                        seen.add(path)
                        yield NearName(rule, glob.text, path, not exact)
                if not exact:
                    break


def literal_names(glob: Glob) -> tuple[str, ...]:
    """Return the names in a glob before its first wildcard, brace or capture."""
    found: list[str] = []
    for segment in glob.segments:
        if segment is DEEP or len(segment.variants) != 1:
            break
        tokens = segment.variants[0]
        if not all(isinstance(token, str) for token in tokens):
            break
        found.append("".join(map(str, tokens)))
    return tuple(found)


def _listed(directory: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return {}
    for name in names:
        found.setdefault(_folded(name), []).append(name)
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _lower(name: str) -> str:
    """Return a name as `ignore_case` compares it: with lower-case letters in ASCII only."""
    return name.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")
