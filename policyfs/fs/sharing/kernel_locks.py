"""Waits of requests during which the kernel holds a lock: a limit for each request, and a share for each app.

The kernel holds a directory's lock during LOOKUP, READDIR, CREATE, UNLINK and other requests about names. It
holds a lock of the whole mount during a RENAME between directories. If such a request waits, all other apps
wait that use the directory, or that rename. So its wait ends after MOST_S, or earlier if the app has used up
its shares of such waits: one of short waits, which an honest app needs for each file that it names, and a
smaller one of all further time. Then the request fails with LateError. (In the mount of one app, no other app
waits, and nothing is limited.)

A handler of such a request has the decorator `locked`. All code below the handler waits through this module,
and need not know what kind of request it serves.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, Token
from typing import Concatenate, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeVar

import trio

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MOST_S: Final = 0.3
"""The longest wait of one request under a lock of the kernel, in seconds. An app that has not waited under
such locks for a while can wait for this time in one go."""
SHARE: Final = 0.02
"""The share of the time during which one app's requests may wait longer than SHORT_S under locks of the
kernel. (If several of these requests wait at the same time, this time counts once.)"""
SHORT_S: Final = 0.02
"""The first part of each wait, in seconds. It counts in a share of its own: it delays another app's request
no more than a seek of a disk does. Without this, a program that moves each file that it has written (rsync,
git) would soon fail."""
SHORT_SHARE: Final = 0.2
"""The share of the time that the first parts of an app's waits may take. An app that has not waited for a
while can use this number of seconds in one go."""
_TASKS: Final = 16
"""The limit of one app's pieces of work that go on although no request waits for them any more."""
_REMEMBERED: Final = 256
"""The number of apps and strangers from which on unused accounts are dropped."""


class LateError(OSError):
    """The error for a request that would have to wait too long under a lock of the kernel. Its errno is the
    one that `locked` gives for this kind of request; EIO without a lock."""

    def __init__(self, error: int = 0) -> None:
        lock = _LOCK.get()
        code = error or (errno.EIO if lock is None else lock.error)
        super().__init__(code, "the answer takes too long for a request under a lock of the kernel")


class _Lock(NamedTuple):
    """A lock of the kernel that is held until the request's answer. error: the errno of a late answer.

    waits: False if the request never waits for a worker. left: True in work that goes on apart from the
    request, so that no lock waits for it.
    """

    error: int
    waits: bool = True
    left: bool = False


_LOCK: Final[ContextVar[_Lock | None]] = ContextVar("lock", default=None)


class _UnderLock:
    """A context in which the current work has a lock of the kernel, or none."""

    __slots__ = ("_lock", "_token")

    def __init__(self, lock: _Lock | None) -> None:
        self._lock = lock
        self._token: Token[_Lock | None]

    def __enter__(self) -> None:
        self._token = _LOCK.set(self._lock)

    def __exit__(self, *_error: object) -> None:
        _LOCK.reset(self._token)


def is_urgent() -> bool:
    """Return True if the current work was begun by a request under a lock of the kernel."""
    return _LOCK.get() is not None


def is_locked() -> bool:
    """Return True if the kernel holds a lock until the end of the current work."""
    lock = _LOCK.get()
    return lock is not None and not lock.left


@contextmanager
def short() -> Iterator[None]:
    """End the wait inside the context after MOST_S with LateError, if the kernel holds a lock meanwhile. For
    waits that no app can cause, such as waits for the trail's disk: they count in no app's share."""
    with trio.move_on_after(MOST_S if is_locked() else float("inf")) as scope:
        yield
    if scope.cancelled_caught:
        raise LateError


class _Account:
    """One app's shares of waits under locks. tasks: pieces of work apart."""

    __slots__ = ("_at_s", "_left_s", "_long", "_short_s", "tasks")

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._left_s = MOST_S
        self._short_s = SHORT_SHARE
        self._long: list[float] = []  # for each request that waits: when its first part ends
        self.tasks = 0

    def begin(self, now_s: float) -> tuple[float, float]:
        """Begin a wait. Return the seconds of its first part, and of all."""
        left_s = self._left(now_s)
        short_s = min(SHORT_S, self._short_s)
        self._short_s -= short_s
        self._long.append(now_s + short_s)
        return short_s, min(MOST_S, short_s + max(0.0, left_s))

    def end(self, begin_s: float, short_s: float, now_s: float) -> None:
        """End a wait that began at *begin_s* with a first part of *short_s*."""
        self._left(now_s)
        self._short_s += max(0.0, short_s - (now_s - begin_s))
        self._long.remove(begin_s + short_s)

    def is_unused(self, now_s: float) -> bool:
        idle = not self.tasks and not self._long
        return idle and self._left(now_s) >= MOST_S and self._short_s >= SHORT_SHARE

    def _left(self, now_s: float) -> float:
        passed_s = now_s - self._at_s
        waited_s = max(0.0, now_s - max(self._at_s, min(self._long, default=now_s)))
        self._left_s = min(MOST_S, self._left_s + SHARE * passed_s - waited_s)
        self._short_s = min(SHORT_SHARE, self._short_s + SHORT_SHARE * passed_s)
        self._at_s = now_s
        return self._left_s


class _Result(Generic[T]):
    """The result of work that runs in a task of its own. given_up: True if no request waits for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.given_up = False
        self.value: T | None = None
        self.error: BaseException | None = OSError(errno.EIO, "the mount ends")


class KernelLocks:
    """The limiter of all waits under locks of the kernel in one mount. Event loop only."""

    def __init__(
        self, *, shared: bool = True,
        bug: Callable[[str, BaseException], None] = lambda _where, _error: None,
    ) -> None:  # fmt: skip
        """shared: False for the mount of one app. No other app waits there, so no wait has a limit. bug: logs
        an exception that is a bug, of work for which no request waits any more."""
        self.shared: Final = shared
        self._bug = bug
        self._accounts: dict[Hashable, _Account] = {}
        self._nursery: trio.Nursery | None = None
        self.late = 0
        """The number of waits that ended with LateError."""

    async def run(self) -> None:
        """Run the work that apart() gets, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def under_lock(self, error: int, *, waits: bool = True) -> _UnderLock:
        """Treat all waits inside the context as waits under a lock of the kernel. error: the errno of a
        request that would have to wait too long. waits: False if the request never waits for a worker."""
        return _UnderLock(_Lock(error, waits) if self.shared else None)

    @asynccontextmanager
    async def limit(self, holder: Hashable, error: int = 0) -> AsyncIterator[None]:
        """Let the code inside the context wait only as long as the app's share permits, then raise LateError.

        Without a lock of the kernel, the code may wait as long as it likes. error: an errno instead of the
        one for this kind of request.
        """
        if not is_locked():
            yield
            return
        account, now_s = self._account(holder), trio.current_time()
        short_s, most_s = account.begin(now_s)
        try:
            with trio.CancelScope(deadline=now_s + most_s) as scope:
                yield
        finally:
            account.end(now_s, short_s, trio.current_time())
        if scope.cancelled_caught:
            self.late += 1
            raise LateError(error)

    async def apart(
        self, holder: Hashable, work: Callable[[], Awaitable[T]],
        release: Callable[[], object] = lambda: None, *, error: int = 0,
    ) -> T:  # fmt: skip
        """Return the result of *work*, or raise its exception; raise LateError as limit() does.

        Under a lock of the kernel the work goes on after LateError, so that a later request finds its result
        in a cache. So the work is not for the answer alone, and is not cancelled half-way.

        release: called once if this method raises an exception, as soon as the work no longer runs. It frees
        what belongs to the result.
        """
        lock = _LOCK.get()
        if lock is None or lock.left or self._nursery is None:
            try:
                return await work()
            except BaseException:
                release()
                raise
        account = self._account(holder)
        if not lock.waits or account.tasks >= _TASKS:
            self.late += 1
            release()
            raise LateError(error)
        result = _Result[T]()
        account.tasks += 1
        self._nursery.start_soon(self._work, account, work, release, result)
        try:
            async with self.limit(holder, error):
                await result.done.wait()
        except BaseException:
            result.given_up = True
            if result.done.is_set():
                release()
            raise
        if result.error is not None:
            release()
            raise result.error
        return result.value  # type: ignore[return-value]  # set if there is no error

    async def _work(
        self, account: _Account, work: Callable[[], Awaitable[T]], release: Callable[[], object],
        result: _Result[T],
    ) -> None:  # fmt: skip
        lock = _LOCK.get()
        _LOCK.set(None if lock is None else lock._replace(left=True))
        try:
            result.value = await work()
            result.error = None
        except Exception as error:  # noqa: BLE001 - the request raises it
            result.error = error
            if result.given_up and not isinstance(error, OSError):
                self._bug("work apart", error)
        finally:
            account.tasks -= 1
            if result.given_up:
                release()
            result.done.set()

    def _account(self, holder: Hashable) -> _Account:
        account = self._accounts.get(holder)
        if account is None:
            now_s = trio.current_time()
            if len(self._accounts) >= _REMEMBERED:
                used = {who: one for who, one in self._accounts.items() if not one.is_unused(now_s)}
                self._accounts = used
            account = self._accounts[holder] = _Account(now_s)
        return account


class HasKernelLocks(Protocol):
    """An object with handlers of requests."""

    @property
    def kernel_locks(self) -> KernelLocks:
        """The limiter of the mount."""


S = TypeVar("S", bound=HasKernelLocks)


def locked(
    error: int, *, waits: bool = True
) -> Callable[
    [Callable[Concatenate[S, P], Coroutine[object, object, R]]],
    Callable[Concatenate[S, P], Coroutine[object, object, R]],
]:
    """Return a decorator for a handler of a request during which the kernel holds a lock. For the arguments,
    see KernelLocks.under_lock()."""

    def decorate(
        handler: Callable[Concatenate[S, P], Coroutine[object, object, R]],
    ) -> Callable[Concatenate[S, P], Coroutine[object, object, R]]:
        @functools.wraps(handler)
        async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self.kernel_locks.under_lock(error, waits=waits):
                return await handler(self, *args, **kwargs)

        return wrapper

    return decorate
