"""The order of the keys in a policy file in canonical form: that of the fields of the documents.

But in a rule, invariant, exception or test the description comes second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policyfs.policy.cases.document import CaseDoc, ExpectDoc
from policyfs.policy.text.document import FileDoc, Strict
from policyfs.policy.text.shape import CHILDREN

_MODELS: Final = CHILDREN | {(FileDoc, "tests"): CaseDoc, (CaseDoc, "expect"): ExpectDoc}
_NAMED: Final = ("apps", "sets", "path_sets")


def order_of(path: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of a mapping in order; () if they must stay. path: the keys to it, ``*`` for items."""
    if not path:
        return (*_keys(FileDoc), "tests", "accepted")
    model: type[Strict] | None = None if path[0] == "*" or path[-1] in _NAMED else FileDoc
    for key in path:
        if model is not None and key != "*":
            model = _MODELS.get((model, key))
    if model is None:
        return ()
    names = _keys(model)
    if path[-1] == "*" and path[-2] in ITEMS:  # the description of a rule comes before its effect
        names.remove("description")
        names.insert(1, "description")
    return tuple(names)


def _keys(model: type[Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


ITEMS: Final = frozenset(("rules", "invariants", "tests", "exceptions", "accepted"))
"""Keys of lists. Between the items of such a list there is a blank line, and no item is on one line."""
SECTIONS: Final = frozenset(("apps", "sets", "path_sets", "defaults")) | ITEMS
"""Keys of the top level that have a blank line above them."""
OPEN: Final = frozenset(("metadata", *SECTIONS)) - {"defaults"}
"""Keys of the top level whose values are never written on one line."""
GLOBS: Final = frozenset(("paths", "path"))
"""Keys whose values are globs. In files of tests the values are plain paths."""
