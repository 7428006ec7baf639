"""Guards of what is read (threats A), taken out, and parsers that are not what they should be."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import Any, Final

import policyfs.content.plans as plans_module
import policyfs.content.workers.execution as execution_module
import policyfs.fs.opening.write_access as write_access_module
import policyfs.fs.redacted.copies as redactor_module
from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.pool import Pool
from policyfs.domain import Principal
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.linux.libc import proc_fd
from policyfs.policy.rules.table import Table
from policyfs.redact.plan import Outcome, Plan
from policyfs.store.frozen import Frozen, Version
from tests.attack.guards import named, put
from tests.attack.guards_writing import WAITS, stopper

_ZYGOTE: Final = "policyfs.content.workers.zygote"


def parsers(module: str) -> None:
    """Let workers come from another zygote."""
    popen = subprocess.Popen

    def start(words: list[str], **named: Any) -> Any:
        assert any(_ZYGOTE in word for word in words), "the zygote is started otherwise now"
        return popen([word.replace(_ZYGOTE, module) for word in words], **named)

    put(execution_module.subprocess, "Popen", start)


def lazy_parser() -> None:
    """Of all places in a file only the first is found."""
    parsers("tests.attack.parsers_lazy")


def broken_parser() -> None:
    """No guard is gone, but the parsers have bugs, and less time than usual to hang."""
    parsers("tests.attack.parsers_broken")
    put(Sniffer, "start", functools.partial(Sniffer.start, deadline_s=2.0))


def workers_are_nobody() -> None:
    """Workers run as nobody, as other programs do."""
    parsers("tests.attack.parsers_nobody")


def lying_parser() -> None:
    """No guard is gone, but workers were taken over, and have less time than usual to hang."""
    parsers("tests.attack.parsers_lying")
    put(Sniffer, "start", functools.partial(Sniffer.start, deadline_s=2.0))


def one_worker_for_all() -> None:
    """A worker serves whoever comes."""
    take = Pool.take

    async def anybody(self: Pool, lane: Any) -> Any:
        del lane
        return await take(self, "anybody")

    put(Pool, "take", anybody)


def uids_share_lanes() -> None:
    """All uids of an app share its nodes and its workers, even if rules tell them apart."""
    put(Principal, "lane", property(lambda self: self.app or self.uid))


def kinds_for_all_names() -> None:
    """The kernel keeps names, attributes and listings for all callers, though each one's worker decides."""
    put(Table, "asks_for_kind", lambda _self, _number: False)


def uncounted_bytes() -> None:
    """A plan may put into a file as many new bytes as it likes."""
    put(plans_module, "literal_bytes_for", lambda kind, head: 1 << 30)


def failure_is_clean() -> None:
    """Where nobody could look into a file, it has nothing to hide."""
    locate = Sniffer.index

    async def trusting(self: Sniffer, fd: int, what: frozenset[str], **named: Any) -> Any:
        kind, plan = await locate(self, fd, what, **named)
        return ("image/jpeg", Plan(Outcome.CLEAN)) if kind is None else (kind, plan)

    put(Sniffer, "index", trusting)


def shown_live() -> None:
    """A file that is no photo from a camera is shown as it is, and no copy of it."""
    freezes = redactor_module.freeze

    def freeze(src_fd: int, *more: Any) -> Frozen:
        if b"Exif" in os.pread(src_fd, 4096, 0):
            return freezes(src_fd, *more)
        fd = os.open(proc_fd(src_fd), os.O_RDONLY)
        status = os.fstat(fd)
        version = Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return Frozen(fd, "reflink", status.st_size, version)

    put(redactor_module, "freeze", freeze)


def own_for_ever() -> None:
    """Who could see all of a file when it was opened sees all of it as long as it is open."""
    put(Gate, "hidden_words", lambda self, handle: frozenset())


class _Everything(frozenset[str]):
    def __rsub__(self, other: Any) -> frozenset[str]:
        return frozenset()


def opened_for_ever() -> None:
    """What was shown under one policy is shown under the next, as long as it is open."""
    put(Handle, "hides", property(lambda self: _Everything()))
    put(LeasedFiles, "_current", lambda self, shown: shown.lease.holds())
    put(LeasedFiles, "_hides_enough", lambda self, shown, handle: True)


def never_rests() -> None:
    """A lease that was given up for a writer is taken again at once."""

    async def rest(self: LeasedFiles, ino_key: int) -> None:
        del self, ino_key

    put(LeasedFiles, "_rest", rest)


def stops_between_probes() -> None:
    """No guard is gone, but a writer's daemon stops before it asks once more for a lease to be given up."""
    stop, asked = stopper(), write_access_module.break_foreign

    def asking(fd: int) -> int | None:
        probe = asked(fd)
        if probe is None:
            stop()
        return probe

    put(write_access_module, "break_foreign", asking)


def says_that_it_rests() -> None:
    """No guard is gone, but the daemon says in a fifo that it leaves a moment to a writer."""
    says, rest = os.open(os.environ[WAITS], os.O_RDWR), LeasedFiles._rest

    async def saying(self: LeasedFiles, ino_key: int) -> None:
        if self._resting.left_s(ino_key):
            os.write(says, b".")
        await rest(self, ino_key)

    put(LeasedFiles, "_rest", saying)


READING: Final = named(
    lazy_parser, broken_parser, failure_is_clean, uncounted_bytes, lying_parser, one_worker_for_all,
    uids_share_lanes, kinds_for_all_names, workers_are_nobody, shown_live, own_for_ever, opened_for_ever,
    never_rests, stops_between_probes, says_that_it_rests,
)  # fmt: skip
