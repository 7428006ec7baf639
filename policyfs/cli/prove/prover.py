"""The test of a mount by sample requests (canaries), whose answers are compared with the policy's.

The requests are made under the uids of apps. Over a store in memory (canary_mount.py) the files are photos
with a place, and requests may write and remove them. In a mount of the real store, requests change nothing,
not even an access time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from policyfs.cli.common.live_mounts import part
from policyfs.cli.prove.canary_photo import KIND, photo, told
from policyfs.cli.prove.canary_requests import Answer, Identity, NoAnswerError, ask
from policyfs.cli.prove.canary_stores import is_there, known_files, planted
from policyfs.daemon.control.control import Json
from policyfs.domain import NO_FACTS, OWNER_NONE, Facts, Op, Principal
from policyfs.errors import ERRNO_RANK, EXIT_USAGE, PolicyfsError, errno_name
from policyfs.policy.analysis.canaries import Canary, Nest, Sort, undated
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import harmless
from policyfs.policy.exceptions import with_exceptions


def wrong_with(canary: Canary, answer: Answer, *, posix: bool, reads: bool) -> str:
    """Return the fault of the answer to a canary, or "" if it is right by the policy. posix: True if mode
    bits may deny the request, too. reads: True if the canaries' files are photos, and their bytes were
    read."""
    was = f"the answer was {_named(answer.errno)}, but the policy"
    if canary.sort is Sort.HIDING:
        if answer.listed:
            return "the directory lists the name, but the policy hides the name"
        is_right = answer.errno == canary.errno or (posix and answer.errno and not reads)
        return "" if is_right else f"{was}'s answer is {_named(canary.errno)}"
    if canary.sort is Sort.DENIAL:
        if not answer.errno:
            return "the mount allowed the request, but the policy denies it"
        is_right = answer.errno == canary.errno or posix  # with --posix mode bits may deny, too
        return "" if is_right else f"{was}'s answer is {_named(canary.errno)}"
    if answer.errno:
        return "" if posix and not reads else f"{was} allows the request"
    if not reads:
        is_right = not canary.inode or answer.inode == canary.inode
        return "" if is_right else "the mount shows another file of the store"
    if canary.sort is Sort.PASSTHROUGH:
        return "" if answer.data == photo() else "the bytes differ from the bytes of the file"
    if len(answer.data) != len(photo()):
        return "the size differs from the size of the file"
    still = told(answer.data, canary.words)
    return f"the bytes still contain {', '.join(still)}, which the policy redacts" if still else ""


def not_passed(before: Json, after: Json) -> str:
    """Return the fault if files without any restriction were read without passthrough, or an empty text.
    before, after: the status of the mount before and after the reads."""
    passthrough = part(after, "passthrough")
    if not passthrough.get("enabled") or passthrough.get("refused"):
        return ""  # passthrough is off; `status` says why
    if part(after, "fuse").get("READ", 0) == part(before, "fuse").get("READ", 0):
        return ""
    return "passthrough is on, but the kernel asked the daemon for the bytes"


def _named(number: int) -> str:
    return errno_name(number) if number else "no error"


MOST_CALLERS: Final = 12
_TRIES: Final = 3
"""The maximum number of tries to read a redacted file. On a busy machine, one try may find no free worker in
time. It is also the maximum number of further tries after a wrong answer about a file of the real store."""
_NOBODY: Final = (65534, 4242, 1000, 60001)
_FILE: Final = Facts(KIND, OWNER_NONE)


@dataclass(frozen=True, slots=True)
class Caller:
    """An app or a stranger for which sample requests are made. label: the app's name, or `stranger`."""

    label: str
    identity: Identity

    def principal(self, engine: Engine, app: str | None) -> Principal:
        """Return the principal of this caller's requests. app: of an app mount; None for a shared one."""
        uid = self.identity.uid
        return engine.principal(uid) if app is None else engine.app_principal(app, uid)


class WrongAnswerError(PolicyfsError):
    """The error if a mount gives another answer than its policy. The message names the sample request."""


class NotProvedError(PolicyfsError):
    """The error if a mount could not be tested. So it is unknown whether it answers as its policy does."""

    exit_code = EXIT_USAGE


class Prover:
    """The test of one mount. Each method returns the number of right answers by the sort of the request, and
    raises WrongAnswerError and NotProvedError. lasting: the policy in force (*engine*) without its
    exceptions. callers: the users for which requests are made. left_out: the number of further apps."""

    def __init__(self, status: Json, engine: Engine) -> None:
        admits = part(status, "admits")
        uid, gids = admits.get("uid"), admits.get("gids")
        self.app = None if status["app"] is None else str(status["app"])
        self.engine: Final = engine
        self._uid: Final = uid if isinstance(uid, int) else None
        self._gids: Final = list(map(int, gids)) if isinstance(gids, list) else []
        self.posix: Final = bool(status["posix"])
        self.read_only: Final = bool(status["read_only"])
        self.store: Final = str(status["store"])
        # The daemon may know a later time than this process. At that time, exceptions may have ended. So use
        # only canaries with the same answer in both engines.
        self.lasting = engine
        if engine.policy.exceptions:
            self.lasting = compile_policy(with_exceptions(engine.policy, ()), monitor=engine.monitor)
        self.callers, self.left_out = self._callers()

    def _callers(self) -> tuple[list[Caller], int]:
        """Return the callers for sample requests (apps and one stranger), and the number of apps left out."""
        if self.app is not None:
            uids = next(app.uids for app in self.engine.policy.apps if app.name == self.app)
            uid = self._uid if self._uid is not None else uids[0][0] if uids else _NOBODY[0]
            gid = self._gids[0] if self._gids else uid
            is_whole = self._uid is not None and len(self._gids) == 1  # MountOptions.kernel_admits
            return [Caller(self.app, Identity(uid, gid, is_whole))], 0
        found = [
            Caller(app.name, Identity(app.uids[0][0], (app.gids or app.uids[0])[0]))
            for app in self.engine.policy.apps
            if app.uids
        ]
        stranger = next((uid for uid in _NOBODY if self.engine.principal(uid).app is None), None)
        strangers = [] if stranger is None else [Caller("stranger", Identity(stranger, stranger))]
        return [*found[:MOST_CALLERS], *strangers], max(0, len(found) - MOST_CALLERS)

    def prove_planted(self, mount_fd: int, store_fd: int, status: Callable[[], Json]) -> Counter[str]:
        """Make the requests that the policy suggests, in a mount whose store belongs to this test alone.

        mount_fd, store_fd: descriptors of the mountpoint and of the store, which is empty. status: a function
        that returns the status of the mount.
        """
        nest = Nest(self.engine)
        wanted = {one: self._undated(one, self._canaries(nest, one), _FILE) for one in self.callers}
        kept = planted(store_fd, [one for some in wanted.values() for one in some], photo())
        counts: Counter[str] = Counter()
        for caller, some in wanted.items():
            found = list(filter(kept, some))
            passed = [one for one in found if one.sort is Sort.PASSTHROUGH]
            others = [one for one in found if one.sort is not Sort.PASSTHROUGH]
            counts += self._compared(mount_fd, caller, others, reads=True)
            before = status() if passed else {}
            counts += self._compared(mount_fd, caller, passed, reads=True)
            if passed and (wrong := not_passed(before, status())):
                raise _wrong(_MEMORY, caller, passed[-1], wrong)
        return counts

    def prove_live(self, mount_fd: int) -> Counter[str]:
        """Make requests that change nothing in a mount of the real store. mount_fd: the mountpoint."""
        counts: Counter[str] = Counter()
        for caller in self.callers:
            found = known_files(self.store, self.engine, caller.principal(self.engine, self.app))
            counts += self._compared(mount_fd, caller, self._undated(caller, found, NO_FACTS), reads=False)
        if self._uid is not None:
            other = next(uid for uid in _NOBODY if uid != self._uid)
            intruder = Caller("another user", Identity(other, _NOBODY[0], is_whole=True))
            root = Canary(Sort.DENIAL, b"/", Op.READ)
            if not _answers(mount_fd, intruder, [root], reads=False)[0].errno:
                raise _wrong(_LIVE, intruder, root, "the mount admits this user")
        return counts

    def _canaries(self, nest: Nest, caller: Caller) -> list[Canary]:
        found = nest.canaries(lambda engine: caller.principal(engine, self.app), _FILE)
        return [one for one in found if not (self.read_only and one.op in {Op.WRITE, Op.DELETE})]

    def _undated(self, caller: Caller, found: Sequence[Canary], facts: Facts) -> list[Canary]:
        return undated(found, self.lasting, caller.principal(self.lasting, self.app), facts)

    def _compared(
        self, mount_fd: int, caller: Caller, asked: Sequence[Canary], *, reads: bool
    ) -> Counter[str]:
        """Make the requests of one caller, and compare the answers. Return the number of right answers."""
        where = _MEMORY if reads else _LIVE
        answers = _answers(mount_fd, caller, asked, reads=reads) if asked else []
        for canary, answer in zip(asked, answers, strict=True):
            wrong, last = self._fault(mount_fd, caller, canary, answer, reads=reads)
            if wrong and last.errno and last.errno not in ERRNO_RANK:
                failed = f"the request failed with {errno_name(last.errno)}, which no policy answers"
                raise NotProvedError(f"{_name(where, caller, canary)}: {failed}")
            if wrong:
                raise _wrong(where, caller, canary, wrong)
        return Counter(canary.sort.value for canary in asked)

    def _fault(
        self, mount_fd: int, caller: Caller, canary: Canary, answer: Answer, *, reads: bool
    ) -> tuple[str, Answer]:
        """Return the fault of an answer after several tries, while the file exists, and the last answer."""
        for tries in itertools.count(1):
            wrong = wrong_with(canary, answer, posix=self.posix, reads=reads)
            if not wrong or (canary.inode and not is_there(self.store, canary)):
                return "", answer
            may_change = canary.inode or (canary.sort is Sort.REDACTION and answer.errno)
            if tries == _TRIES or not may_change:
                return wrong, answer
            (answer,) = _answers(mount_fd, caller, [canary], reads=reads)
        raise AssertionError("the count never ends")


_MEMORY: Final = "in a store in memory"
_LIVE: Final = "in the mount"


def _answers(mount_fd: int, caller: Caller, asked: Sequence[Canary], *, reads: bool) -> list[Answer]:
    try:
        return ask(mount_fd, caller.identity, asked, reads=reads)
    except NoAnswerError as error:
        raise NotProvedError(f"{_MEMORY if reads else _LIVE}, {error}") from error


def _wrong(where: str, caller: Caller, canary: Canary, wrong: str) -> WrongAnswerError:
    rules = f" (rules: {', '.join(canary.rules)})" if canary.rules else ""
    return WrongAnswerError(f"{_name(where, caller, canary)}: {wrong}{rules}")


def _name(where: str, caller: Caller, canary: Canary) -> str:
    path = harmless(canary.path.decode("utf-8", "backslashreplace"))
    who = f"{caller.label} (uid {caller.identity.uid})"
    return f"canary {canary.sort.value}: {where}, {who}, {_VERBS[canary.op]} {path}"


_VERBS: Final = {Op.SEE: "see", Op.READ: "read", Op.WRITE: "write", Op.DELETE: "delete"}
