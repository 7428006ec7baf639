"""The access to a library that a systemd service has now: by its unit's settings, and tried as its user."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from policyfs.errors import PolicyfsError
from policyfs.linux.child import answer_of
from policyfs.linux.confinement.identity import become
from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.services import services

_LISTS: Final = (
    "SupplementaryGroups", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths",
    "BindReadOnlyPaths", "TemporaryFileSystem",
)  # fmt: skip
_WORDS: Final = ("User", "Group", "DynamicUser", "ProtectSystem", "ProtectHome")
_HOMES: Final = ("/home", "/root", "/run/user")
_BOOTED: Final = "/run/systemd/system"
_MOST_NAMES: Final = 20_000
_MOST_S: Final = 30.0


class Bind(NamedTuple):
    """A directory of the machine that a unit has at another path."""

    target: str
    source: str
    read_only: bool


class UnitRights(NamedTuple):
    """The access of a unit. shares: paths in the library; True if it can write something there. read_only:
    True if the unit's settings keep it from every change. binds: of BindPaths= and BindReadOnlyPaths=.
    hidden: True if it does not have the library at the library's own path."""

    shares: dict[str, bool]
    read_only: bool = False
    binds: tuple[Bind, ...] = ()
    hidden: bool = False


def rights_of(unit: str, store: str) -> UnitRights:
    """Return the access of a service. shares is empty if it has none. Raises PolicyfsError.

    Modes and ACLs of the library count in the mount, too (posix). So what is too much to look at is taken as
    writable.
    """
    settings = _settings(unit)
    binds = tuple(_binds(settings))
    state = _state(settings, store)
    below = [one for one in binds if f"{one.source}/".startswith(f"{store}/")]
    if state is None and not below:
        return UnitRights({})
    if state is None and all(one.source != store for one in below):
        shares = {one.source.removeprefix(store): not one.read_only for one in below}
        return UnitRights(shares, binds=binds, hidden=True)
    answer = answer_of(lambda: json.dumps(_tried(settings, store)).encode(), timeout_s=_MOST_S)
    if answer == b"":
        raise PolicyfsError(f"what {unit} may do in {store} cannot be tried: its user cannot be taken")
    shares = {path: bool(write) for path, write in json.loads(answer or '{"/": true}').items()}
    is_fixed = state != "rw" and all(one.read_only for one in binds if one.source == store)
    if is_fixed:
        free = [path for path in settings["ReadWritePaths"] if path.startswith(f"{store}/")]
        shares = dict.fromkeys(shares, False) | {path.removeprefix(store): True for path in free}
    return UnitRights(shares, state != "rw", binds, hidden=state is None)


def _settings(unit: str) -> dict[str, list[str]]:
    """Return settings of a unit: as systemd knows them, or only the user if it does not run here."""
    found: dict[str, list[str]] = {key: [] for key in (*_WORDS, *_LISTS)}
    tool = program("systemctl")
    if tool and os.path.isdir(_BOOTED):
        words = [tool, "show", f"--property={','.join(found)}", "--", unit]
        done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=False)
        for key, _, value in (line.partition("=") for line in done.stdout.splitlines()):
            if key in found:
                found[key] = value.split()
    else:
        found["User"] = [one.user for one in services() if one.name == unit and one.user]
    for key in _LISTS:
        found[key] = [word.lstrip("-+") for word in found[key]]
    return found


def _binds(settings: Mapping[str, list[str]]) -> Iterator[Bind]:
    for key in ("BindPaths", "BindReadOnlyPaths"):
        for text in settings[key]:
            source, target, *_ = [*text.split(":"), ""]
            yield Bind(target or source, os.path.realpath(source), key == "BindReadOnlyPaths")


def _state(settings: Mapping[str, list[str]], store: str) -> str | None:
    """Return ``rw`` or ``ro`` for what a unit's settings make of a path; None if they take it away. The
    longest path above it counts."""
    states: dict[str, str | None] = {"/": "ro" if settings["ProtectSystem"] == ["strict"] else "rw"}
    homes = " ".join(settings["ProtectHome"])
    if homes not in {"", "no"}:
        states |= dict.fromkeys(_HOMES, "ro" if homes == "read-only" else None)
    for key, state in (("ReadWritePaths", "rw"), ("ReadOnlyPaths", "ro"), ("InaccessiblePaths", None)):
        states |= dict.fromkeys(settings[key], state)
    states |= dict.fromkeys((one.partition(":")[0] for one in settings["TemporaryFileSystem"]), None)
    above = [path for path in states if f"{store}/".startswith(f"{path.rstrip('/')}/")]
    return states[max(above, key=len)]


def _tried(settings: Mapping[str, list[str]], store: str) -> dict[str, bool]:
    """Become the user of a unit, and return its shares. Runs in a child."""
    _become(settings)
    if not os.access(store, os.R_OK | os.X_OK):
        return {}
    shares = {"/": os.access(store, os.W_OK)}
    if shares["/"]:
        return shares
    for entry in sorted(os.scandir(store), key=lambda one: one.name):
        if not entry.is_symlink() and _writes(entry.path):
            shares[f"/{entry.name}"] = True
    return shares


def _become(settings: Mapping[str, list[str]]) -> None:
    name = (settings["User"] or [""])[0]
    if settings["DynamicUser"] == ["yes"] and not name:
        name = "nobody"
    if os.geteuid() != 0 or not name or name in {"root", "0"}:
        return
    user = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    gids = [_gid(one) for one in settings["Group"][:1]] or [user.pw_gid]
    more = [_gid(one) for one in settings["SupplementaryGroups"]]
    become(user.pw_uid, gids[0], {*os.getgrouplist(user.pw_name, gids[0]), *more})


def _gid(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _writes(top: str) -> bool:
    """Return True if this process may write something at or below a path, or if there is too much to look."""
    todo, names = [top], 0
    while todo:
        path = todo.pop()
        if os.access(path, os.W_OK):
            return True
        if not os.path.isdir(path) or not os.access(path, os.R_OK | os.X_OK):
            continue
        for entry in os.scandir(path):
            names += 1
            if not entry.is_symlink():
                todo.append(entry.path)
        if names > _MOST_NAMES:
            return True
    return False
