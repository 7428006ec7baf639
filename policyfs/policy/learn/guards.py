"""Guards: reasons for which a proposed policy never allows a request of the trail: a person must decide."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Final

from policyfs.domain import KIND_EMPTY, Op
from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.globs.paths import MAX_NAME
from policyfs.policy.replay.recorded import Demand, Recorded, demand_of


class Guard(enum.Enum):
    """A reason for which a proposed policy does not allow a request."""

    STRANGER = "the caller is not an app"
    DENIED = "a rule of the recorded policy denies the request"
    TAKEN_AWAY = "the policy in force at the end of the trail does not surely allow the request"
    ELSEWHERE = "the proposal refuses what is also on record as refused, perhaps by another mount"
    EXCEPTION = "only an exception of the recorded policy allows the request"
    PRIVATE = "the file is in a private directory"
    DELETE = "the request deletes or moves a file"
    LINK = "the request gives a file a second name (a hard link)"
    OVERWRITE = "the request changes a file, and this trail does not show that the app created the file"
    RAW = "policyfs cannot clean a file of this kind, and the file may contain a place"
    UNCLEAR = "the trail does not show which access the request asked for"
    NAME = "the path has a name that is too long, or not printable text"
    MANY = "the requests have too many paths to name them all"


PRIVATE_GLOBS: Final = (
    "/**/.*/**",
    "/**/{private,Private,PRIVATE,secret,Secret,secrets,Secrets,vault,Vault}/***",
)
"""Globs of private directories: a proposed policy allows no app to use these directories."""
APP_GLOB: Final = "/Android/{data,obb}/*/***"
OWN_GLOB: Final = "/Android/{data,obb}/{app}/***"
"""Globs. APP_GLOB: the directories of all apps. OWN_GLOB: the directories of the calling app."""

_PRIVATE_NAMES: Final = frozenset(
    ("private", "Private", "PRIVATE", "secret", "Secret", "secrets", "Secrets", "vault", "Vault")
)
_FORBIDDEN: Final = Op.DELETE
_CHANGES: Final = Op.WRITE | Op.ATTR
_NUL: Final = re.compile(r"[\x00-\x1f\x7f]")


def names_of(path: bytes) -> list[str] | None:
    """Return the names of a path, or None if one is too long for a glob, or not printable text."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return None
    if not text.isprintable() or _NUL.search(text):
        return None
    names = [name for name in text.split("/") if name]
    return None if any(len(name) > MAX_NAME for name in names) else names


def is_private(names: Sequence[str], app: str) -> bool:
    """Return True if a path lies in a private directory, or in a directory of another app."""
    if any(name.startswith(".") for name in names[:-1]) or not _PRIVATE_NAMES.isdisjoint(names):
        return True
    return len(names) > 2 and names[0] == "Android" and names[1] in {"data", "obb"} and names[2] != app


def guard_of(
    recorded: Recorded, names: Sequence[str] | None, *, made: bool, raw: bool = False
) -> Guard | None:
    """Return the guard that applies to a request, or None. made: True if the app made this file earlier. raw:
    True if the proposal lets the app read kinds that policyfs cannot clean."""
    demand = demand_of(recorded.operation, recorded.syscall)
    if recorded.app is None:
        return Guard.STRANGER
    if demand is None or len(demand.ops) > 1:
        return Guard.UNCLEAR
    if demand.move:
        return Guard.LINK if demand.move == "link" else Guard.DELETE
    if demand.ops[0] & _FORBIDDEN:
        return Guard.DELETE
    if names is None:
        return Guard.NAME
    if is_private(names, recorded.app):
        return Guard.PRIVATE
    return _of_bytes(recorded, demand, made=made, may_be_raw=raw)


def _of_bytes(recorded: Recorded, demand: Demand, *, made: bool, may_be_raw: bool) -> Guard | None:
    if demand.ops[0] & _CHANGES and not demand.creates and not made:
        return Guard.OVERWRITE
    raw = recorded.kind is not None and recorded.kind not in {KIND_EMPTY, *REDACTABLE_KINDS}
    if raw and not may_be_raw and not made and not demand.creates and demand.ops[0] & Op.READ:
        return Guard.RAW
    return None
