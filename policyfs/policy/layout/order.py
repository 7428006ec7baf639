"""The order of the keys in a policy file in canonical form: that of the fields of the documents.

But in a rule, invariant, exception or test the description comes second.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydantic import BaseModel

from policyfs.policy.cases.document import CaseDoc, ExpectDoc
from policyfs.policy.text.document import (
    AppDoc,
    BlockDoc,
    DefaultsDoc,
    ExceptionDoc,
    FileDoc,
    InvariantDoc,
    MetadataDoc,
    RequireDoc,
    RuleDoc,
    WhoDoc,
)

_HEADS: Final[dict[str, type[BaseModel]]] = {
    "rules": RuleDoc, "invariants": InvariantDoc, "exceptions": ExceptionDoc,
    "tests": CaseDoc,
}  # fmt: skip
_INNER: Final[dict[str, type[BaseModel]]] = {
    "who": WhoDoc, "not": WhoDoc, "when": BlockDoc, "unless": BlockDoc, "require": RequireDoc,
    "expect": ExpectDoc,
}  # fmt: skip
_PLAIN: Final[dict[str, type[BaseModel]]] = {"metadata": MetadataDoc, "defaults": DefaultsDoc}


@lru_cache
def _order(model: type[BaseModel], *, head: bool = False) -> tuple[str, ...]:
    names = [field.alias or name for name, field in model.model_fields.items()]
    if head and "description" in names:  # the description of a rule comes before its effect
        names.remove("description")
        names.insert(1, "description")
    return tuple(names)


def order_of(path: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of a mapping in order; () if they must stay. path: the keys to it, ``*`` for items."""
    if not path:
        return (*_order(FileDoc), "tests", "accepted")
    if path[-1] in _INNER:
        return _order(_INNER[path[-1]])
    if path[-1] == "*" and len(path) > 1:
        if path[-2] in _HEADS:
            return _order(_HEADS[path[-2]], head=True)
        if path[-2] in _INNER:
            return _order(_INNER[path[-2]])
        return _order(AppDoc) if path[-2] == "apps" else ()
    return _order(_PLAIN[path[-1]]) if path[-1] in _PLAIN else ()


ITEMS: Final = frozenset(("rules", "invariants", "tests", "exceptions", "accepted"))
"""Keys of lists. Between the items of such a list there is a blank line, and no item is on one line."""
SECTIONS: Final = frozenset(("apps", "sets", "path_sets", "defaults")) | ITEMS
"""Keys of the top level that have a blank line above them."""
OPEN: Final = frozenset(("metadata", *SECTIONS)) - {"defaults"}
"""Keys of the top level whose values are never written on one line."""
GLOBS: Final = frozenset(("paths", "path"))
"""Keys whose values are globs. In files of tests the values are plain paths."""
