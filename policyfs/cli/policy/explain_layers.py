"""The layers of a mount that can refuse a request, for `policyfs policy explain` of a running mount.

A layer is a part of the system, such as the policy or the mode bits. Each check predicts the refusal of one
layer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.cli.common.live_mounts import part
from policyfs.cli.policy.explain_live import Caller, LiveFile
from policyfs.daemon.control.control import Json
from policyfs.domain import KIND_EMPTY, Decision, FileType, Op, Principal
from policyfs.linux.permission import first_refusal
from policyfs.policy.decide import Engine
from policyfs.policy.errors import harmless
from policyfs.policy.explain.explain import REQUESTS, Explanation, MoveExplanation, open_refusal
from policyfs.policy.explain.rule_lines import NO
from policyfs.redact.core.values import Outcome

_CHANGES: Final = Op.WRITE | Op.CREATE | Op.DELETE | Op.ATTR
_BY_WRITERS: Final = {"setxattr", "removexattr"}
"""Changes of attributes that need the right to write, with --posix. This right is also enough to set a file's
times to now (utimens). All other changes of attributes are only for the file's owner (or root)."""


class Layer(NamedTuple):
    """The first part of the system that refuses a request, with the reason. name: policy, mount, store,
    brake, read-only, mode bits, sniffing, redaction, or held writes. error: the errno."""

    name: str
    error: int
    cause: str


def hidden_above(engine: Engine, who: Principal, found: LiveFile) -> Decision | None:
    """Return the denial if a rule hides the file because of the owner of a directory above it, else None."""
    return engine.hidden_above(who, [(engine.state_of(path), facts) for path, facts in found.above])


def refusing_layer(
    status: Json, explanation: Explanation, found: LiveFile, caller: Caller, hidden: Decision | None
) -> Layer | None:
    """Return the first layer that refuses the request, or None. hidden: the result of hidden_above()."""
    ops, decision = REQUESTS[explanation.request], explanation.decision
    layer = _not_admitted(status, caller) or _hidden(hidden)
    if layer is not None:
        return layer
    layer = _no_parent(found)
    if layer is not None and decision.errno != errno.ENOENT:
        return layer
    if not decision.allowed:
        return Layer("policy", decision.errno, explanation.cause)
    layer = _special(found) or _absent(status, ops, decision, found, caller)
    layer = layer or _braked(status, explanation, found)
    if layer is not None:
        return layer
    by_writers = explanation.request == "utimens" and not _owns(found, caller)
    if by_writers or explanation.request in _BY_WRITERS:
        return _read_only(status, ops, decision, found, caller) or _mode_bits(
            status, Op.WRITE, decision, found, caller
        )
    for check in (_read_only, _mode_bits, _unclean, _not_emptied, _held):
        layer = check(status, ops, decision, found, caller)
        if layer is not None:
            return layer
    return None


def refusing_layer_of_move(
    status: Json, move: MoveExplanation, ends: tuple[LiveFile, LiveFile], caller: Caller,
    hidden: Decision | None,
) -> Layer | None:  # fmt: skip
    """Return the first layer that refuses a rename or link, or None. ends: the file at the old path, and the
    file at the new path. hidden: the result of hidden_above() for one of them."""
    old, new = ends
    layer = _not_admitted(status, caller) or _hidden(hidden)
    if layer is not None:
        return layer
    if old.stat is None:
        return _absent(status, Op.DELETE, move.decision, old, caller)
    layer = _special(old) or _no_parent(new)
    if layer is not None:
        return layer
    if not move.decision.allowed:
        return Layer("policy", move.decision.errno, move.cause)
    if move.request == "link" and new.stat is not None:
        return _absent(status, Op.CREATE, move.decision, new, caller)
    if move.request == "rename" and (layer := _braked(status, move.ends[0], old)) is not None:
        return layer
    for ops, end in ((Op.DELETE if move.request == "rename" else Op(0), old), (Op.CREATE, new)):
        for check in (_read_only, _mode_bits):
            layer = check(status, ops, move.decision, end, caller)
            if layer is not None:
                return layer
    return None


def _braked(status: Json, explanation: Explanation, found: LiveFile) -> Layer | None:
    """Return the refusal if the brake of the app is on, and its limit counts this change. (A file that the
    app has just created does not count.)"""
    counts = any(line.effect == "limit" and line.verdict != NO for line in explanation.lines)
    if not counts or found.stat is None or explanation.who not in part(part(status, "brakes"), "on"):
        return None
    return Layer("brake", errno.EDQUOT, "the app has changed too many files (`policyfs brake`)")


def _not_admitted(status: Json, caller: Caller) -> Layer | None:
    admits = part(status, "admits")
    if admits["any"]:
        return None
    if caller.uid != admits["uid"]:
        return Layer("mount", errno.EACCES, f"this app mount admits only the uid {admits['uid']}")
    gids = admits["gids"]
    if isinstance(gids, list) and caller.gid not in gids:
        admitted = " ".join(map(str, gids))
        return Layer("mount", errno.EACCES, f"this app mount admits only the primary group {admitted}")
    return None


def _special(found: LiveFile) -> Layer | None:
    if found.ftype is not FileType.SPECIAL:
        return None
    return Layer("policy", errno.ENOENT, "policyfs hides fifos, sockets and devices")


def _no_parent(found: LiveFile) -> Layer | None:
    """Return the refusal if a directory above the path does not exist, else None."""
    names = [name for name in found.path.split(b"/") if name]
    if found.stat is not None or len(found.above) >= len(names):
        return None
    missing = harmless(os.fsdecode(b"/" + b"/".join(names[: len(found.above)])))
    return Layer("store", errno.ENOENT, f"there is no directory {missing} in the store")


def _owns(found: LiveFile, caller: Caller) -> bool:
    return caller.uid == 0 or (found.stat is not None and found.stat.uid == caller.uid)


def _hidden(above: Decision | None) -> Layer | None:
    if above is None:
        return None
    rules = ", ".join(sorted({match.rule for match in above.rules}))
    told = f"rule {rules} hides a directory above this path, because of the owner of that directory"
    return Layer("policy", above.errno, told)


def _absent(_: Json, ops: Op, _decision: Decision, found: LiveFile, _caller: Caller) -> Layer | None:
    if found.stat is None and not ops & Op.CREATE:
        return Layer("store", errno.ENOENT, "there is no such file in the store")
    if found.stat is not None and ops & Op.CREATE:
        return Layer("store", errno.EEXIST, "the name exists already")
    return None


def _read_only(status: Json, ops: Op, _decision: Decision, _found: LiveFile, _caller: Caller) -> Layer | None:
    if not ops & _CHANGES:
        return None
    if status["read_only"]:
        return Layer("read-only", errno.EROFS, "the mount is read-only (--read-only)")
    if os.statvfs(str(status["store"])).f_flag & os.ST_RDONLY:
        return Layer("read-only", errno.EROFS, "the store is mounted read-only")
    return None


def _mode_bits(status: Json, ops: Op, _decision: Decision, found: LiveFile, caller: Caller) -> Layer | None:
    """Return the refusal by the store's mode bits or ACLs, which count only with --posix; else None."""
    if not status["posix"] or caller.uid == 0:
        return None
    wanted, names = list(_needed_modes(str(status["store"]), ops, found)), []
    fds: list[tuple[int, int]] = []
    try:
        for path, mode in wanted:
            fds.append((os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC), mode))
            names.append(path)
        refused = first_refusal(caller.uid, caller.gid, caller.groups, fds)
    except (OSError, ValueError):
        return None
    finally:
        for fd, _ in fds:
            os.close(fd)
    if refused is not None:
        shown = os.fsdecode(names[refused])
        told = f"the mode bits or the ACL of {shown} refuse this access to this user"
        return Layer("mode bits", errno.EACCES, told)
    if ops & Op.ATTR and found.stat is not None and not _owns(found, caller):
        told = f"only the owner, uid {found.stat.uid}, may change attributes"
        return Layer("mode bits", errno.EPERM, told)
    return None


def _needed_modes(store: str, ops: Op, found: LiveFile) -> Iterator[tuple[bytes, int]]:
    """Yield each path in the store that the request uses, with the access (R_OK...) needed there."""
    top = os.fsencode(store)
    directories = [path for path, _ in found.above]
    for at, path in enumerate(directories):
        mode = os.X_OK
        if at == len(directories) - 1 and ops & (Op.CREATE | Op.DELETE):
            mode |= os.W_OK
        yield top + path.rstrip(b"/"), mode
    wanted = (os.R_OK if ops & Op.READ else 0) | (os.W_OK if ops & Op.WRITE else 0)
    if wanted and found.stat is not None and found.ftype is not FileType.SYMLINK:
        yield top + found.path.rstrip(b"/"), wanted


def _unclean(_: Json, ops: Op, decision: Decision, found: LiveFile, _caller: Caller) -> Layer | None:
    if found.ftype is not FileType.REGULAR or not ops & Op.READ or not decision.redact:
        return None
    if found.facts.kind is None:
        told = "policyfs could not find the file's kind, so it does not know what to remove"
        return Layer("sniffing", errno.EACCES, told)
    why = open_refusal(decision, found.facts.kind)
    if why is None and found.plan is not None and found.plan.outcome is Outcome.REFUSE:
        why = found.plan.reason
    return None if why is None else Layer("redaction", errno.EACCES, why)


def _not_emptied(_: Json, ops: Op, _decision: Decision, found: LiveFile, _caller: Caller) -> Layer | None:
    filled = found.stat is not None and found.stat.size and found.facts.kind != KIND_EMPTY
    if ops & Op.WRITE and not ops & Op.CREATE and filled and found.hidden:
        told = "data in this file is hidden from the app, and the app is not the owner: the app may write"
        return Layer("policy", errno.EACCES, f"{told} only after it has emptied the file (O_TRUNC)")
    return None


def _held(status: Json, ops: Op, decision: Decision, found: LiveFile, _caller: Caller) -> Layer | None:
    limit, stat = status["copy_bytes"], found.stat
    large = stat is not None and isinstance(limit, int) and stat.size > limit
    if ops & Op.READ and decision.redact and large and not status["reflink"] and found.written:
        told = "a program has the file open for writing, and the file is too large to copy; try again later"
        return Layer("held writes", errno.EBUSY, told)
    return None


def told(layer: Layer | None) -> str:
    """Return a line that names the part of the system that refuses. The line before has its cause."""
    return f"  refused by: {'nothing' if layer is None else layer.name}"
