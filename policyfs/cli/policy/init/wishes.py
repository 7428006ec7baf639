"""Wishes: the apps that a user wants in a first policy, and the access of each app to directories."""

from __future__ import annotations

import enum
import pwd
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import WORKER_UIDS
from policyfs.errors import UsageError
from policyfs.policy.lint.rights import like_backup
from policyfs.policy.text.values import MAX_UID, RESERVED

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""The names of apps: at most 40 characters. The policy language permits 100, also for the ids of rules and
tests. These ids begin with an app's name, so the name must leave room."""


class Level(enum.Enum):
    """The level of an app's access to a directory."""

    READ = "read"
    ADD = "add"
    EDIT = "edit"


MEANINGS: Final = {
    Level.READ: "see and read all files",
    Level.ADD: "read all files, add new files, and change the files that it added",
    Level.EDIT: "read, add, change and delete all files",
}


@dataclass(slots=True)
class Wish:
    """An app and its access to the store. shares: a level for each directory. whole: True if the app reads
    all files unchanged, like a backup. places: True if the app may know where pictures were taken."""

    name: str
    uid: int | None
    user: str = ""
    shares: dict[str, Level] = field(default_factory=dict)
    whole: bool = False
    places: bool = False

    @property
    def trusted(self) -> bool:
        """True if the app reads files without redaction. An app that edits files must read them without
        redaction, because it writes back the bytes that it has read."""
        return self.whole or self.places or Level.EDIT in self.shares.values()

    @property
    def cleaned_copies(self) -> bool:
        """True if the app looks like a backup or a sync job, but reads pictures without their places."""
        return like_backup(self.name) and not self.trusted

    def dirs(self, level: Level) -> list[str]:
        """Return the directories to which the app has this level of access, sorted."""
        return sorted(name for name, given in self.shares.items() if given is level)


def wish_of(text: str) -> Wish:
    """Return a new wish for an app, without access to any directory. Raises UsageError. text: ``NAME``,
    ``NAME=USER`` or ``NAME=UID``."""
    name, _, user = text.partition("=")
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise UsageError(
            f"{name!r} cannot be an app's name: use at most 40 lower-case letters, digits, dots, dashes and"
            " underscores"
        )
    uid, account = uid_of(user or name)
    if user and uid is None:
        raise UsageError(f"this machine has no user {user!r}; create it, or write a uid: {name}=10011")
    return Wish(name, uid, account)


def uid_of(user: str) -> tuple[int | None, str]:
    """Return the uid and the account name of a user name or number; None, or "", if there is no such account.
    Raises UsageError for root, a uid of policyfs's workers, and a number out of range."""
    if user.isascii() and user.isdigit():
        uid = int(user)
        if uid == 0:
            raise UsageError(f"uid 0 (root) should not be an app: use a uid from 1 to {MAX_UID}")
        if uid > MAX_UID:
            raise UsageError(f"{user} cannot be an app's uid: use a uid from 1 to {MAX_UID}")
        if uid in WORKER_UIDS:
            taken = f"{WORKER_UIDS.start}-{WORKER_UIDS.stop - 1}"
            raise UsageError(f"the uids {taken} belong to the workers of policyfs: use another uid")
        try:
            return uid, pwd.getpwuid(uid).pw_name
        except KeyError:
            return uid, ""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None, ""
    if found.pw_uid == 0:
        raise UsageError("root should not be an app: root can read the store anyway; use another user")
    return found.pw_uid, found.pw_name


def share(wishes: Sequence[Wish], text: str, level: Level, known: Iterable[str]) -> None:
    """Give an app a level of access to directories. Raises UsageError. text: the app and the directories, as
    ``NAME:DIR,DIR``. known: the directories at the top of the store."""
    name, colon, listed = text.partition(":")
    wish = named(wishes, name)
    if not colon or not listed.strip("/ ,"):
        raise UsageError(f"write an app and its directories: --{level.value} {name}:DCIM,Pictures")
    for directory in directories(listed, known):
        before = wish.shares.get(directory)
        if before is not None and before is not level:
            both = f"--{before.value} and --{level.value}"
            raise UsageError(f"{both} give {name} the directory {directory}; keep only one of these options")
        wish.shares[directory] = level


def named(wishes: Sequence[Wish], name: str) -> Wish:
    """Return the wish of the app with this name. Raises UsageError if there is none."""
    for wish in wishes:
        if wish.name == name:
            return wish
    told = ", ".join(wish.name for wish in wishes) or "none"
    raise UsageError(f"there is no app {name!r}; add --app {name} (the apps are: {told})")


def directories(text: str, known: Iterable[str]) -> list[str]:
    """Return the directories in a text such as ``DCIM,Movies``. Raises UsageError if one is not known."""
    there = list(known)
    found = [part.strip().strip("/") for part in text.split(",") if part.strip().strip("/")]
    for name in found:
        if name not in there:
            has = ", ".join(there) or "none"
            raise UsageError(f"the store has no directory {name!r} at its top; it has: {has}")
    return found


def check(wishes: Sequence[Wish]) -> None:
    """Raise UsageError if the wishes are not complete, or contradict each other."""
    if not wishes:
        raise UsageError("name at least one app: --app gallery, or --app gallery=USER")
    uids: dict[int, str] = {}
    for at, wish in enumerate(wishes):
        if any(wish.name == other.name for other in wishes[:at]):
            raise UsageError(f"the app {wish.name} is given twice")
        if wish.uid is not None and wish.uid in uids:
            raise UsageError(
                f"the apps {wish.name} and {uids[wish.uid]} have the same uid, {wish.uid}: give each app its"
                " own uid"
            )
        if wish.uid is not None:
            uids[wish.uid] = wish.name
        if not wish.shares and not wish.whole:
            raise UsageError(
                f"say what {wish.name} may do: --read, --add or --edit {wish.name}:DIR,"
                f" or --everything {wish.name}"
            )


def notes(wishes: Iterable[Wish]) -> Iterator[str]:
    """Yield a sentence about each right of an app that the user perhaps does not expect."""
    for wish in wishes:
        added = "" if wish.whole else ", ".join(wish.dirs(Level.ADD))
        if added:
            yield (
                f"{wish.name} reads all files in {added}, also files that others added there; it changes and"
                " deletes only files that it added"
            )
        if wish.cleaned_copies:
            yield (
                f"{wish.name} reads pictures without the places where they were taken, so its copies lack the"
                f" places; with --places {wish.name}, it reads and copies them unchanged"
            )
