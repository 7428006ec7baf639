"""The facts of a file on a running mount, for `policyfs policy explain`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from policyfs.cli.common.live_mounts import ask, known, part
from policyfs.cli.common.processes import status_file
from policyfs.daemon.control.control import Json
from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Facts, FileType, Op, Principal
from policyfs.errors import PolicyfsError, UsageError
from policyfs.journal.files.policy_texts import read_policy
from policyfs.linux.leases import writers_seen
from policyfs.linux.mountinfo import ABSENT, FSTYPE, mounts_at, resolve
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import with_exceptions
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.facts import leases_mean
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from policyfs.store.trial import probe

if TYPE_CHECKING:
    from policyfs.content.sniffer import Sniffer


class Caller(NamedTuple):
    """The user whose request is explained: uid and groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(slots=True)
class LiveFile:
    """The file or directory at a path in a mount. stat: None if the store has no such object. above: the
    directories above with their facts, root first. open: the daemon's handles of it."""

    path: bytes
    stat: Stat | None
    facts: Facts
    above: list[tuple[bytes, Facts]] = field(default_factory=list)
    plan: Plan | None = None
    written: bool = False
    """True if a program has the file open, or mapped, for writing."""
    hidden: frozenset[str] = frozenset()
    """The words that are hidden from the caller in this file. Empty if the caller's app owns the file."""
    open: list[Json] = field(default_factory=list)

    @property
    def ftype(self) -> FileType:
        """Return the object's type; regular if the object does not exist."""
        return FileType.REGULAR if self.stat is None else self.stat.ftype


def is_mount(path: str) -> bool:
    """Return True if a path is the mountpoint of a policyfs mount, also of one that is absent: its place has
    a placeholder, or is an empty directory, which no policy can be."""
    try:
        if any(mount.fstype in {FSTYPE, ABSENT} for mount in mounts_at(resolve(path))):
            return True
        return os.path.isdir(path) and not os.listdir(path)
    except OSError:
        return False


def status_of(mountpoint: str) -> Json:
    """Return the status of a mount. Raises PolicyfsError."""
    return ask(known(mountpoint), "status")


def engine_of(status: Json) -> Engine:
    """Return an engine with the policy that is in force on a mount, and the exceptions in force. Raises
    PolicyfsError. status: the mount's status."""
    policy = part(status, "policy")
    told = policy.get("exceptions")
    live = [one["id"] for one in (told if isinstance(told, list) else []) if one["in_force"]]
    parsed = with_exceptions(parse_policy(sources_of(status)), live)
    return compile_policy(parsed, monitor=bool(policy["monitor"]))


def sources_of(status: Json) -> list[SourceText]:
    """Return the saved texts of the policy that is in force on a mount. Raises PolicyfsError."""
    directory = Path(str(part(status, "trail")["directory"]))
    try:
        kept = read_policy(directory, str(part(status, "policy")["digest"]))
    except OSError as error:
        raise PolicyfsError(
            f"cannot read the saved text of the mount's policy in {directory}: {error.strerror}"
        ) from error
    return [SourceText(Path(name).name, text) for name, text in kept]


def user_of(uid: int | None, pid: int | None, status: Json) -> Caller:
    """Return the user that --uid or --pid names. Without these options, return the user that an app mount
    admits. Raises UsageError if there is no such user."""
    if pid is not None:
        return process(pid)
    admitted = part(status, "admits")
    if uid is None:
        if not isinstance(admitted["uid"], int):
            raise UsageError("name the caller: --uid N, or --pid N of a running process")
        uid = admitted["uid"]
    gids = admitted["gids"]
    gid = int(gids[0]) if isinstance(gids, list) and gids and uid == admitted["uid"] else uid
    return Caller(uid, gid, (gid,))


def process(pid: int) -> Caller:
    """Return the user of a process, by the ids for files (fsuid, fsgid). Raises PolicyfsError."""
    try:
        text = status_file(pid)
    except OSError as error:
        raise PolicyfsError(f"there is no process {pid}: {error.strerror}") from error
    ids = {name: line.split() for name, line in re.findall(r"^(Uid|Gid|Groups):\t(.*)$", text, re.MULTILINE)}
    groups = tuple(map(int, ids["Groups"]))
    return Caller(int(ids["Uid"][3]), int(ids["Gid"][3]), groups)


# ---------------------------------------------------------------- the file


def look(status: Json, path: bytes, engine: Engine, who: Principal, op: Op) -> LiveFile:
    """Return the object at a path, with the facts that the mount would find. Raises PolicyfsError."""
    import trio

    from policyfs.cli.common.looking import start_sniffer
    from policyfs.fs.access.views import Views

    store = str(status["store"])
    names = [name for name in path.split(b"/") if name]
    try:
        tree = Tree.open(store)
    except OSError as error:
        raise PolicyfsError(f"cannot open the store {store}: {error.strerror}") from error
    with tree:
        features = probe(tree.root_fd)
        database = Path(str(part(status, "trail")["directory"])).parent / "owners.sqlite"
        known = features.owners_in_database and database.exists()
        owners = Owners(features.trusted_xattr, str(database) if known else None)
        try:
            found = _walk(tree, owners, names)
        finally:
            owners.close()
        found.path = path
        if found.ftype is FileType.REGULAR and found.stat is not None:
            owner = found.facts.owner or OWNER_NONE
            if who.app is None or owner != who.app:
                found.hidden = Views.hidden_now(engine, who, engine.state_of(path), lambda: owner)
            sniff = partial(_sniff, leases=features.leases)
            sniffer = start_sniffer()
            try:
                trio.run(sniff, found, tree, names, engine, who, op, sniffer)
            finally:
                sniffer.close()
    with contextlib.suppress(PolicyfsError):
        answer = ask(str(status["mountpoint"]), "file", about=os.fsdecode(path))["open"]
        found.open = answer if isinstance(answer, list) else []
    return found


def _walk(tree: Tree, owners: Owners, names: list[bytes]) -> LiveFile:
    found = LiveFile(b"/", None, Facts())
    fd = os.dup(tree.root_fd)
    try:
        stat = tree.fstat(fd)
        for depth, name in enumerate([b"", *names]):
            if name:
                found.above.append((b"/" + b"/".join(names[: depth - 1]), found.facts))
                inner = tree.open_path(fd, name)
                os.close(fd)
                fd, stat = inner, tree.fstat(inner)
            kind = KIND_DIRECTORY if stat.ftype is FileType.DIRECTORY else None
            found.facts = Facts(kind, owners.get(fd, stat))
        found.stat = stat
    except (FileNotFoundError, NotADirectoryError):
        found.facts = Facts()
    except OSError as error:
        raise PolicyfsError(f"cannot look at {os.fsdecode(b'/'.join(names))}: {error.strerror}") from error
    finally:
        os.close(fd)
    return found


async def _sniff(
    found: LiveFile, tree: Tree, names: list[bytes], engine: Engine, who: Principal, op: Op, sniffer: Sniffer,
    *, leases: bool,
) -> None:  # fmt: skip
    """Set the kind of a file. If the app would read the file redacted, set the redaction plan, too."""
    try:
        fd = tree.open_below(tree.root_fd, names[:-1]) if names[1:] else os.dup(tree.root_fd)
        try:
            held = tree.open_file(fd, names[-1], os.O_RDONLY)
        finally:
            os.close(fd)
    except OSError:
        return
    try:
        if leases and leases_mean(held):
            found.written = _is_written(held)
        kind = await sniffer.kind_of_fd(held, lane=who.lane)
        found.facts = found.facts._replace(kind=kind)
        state = engine.state_of(found.path)
        decision = engine.decide(who, Op.SEE | Op.READ, state, FileType.REGULAR, found.facts)
        if op & Op.READ and decision.redact:
            _, found.plan = await sniffer.locate(held, decision.redact, lane=who.lane)
    finally:
        os.close(held)


def _is_written(fd: int) -> bool:
    """Return True if a program has a file open for writing. Call this only if leases_mean() is True."""
    try:
        with writers_seen(fd) as written:
            return written()
    except OSError as error:
        raise PolicyfsError(str(error.strerror)) from error


def notes(status: Json, found: LiveFile) -> Iterator[str]:
    """Yield lines of text about the live file."""
    where = os.fsdecode(found.path)
    if found.stat is None:
        yield f"  live: {status['store']} has no {where}"
        for top in (str(status["store"]), str(status["mountpoint"])):
            if where.startswith(f"{top}/"):
                yield f"  a path begins at the root of the mount: ask for {where.removeprefix(top)}"
        return
    kind = found.facts.kind or ("unknown kind" if found.ftype is FileType.REGULAR else found.ftype.value)
    yield f"  live: {kind}, owner {found.facts.owner}, {found.stat.size:,} bytes"
    if found.plan is not None and found.plan.outcome is not Outcome.REFUSE:
        yield f"  removed: {found.plan.reason}"
    for one in found.open:
        held = f", {one['held']:,} bytes not yet in the store" if one["held"] else ""
        yield f"  open: {one['handles']} handles, {one['mode']}, view {one['view']}{held}"
    passthrough = part(status, "passthrough")
    if passthrough["why_not"]:
        yield f"  passthrough: off: {passthrough['why_not']}"
    if found.written:
        yield "  written: a program has the file open for writing"
