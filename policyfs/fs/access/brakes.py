"""The brakes of apps: a rule with `limit` counts the files that an app changes, and too many stop the app.

docs/policy-language.md ("Limits") has the meaning. Counts are in memory. A brake that is on is in a
file before the app gets its first refusal, so that the next daemon finds it.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, ParamSpec, TypeVar

import trio

from policyfs.domain import Facts, FileType, Principal
from policyfs.errors import PolicyfsError
from policyfs.fs.inodes.caller import Caller
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.model import Limit, Policy, Rule
from policyfs.trail.lines.line import iso_time

NAME: Final = "brakes.json"
"""The name of the file with the brakes that are on, in the directory of a mount's trail."""
_SAVED_S: Final = 3.0
"""The longest wait for that file: other apps may wait for the refused request."""


class Changed(NamedTuple):
    """An object that a request is about to remove, overwrite or rename. owner: None if unknown."""

    state: PathState
    ftype: FileType
    owner: str | None
    stat: Stat


class On(NamedTuple):
    """A brake that is on. since_ns: ns since 1970. rule, path, uid: of the change that was one too many."""

    since_ns: int
    rule: str
    path: str
    uid: int


class BrakedError(Exception):
    """The error for a change that is refused because the brake of its app is on. refuse: refuses it."""

    def __init__(self, save: Callable[[], Awaitable[None]], refuse: Callable[[], NoReturn]) -> None:
        super().__init__("the brake is on")
        self.save, self.refuse = save, refuse


Tell = Callable[[str, On, Limit | None], None]
"""Tells that the brake of an app is on now, with the limit; None: off."""


def _nobody(_app: str, _on: On, _limit: Limit | None) -> None:
    return


class Brakes:
    """The brakes of one mount, and the counts of files. Event loop only.

    directory: of the saved brakes; None: nothing is saved. An app has one brake, whatever its uids are;
    strangers have one together, so that many uids are no way around it.
    """

    def __init__(
        self, directory: Path | None = None, tell: Tell = _nobody,
        now_s: Callable[[], float] = time.monotonic, now_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        self._saved: Final = None if directory is None else directory / NAME
        self._tell: Final = tell
        self._now_s: Final = now_s
        self._now_ns: Final = now_ns
        self._writing: Final = threading.Lock()
        self._is_saved = True
        self._counted: Final[dict[tuple[str, str], dict[tuple[int, int, int], float]]] = {}
        """By rule and app: the changed files (device, inode, birth time), and when each was counted."""
        self.on: dict[str, On] = {}
        """The brakes that are on, by app."""
        self.load()

    def load(self) -> None:
        """Read the saved brakes. Raise PolicyfsError if that is impossible."""
        try:
            text = b"{}" if self._saved is None else self._saved.read_bytes()
            self.on = {app: On(*fields) for app, fields in json.loads(text).items()}
        except FileNotFoundError:
            self.on = {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PolicyfsError(f"{self._saved}: cannot read which brakes are on: {error}") from error

    def use(self, policy: Policy) -> None:
        """Forget the counts of rules that this policy lacks. Brakes stay on."""
        limits = {rule.id for rule in policy.rules if rule.limit is not None}
        for key in [key for key in self._counted if key[0] not in limits]:
            del self._counted[key]

    def count(self, engine: Engine, caller: Caller, path: bytes, objects: tuple[Changed, ...]) -> Rule | None:
        """Count objects of an allowed request, or return the rule by which the app's brake refuses it. A file
        counts once in a limit's time. path: for the record."""
        who = caller.principal
        for changed in objects:
            facts = Facts(None, changed.owner)
            for rule in engine.limits(who, changed.state, changed.ftype, facts):
                if rule.limit is None or self._is_own(who, changed, rule.limit):
                    continue
                if who.label not in self.on and not self._has_room(who, changed.stat, rule, rule.limit):
                    on = On(self._now_ns(), rule.id, os.fsdecode(path), caller.uid)
                    self.on[who.label], self._is_saved = on, False
                    self._tell(who.label, on, rule.limit)
                if who.label in self.on:
                    return rule
        return None

    def _is_own(self, who: Principal, changed: Changed, limit: Limit) -> bool:
        """Return True for a file that the app has made within the time, and no other has written since."""
        if who.app is None or changed.owner != who.app:
            return False
        age_ns = self._now_ns() - changed.stat.btime_ns
        return bool(changed.stat.btime_ns) and 0 <= age_ns < limit.within_s * 1_000_000_000

    def _has_room(self, who: Principal, stat: Stat, rule: Rule, limit: Limit) -> bool:
        """Count a file. Return False if it is one too many."""
        counted = self._counted.setdefault((rule.id, who.label), {})
        self._expire(counted, limit)
        key = stat.dev, stat.ino, stat.btime_ns
        if key not in counted and len(counted) < limit.changes:
            counted[key] = self._now_s()
        return key in counted

    def _expire(self, counted: dict[tuple[int, int, int], float], limit: Limit) -> None:
        since_s = self._now_s() - limit.within_s
        while counted and counted[first := next(iter(counted))] <= since_s:
            del counted[first]

    def release(self, app: str) -> bool:
        """Let an app go on, and count anew. Return False if its brake is not on. save() follows."""
        on = self.on.pop(app, None)
        if on is None:
            return False
        for key in [key for key in self._counted if key[1] == app]:
            del self._counted[key]
        self._is_saved = False
        self._tell(app, on, None)
        return True

    async def save(self) -> None:
        """Write the brakes to their file if that is not done; a request waits a few seconds at most."""
        if not self._is_saved and self._saved is not None:
            self._is_saved = True
            try:
                with trio.fail_after(_SAVED_S):
                    await trio.to_thread.run_sync(self._write, self._saved, abandon_on_cancel=True)
            except (OSError, trio.TooSlowError):  # the brake holds all the same; the next refusal tries again
                self._is_saved = False

    def _write(self, path: Path) -> None:
        with self._writing:
            new = path.with_suffix(".new")
            with open(new, "wb") as file:
                file.write(json.dumps(self.on).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)

    def report(self, policy: Policy) -> dict[str, object]:
        """Return the brakes and counts, for `policyfs status`."""
        limits = {rule.id: rule.limit for rule in policy.rules if rule.limit is not None}
        counts = []
        for (rule, app), counted in self._counted.items():
            if (limit := limits.get(rule)) is not None:
                self._expire(counted, limit)
                counts.append({"rule": rule, "app": app, "counted": len(counted), **limit._asdict()})
        on = {app: on._asdict() | {"since": iso_time(on.since_ns)} for app, on in self.on.items()}
        return {"on": on, "counts": counts}


P = ParamSpec("P")
R = TypeVar("R")


def braked(
    method: Callable[P, Coroutine[object, object, R]],
) -> Callable[P, Coroutine[object, object, R]]:
    """Wrap a method that makes changes: on BrakedError save the brake, then refuse the change, on record."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except BrakedError as error:
            refused = error
        await refused.save()
        return refused.refuse()

    return wrapper
