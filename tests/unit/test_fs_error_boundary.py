"""The boundary of the handlers: an errno passes, a bug is EIO and told, and nothing else gets out."""

from __future__ import annotations

import errno
import os

import pytest

from policyfs.fs.access.ledger import PolicyRecord, current
from policyfs.fs.error_boundary import guarded, guarded_now
from policyfs.fs.inodes.resolver import DirectoryMovedError
from policyfs.kernel.bridge import pyfuse3
from tests.support.mount.file_system import on_trio


class Handlers:
    """Handlers that raise, and what they told of bugs."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException]] = []
        self.ledgers: set[object] = set()
        self.policy_record = PolicyRecord()

    @property
    def bugs(self) -> Handlers:
        return self

    def bug(self, where: str, error: BaseException) -> None:
        self.told.append((where, error))

    @guarded
    async def later(self, error: BaseException | None) -> int:
        """Do something."""
        assert current() is not None, "events have a ledger to wait in"
        return self._raise(error)

    @guarded
    async def lookup(self, moves: list[object]) -> int:
        """Meet a moved directory each time."""
        self.ledgers.add(current())
        if moves:
            moves.pop()
            raise DirectoryMovedError
        return 7

    @guarded
    async def mkdir(self, moves: list[object]) -> int:
        return await Handlers.lookup.__wrapped__(self, moves)  # type: ignore[attr-defined]

    @guarded_now
    def now(self, error: BaseException | None) -> int:
        return self._raise(error)

    @staticmethod
    def _raise(error: BaseException | None) -> int:
        if error is not None:
            raise error
        return 7


def both(error: BaseException | None) -> tuple[set[int], list[str]]:
    """The errnos (or results) of both sorts of handlers, and where bugs were told."""
    handlers, found = Handlers(), set()

    @on_trio
    async def run() -> None:
        try:
            found.add(await handlers.later(error))
        except pyfuse3.FUSEError as refused:
            found.add(refused.errno)
        try:
            found.add(handlers.now(error))
        except pyfuse3.FUSEError as refused:
            found.add(refused.errno)

    run()
    return found, [where for where, _ in handlers.told]


def test_results_and_refusals_pass() -> None:
    assert both(None) == ({7}, [])
    assert both(pyfuse3.FUSEError(errno.EXDEV)) == ({errno.EXDEV}, [])


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_an_error_of_the_system_is_its_errno(code: int) -> None:
    assert both(OSError(code, os.strerror(code))) == ({code}, [])


@pytest.mark.parametrize("code", [512, 524, 4095, 0, -1])
def test_an_errno_that_the_kernel_takes_in_no_reply_is_an_io_error(code: int) -> None:
    assert both(OSError(code, "of the store")) == ({errno.EIO}, [])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBADF, "x"), OSError(errno.EFAULT, "x"), OSError(errno.ENOTSOCK, "x"),
        OSError(errno.EBADRQC, "x"),
        OSError("no errno"), KeyError("x"), AssertionError(), ValueError(),
        ExceptionGroup("several", [ValueError(), OSError(errno.ENOENT, "x")]),
    ],
)  # fmt: skip
def test_a_bug_is_an_io_error_and_is_told_with_its_handler(error: Exception) -> None:
    assert both(error) == ({errno.EIO}, ["later", "now"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_the_end_of_the_program_is_no_answer(error: BaseException) -> None:
    handlers = Handlers()
    with pytest.raises(type(error)):
        handlers.now(error)
    assert handlers.told == []


@on_trio
async def test_what_was_decided_by_an_old_path_begins_again() -> None:
    """A few times, and only what changes nothing. The kernel sends the other requests again."""
    handlers = Handlers()
    assert await handlers.lookup([0, 0, 0]) == 7
    assert len(handlers.ledgers) == 4
    for handler, moves in ((handlers.lookup, [0] * 4), (handlers.mkdir, [0])):
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await handler(moves)
        assert (refused.value.errno, moves) == (errno.ESTALE, [])


def test_a_handler_keeps_its_name() -> None:
    assert Handlers.later.__name__ == "later"
    assert Handlers.later.__doc__ == "Do something."
