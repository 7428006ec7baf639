"""Sample requests that write: in each of some directories of a mount, the creation of a file and of an
extended attribute.

They go to directories of their own, which are made in the store, and removed from it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from policyfs.cli.prove.canary_requests import NoAnswerError, in_process
from policyfs.cli.prove.canary_stores import directories, opened
from policyfs.cli.prove.prover import Caller, NotProvedError, Prover, WrongAnswerError
from policyfs.domain import KIND_DIRECTORY, NO_FACTS, OWNER_NONE, Facts, FileType, Op
from policyfs.errors import ERRNO_RANK, errno_name
from policyfs.policy.analysis.canaries import Answers
from policyfs.policy.decide import Engine
from policyfs.policy.errors import harmless

_NAME: Final = "policyfs-prove-"
_NEW, _OLD = b"new", b"old"
_NO_ATTRIBUTES: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_DIRECTORY: Final = Facts(KIND_DIRECTORY, OWNER_NONE)
_ATTEMPTS: Final = (
    ("creation", _NEW, Op.CREATE | Op.WRITE, "create"),
    ("attribute", _OLD, Op.ATTR, "set an extended attribute of"),
)
"""The attempts in each directory: the sort, the name of the file, the operations, and a verb for messages."""


class _Place(NamedTuple):
    """A directory in which a test makes its own directory. above, own: names of both.

    allowed: for each of _ATTEMPTS, whether the policy allows it.
    """

    above: tuple[bytes, ...]
    own: bytes
    allowed: tuple[bool, ...]


def prove_writes(prover: Prover, mount_fd: int) -> Counter[str]:
    """Make the requests of all callers. mount_fd: the mountpoint. Return the number of right answers by sort.

    For each caller, one directory of the store is used in which the caller may create files, and one in
    which it may not. Raises WrongAnswerError, NotProvedError.
    """
    counts: Counter[str] = Counter()
    for caller in prover.callers:
        for place in _places(prover, caller):
            path = b"/".join((*place.above, place.own))
            try:
                with _own_directory(prover.store, place):
                    found = in_process(caller.identity, partial(_attempts, mount_fd, path))
            except NoAnswerError as error:
                raise NotProvedError(f"in the mount, {error}") from error
            except OSError as error:
                name = os.path.join(prover.store, os.fsdecode(path))
                raise NotProvedError(f"cannot make and remove {name}: {error.strerror}") from error
            for attempt, allowed, code in zip(_ATTEMPTS, place.allowed, found, strict=True):
                _compare(prover, caller, (attempt[3], path + b"/" + attempt[1]), allowed=allowed, code=code)
                counts[attempt[0]] += 1
    return counts


def _places(prover: Prover, caller: Caller) -> list[_Place]:
    """Return a directory in which the caller may create files, and one in which it may not, if there are.

    A directory that the caller sees comes before a hidden one, in which no creation gets as far.
    """
    found: dict[tuple[bool, bool], _Place] = {}
    own = f"{_NAME}{secrets.token_hex(8)}".encode()
    for above in directories(prover.store):
        allowed = _allowed(prover, prover.engine, caller, (*above, own))
        if allowed is None or allowed != _allowed(prover, prover.lasting, caller, (*above, own)):
            continue
        answers = Answers(prover.engine, caller.principal(prover.engine, prover.app))
        seen = answers.decide((*above, own), Op.SEE, FileType.DIRECTORY, _DIRECTORY).allowed
        found.setdefault((allowed[0], seen), _Place(above, own, allowed))
        if {(True, True), (False, True)} <= found.keys():
            break
    wanted = ((True, True),), ((False, True), (False, False))
    return [next(found[one] for one in some if one in found) for some in wanted if found.keys() & set(some)]


def _allowed(
    prover: Prover, engine: Engine, caller: Caller, names: Sequence[bytes]
) -> tuple[bool, ...] | None:
    """Return for each of _ATTEMPTS whether a policy allows it; None if that depends on a kind or an owner."""
    who = caller.principal(engine, prover.app)
    answers, found = Answers(engine, who), []
    for _, name, ops, _ in _ATTEMPTS:
        state = engine.state_of(b"/" + b"/".join((*names, name)))
        if engine.owner_matters_above(state) or engine.needs(who, Op.SEE | ops, state, FileType.REGULAR):
            return None
        decision = answers.decide((*names, name), ops, FileType.REGULAR, NO_FACTS)
        found.append(decision.allowed and not prover.read_only)
    return tuple(found)


@contextlib.contextmanager
def _own_directory(store: str, place: _Place) -> Iterator[None]:
    """Make a directory of the store that all users may write, with one file; remove both at the end."""
    with opened(store, place.above) as above:
        os.mkdir(place.own, 0o700, dir_fd=above)
        try:
            with opened(store, (*place.above, place.own)) as fd:
                os.fchmod(fd, 0o777)
                old = os.open(_OLD, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
                os.fchmod(old, 0o666)
                os.close(old)
                try:
                    yield
                finally:
                    for name in os.listdir(fd):
                        os.unlink(name, dir_fd=fd)
        finally:
            os.rmdir(place.own, dir_fd=above)


def _attempts(mount_fd: int, path: bytes) -> list[int]:
    def create() -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path + b"/" + _NEW, flags, 0o600, dir_fd=mount_fd))

    def mark() -> None:
        fd = os.open(path + b"/" + _OLD, os.O_PATH | os.O_CLOEXEC, dir_fd=mount_fd)
        os.setxattr(f"/proc/self/fd/{fd}", "user.prove", b"1")

    return [_errno_of(create), _errno_of(mark)]


def _errno_of(request: Callable[[], None]) -> int:
    try:
        request()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _compare(prover: Prover, caller: Caller, request: tuple[str, bytes], *, allowed: bool, code: int) -> None:
    """Raise WrongAnswerError if the mount has refused an allowed request, or has allowed another one.

    request: a verb and a path. code: the errno of the answer.
    """
    verb, path = request[0], harmless(request[1].decode("utf-8", "backslashreplace"))
    what = f"in the mount, {caller.label} (uid {caller.identity.uid}), {verb} /{path}"
    if not allowed and not code:
        raise WrongAnswerError(f"{what}: the mount allowed the request, but the policy denies it")
    if not allowed or not code or code in _NO_ATTRIBUTES or prover.posix:
        return
    answer = f"the answer was {errno_name(code)}, but the policy allows the request"
    raise (WrongAnswerError if code in ERRNO_RANK else NotProvedError)(f"{what}: {answer}")
