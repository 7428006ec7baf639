"""Mounts to compare: the store itself, other FUSE file systems, policyfs in several settings.

A contender of policyfs is named by its kind and settings, as in ``shared:rules=10000:trail=required``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policyfs.domain import WORKER_UIDS
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount

UIDS: Final = (10050, 10051, 10052, 10053)
FOREIGN: Final = ("native", "bindfs", "mergerfs", "hp")
KINDS: Final = ("app", "shared", "alike", "writers", "full", "redacted")
DEFAULT: Final = ("native", "bindfs", "mergerfs", "hp", "app", "shared", "alike")
_MANY_S: Final = 120.0
_EVERY_UID: Final = f'["0-{WORKER_UIDS.start - 1}", "{WORKER_UIDS.stop}-4294967294"]'


class UnknownContenderError(ValueError):
    """No contender has this name or setting."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to the same files. uid: of the client. alone: no other uid may use it."""

    name: str
    path: Path
    alone: bool = False
    mount: Mount | None = None
    uid: int = UIDS[0]

    def spent_us(self) -> float:
        """Return the processor time of the daemon's threads so far, in µs (proc_pid_schedstat(5)); 0 for
        other programs."""
        threads = [] if self.mount is None else Path(f"/proc/{self.mount.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text("ascii").split()[0]) for thread in threads) / 1e3


@dataclass(frozen=True, slots=True)
class Setting:
    """A policyfs contender's kind, its number of rules, its audit level of allowed requests, and options."""

    kind: str
    rules: int = 10
    trail: str = "best_effort"
    xattrs: bool = True
    vectors: bool = True

    @classmethod
    def of(cls, name: str) -> Setting:
        """Read a contender's name. Raises UnknownContenderError."""
        kind, *settings = name.split(":")
        if kind not in KINDS:
            raise UnknownContenderError(f"no contender {name!r}; kinds are {', '.join((*FOREIGN, *KINDS))}")
        chosen = dict(setting.partition("=")[::2] for setting in settings)
        rules, trail = chosen.pop("rules", "10"), chosen.pop("trail", "best_effort")
        xattrs, vectors = chosen.pop("xattrs", "on"), chosen.pop("avc", "on")
        right = rules.isdecimal() and trail in {"off", "best_effort", "required"}
        right = right and {xattrs, vectors} <= {"on", "off"}
        if chosen or not right:
            known = "rules=N, trail=off|best_effort|required, xattrs=on|off, avc=on|off"
            raise UnknownContenderError(f"{name!r}: settings are {known}")
        return cls(kind, int(rules), trail, xattrs == "on", vectors == "on")

    def policy(self) -> str:
        """Return the policy's text.

        shared: strangers see nothing, so answers depend on the caller. alike: one rule for everyone. writers:
        everyone sees and reads, one app writes. full: an app with every uid.
        """
        uids = _EVERY_UID if self.kind == "full" else f'"{UIDS[0]}-{UIDS[-1]}"'
        who = "" if self.kind == "alike" else "who: {app: bench}, "
        lines = [
            "apiVersion: policyfs/v1",
            "kind: Policy",
            "metadata: {name: comparison}",
            f"apps: {{bench: {{uid: {uids}, gid: {UIDS[0]}}}}}",
            f'defaults: {{audit: "{self.trail}"}}',
            "rules:",
            f'  - {{id: base, allow: [all], {who}paths: ["/**"]}}',
        ]
        if self.kind == "writers":
            lines.append('  - {id: everyone, allow: [see, read], paths: ["/***"]}')
        if self.kind == "redacted":
            lines.append(f'  - {{id: place, require: {{redact: [location]}}, {who}paths: ["/**"]}}')
        for number in range(self.rules - 1):
            glob = f"/d{number % 97}/*/x{number}/**"
            lines.append(f'  - {{id: r{number}, deny: [write], {who}paths: ["{glob}"]}}')
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Ground:
    """A store and the mounts of it. peers: mounts that were there before, by name."""

    directory: Path
    store: Path
    peers: dict[str, Path] = field(default_factory=dict)
    hp: Path | None = None
    """The C++ reference's program, if it could be built."""

    def missing(self, name: str) -> str:
        """Return why a contender cannot take part; empty if it can."""
        if name in {"bindfs", "mergerfs"} and shutil.which(name) is None:
            return f"{name} is not installed"
        if name == "hp" and self.hp is None:
            return "the C++ reference could not be built"
        return ""

    @contextlib.contextmanager
    def contender(self, name: str) -> Iterator[Contender]:
        """Mount a contender for as long as the block runs."""
        if name in self.peers:
            yield Contender(name, self.peers[name])
        elif name == "native":
            yield Contender(name, self.store)
        elif name in FOREIGN:
            with self._foreign(name) as found:
                yield found
        else:
            with self._policyfs(name, Setting.of(name)) as found:
                yield found

    @contextlib.contextmanager
    def _foreign(self, name: str) -> Iterator[Contender]:
        where = self.directory / name
        where.mkdir()
        store, target = str(self.store), str(where)
        lines = {
            "bindfs": ["bindfs", "--multithreaded", store, target],
            "mergerfs": ["mergerfs", "-o", "allow_other,cache.files=partial,minfreespace=0", store, target],
            "hp": [str(self.hp), store, target],
        }
        process = subprocess.Popen(lines[name], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: mounts_below(where), f"{name} is mounted")
            # New files in the C++ reference belong to root, whoever makes them.
            yield Contender(name, where, uid=0 if name == "hp" else UIDS[0])
        finally:
            subprocess.run(["umount", "-l", target], check=False, timeout=30)
            process.wait(30)

    @contextlib.contextmanager
    def _policyfs(self, name: str, setting: Setting) -> Iterator[Contender]:
        place = name.replace(":", "-").replace("=", "-")
        where, work = self.directory / place, self.directory / f"work-{place}"
        where.mkdir()
        work.mkdir(mode=0o700)
        policy = work / "policy.yaml"
        policy.write_text(setting.policy(), encoding="utf-8")
        alone = setting.kind in {"app", "redacted"}
        options: tuple[str, ...] = ("--app", "bench", "--uid", str(UIDS[0])) if alone else ()
        options += () if setting.xattrs else ("--no-xattrs",)
        options += ("--avc",) if setting.vectors else ("--no-avc",)
        mount = Mount(self.store, where, policy, options=options, work=work).start(_MANY_S)
        try:
            yield Contender(name, where, alone, mount)
        finally:
            for wrong in mount.stop():
                print(f"WRONG: {name}: {wrong}")


def make_store(store: Path) -> None:
    """Make an empty store that the plain uids may use."""
    store.mkdir(mode=0o777, exist_ok=True)
    store.chmod(0o777)
    os.chown(store, UIDS[0], UIDS[0])
