"""The prover: a process that tests a mount with sample requests (canaries) before apps can reach the mount.

The command that mounts forks the prover before it forks the daemon. The daemon sends the descriptor of its
mount to the prover, before the mount has a path. The prover forks a second daemon, with the same code, policy
and options, over a small store in memory. Then the prover makes requests in both mounts, under the uids of
apps. In the store in memory the files are photos with a place, and requests may write and remove them. In the
real mount, requests change nothing in the store, not even an access time. If an answer differs from the
policy's, the mount is refused.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from policyfs.cli.canary_answers import not_passed, wrong_with
from policyfs.cli.canary_photo import KIND, photo
from policyfs.cli.canary_requests import Answer, Identity, NoAnswerError, ask
from policyfs.cli.canary_stores import is_there, known_files, memory_store, planted
from policyfs.daemon.proof_messages import MOST_BYTES, Json, decoded, encoded
from policyfs.domain import NO_FACTS, OWNER_NONE, Facts, Op, Principal
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.canaries import Canary, Nest, Sort, undated
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import harmless
from policyfs.policy.exceptions import with_exceptions

if TYPE_CHECKING:
    from policyfs.daemon.options import MountOptions
    from policyfs.daemon.policies import Loader

MOST_CALLERS: Final = 12
_START_S: Final = 60.0
_LAST_WORDS: Final = 1 << 17
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
        """Return the principal for the requests of this caller.

        app: the app of an app mount; None for a shared mount.
        """
        uid = self.identity.uid
        return engine.principal(uid) if app is None else engine.app_principal(app, uid)


class UnprovedError(Exception):
    """The error if the test of a mount fails. The message names the sample request and its fault."""


# -- in the command that mounts -------------------------------------------------------------------


@contextlib.contextmanager
def proving(options: MountOptions, loader: Loader) -> Iterator[tuple[MountOptions, Callable[[], None]]]:
    """Fork the prover (the process that tests a mount), unless --no-proof is set. Yield two values.

    The first value is the daemon's options. The second is a function that waits until the prover has attached
    the mount and ended. At the end of the context a prover that still runs is killed: the mount has
    failed then. Call proving() before any thread starts.
    """
    if not options.proof:
        yield options, lambda: None
        return
    from policyfs.daemon import daemon as _imported_for_all  # noqa: F401 - once for all forks

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    pids = [os.fork()]
    if pids == [0]:
        theirs.close()
        _become_prover(options, loader, ours)
    ours.close()
    pidfd = os.pidfd_open(pids[0])

    def wait() -> None:
        while pids:
            os.waitpid(pids.pop(), 0)

    try:
        yield replace(options, proof_fd=theirs.detach()), wait
    finally:
        if pids:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # a daemon that has served may not use kill(2)
        wait()
        os.close(pidfd)


# -- the prover -----------------------------------------------------------------------------------


def _become_prover(options: MountOptions, loader: Loader, channel: socket.socket) -> NoReturn:
    try:
        _prove(options, loader, channel)
    except Exception as error:  # noqa: BLE001 - the daemon is waiting
        with contextlib.suppress(OSError):  # a daemon that has ended reports its own error
            _send(channel, {"error": f"the proof of the mount could not be made: {error!r}"})
    finally:
        os._exit(0)


def _prove(options: MountOptions, loader: Loader, channel: socket.socket) -> None:
    """Test the mount, send the result to the daemon, and attach the mount to its path.

    channel: the socket between this process and the daemon.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    began = time.monotonic()
    try:
        mount_fd, result = _proof(options, loader, channel)
    except UnprovedError as error:
        reason = f"the proof of the mount failed: {error}"
        _send(channel, {"result": {"result": "failed", "reason": reason}})
        return
    took_ms = round((time.monotonic() - began) * 1000)
    _send(channel, {"result": {"result": "held", **result, "took_ms": took_ms}})
    if "attach" in _received(channel):
        _attach(mount_fd, options.mountpoint, channel)


def _attach(mount_fd: int, mountpoint: str, channel: socket.socket) -> None:
    from policyfs.kernel.session import MountError, attach_mount, unmount

    try:
        attach_mount(mount_fd, mountpoint)
    except MountError as error:
        _send(channel, {"error": str(error)})
        return
    try:
        _send(channel, {"attached": True})
    except OSError:  # the daemon has ended meanwhile
        unmount(mountpoint, lazy=True)


def _proof(options: MountOptions, loader: Loader, channel: socket.socket) -> tuple[int, Json]:
    """Make the sample requests in the real mount, and in a mount over a store in memory.

    Return the real mount's descriptor, and the result. Raises UnprovedError.
    """
    sources = loader.read()
    engine = loader.compile(sources)
    # base: the policy without exceptions. The daemon may know a later time than this process. At that time,
    # exceptions may have ended. So use only canaries with the same answer in both engines (undated).
    base = engine
    if engine.policy.exceptions:
        base = compile_policy(with_exceptions(engine.policy, ()), monitor=engine.monitor)
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(memory_store())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        probe = _Probe(options, type(loader)(lambda: sources, lambda _: engine), memory, ours, theirs)
        stack.callback(probe.end)
        theirs.close()
        callers, left_out = _callers(options, engine)
        nest = Nest(engine)
        found = {
            caller: undated(
                _canaries(nest, caller, options), base, caller.principal(base, options.app), _FILE
            )
            for caller in callers
        }
        kept = planted(memory, [one for some in found.values() for one in some], photo())
        canaries = {caller: [one for one in some if kept(one)] for caller, some in found.items()}
        with probe.explained():
            in_memory = _Mount(ours, _mounted(ours), options, "in a store in memory")
        mount_fd = _mounted(channel)
        real = _Mount(channel, mount_fd, options, "in the mount")
        counts = in_memory.prove(canaries, reads=True)
        files = {
            caller: undated(
                known_files(options.store, engine, caller.principal(engine, options.app)),
                base, caller.principal(base, options.app), NO_FACTS,
            )
            for caller in callers
        }  # fmt: skip
        for sort, count in real.prove(files, reads=False).items():
            counts[sort] = counts.get(sort, 0) + count
        real.keeps_out()
    names = [caller.label for caller in callers]
    return mount_fd, {"canaries": counts, "callers": names, "callers_left_out": left_out}


def _canaries(nest: Nest, caller: Caller, options: MountOptions) -> list[Canary]:
    found = nest.canaries(lambda engine: caller.principal(engine, options.app), _FILE)
    return [one for one in found if not (options.read_only and one.op in {Op.WRITE, Op.DELETE})]


def _callers(options: MountOptions, engine: Engine) -> tuple[list[Caller], int]:
    """Return the callers for sample requests (apps and one stranger), and the number of apps left out."""
    apps = {app.name: app for app in engine.policy.apps}
    if options.app is not None:
        uids = apps[options.app].uids
        uid = options.user_id if options.user_id is not None else uids[0][0] if uids else _NOBODY[0]
        gid = options.group_ids[0] if options.group_ids else uid
        return [Caller(options.app, Identity(uid, gid))], 0
    found = [
        Caller(app.name, Identity(app.uids[0][0], (app.gids or app.uids[0])[0]))
        for app in engine.policy.apps
        if app.uids
    ]
    stranger = next((uid for uid in _NOBODY if engine.principal(uid).app is None), None)
    strangers = [] if stranger is None else [Caller("stranger", Identity(stranger, stranger))]
    return [*found[:MOST_CALLERS], *strangers], max(0, len(found) - MOST_CALLERS)


class _Mount:
    """A mount that is not attached to a path yet, with the channel (socket) to its daemon.

    where: its name in messages.
    """

    def __init__(self, channel: socket.socket, mount_fd: int, options: MountOptions, where: str) -> None:
        self._channel = channel
        self._mount_fd = mount_fd
        self._options = options
        self._where = where

    def prove(self, canaries: dict[Caller, list[Canary]], *, reads: bool) -> dict[str, int]:
        """Make the sample requests of all callers in this mount. Raises UnprovedError.

        Return a dictionary from each sort of answer (such as ``hiding``) to the number of such answers.
        reads: also list directories and read bytes.
        """
        counts: dict[str, int] = {}
        for caller, asked in canaries.items():
            before, passed = self._counts(), None
            for canary, answer in zip(asked, self._ask(caller, asked, reads=reads), strict=True):
                if canary.sort is Sort.REDACTION:
                    answer = self._once_more(caller, canary, answer)
                if wrong := self._wrong(caller, canary, answer, reads=reads):
                    raise self._unproved(caller, canary, wrong)
                counts[canary.sort.value] = counts.get(canary.sort.value, 0) + 1
                if canary.sort is Sort.PASSTHROUGH and not answer.errno:
                    passed = canary
            if passed is not None and (wrong := not_passed(before, self._counts(), reads=reads)):
                raise self._unproved(caller, passed, wrong)
        return counts

    def keeps_out(self) -> None:
        """Check that an app mount refuses a request of another user. Raises UnprovedError."""
        admitted = self._options.user_id
        if admitted is None:
            return
        other = Caller("another user", Identity(next(uid for uid in _NOBODY if uid != admitted), _NOBODY[0]))
        root = Canary(Sort.DENIAL, b"/", Op.READ)
        if not self._ask(other, [root], reads=False)[0].errno:
            raise self._unproved(other, root, "the mount admits this user")

    def _ask(self, caller: Caller, asked: Sequence[Canary], *, reads: bool) -> list[Answer]:
        try:
            return ask(self._mount_fd, caller.identity, asked, reads=reads)
        except NoAnswerError as error:
            raise UnprovedError(f"{self._where}, {error}") from error

    def _wrong(self, caller: Caller, canary: Canary, answer: Answer, *, reads: bool) -> str:
        """Return the fault of an answer, or an empty text.

        In the real store, another program may remove or replace the file meanwhile. So there several answers
        must be wrong while the store has the file.
        """
        wrong = wrong_with(canary, answer, posix=self._options.posix, reads=reads)
        for _ in range(_TRIES if canary.inode else 0):
            if not wrong or not is_there(self._options.store, canary):
                return ""
            (answer,) = self._ask(caller, [canary], reads=reads)
            wrong = wrong_with(canary, answer, posix=self._options.posix, reads=reads)
        return wrong if not canary.inode or is_there(self._options.store, canary) else ""

    def _once_more(self, caller: Caller, canary: Canary, answer: Answer) -> Answer:
        for _ in range(_TRIES - 1):
            if not answer.errno:
                break
            (answer,) = self._ask(caller, [canary], reads=True)
        return answer

    def _counts(self) -> Json:
        _send(self._channel, {"ask": "counts"})
        return _received(self._channel)

    def _unproved(self, caller: Caller, canary: Canary, wrong: str) -> UnprovedError:
        path = harmless(canary.path.decode("utf-8", "backslashreplace"))
        rules = f" (rules: {', '.join(canary.rules)})" if canary.rules else ""
        who = f"{caller.label} (uid {caller.identity.uid})"
        return UnprovedError(
            f"canary {canary.sort.value}: {self._where}, {who}, {_VERBS[canary.op]} {path}: {wrong}{rules}"
        )


_VERBS: Final = {Op.SEE: "see", Op.READ: "read", Op.WRITE: "write", Op.DELETE: "delete"}


# -- the daemon over the store in memory ----------------------------------------------------------


class _Probe:
    """The second daemon: a forked process with the options of the real daemon, over a store in memory."""

    def __init__(
        self, options: MountOptions, loader: Loader, memory: int, ours: socket.socket, theirs: socket.socket
    ) -> None:
        from policyfs.cli.serve import serve

        self._log = os.memfd_create("policyfs-proof-log")
        place = Path(f"/proc/self/fd/{memory}")
        self._pid = os.fork()
        if self._pid == 0:
            try:
                ours.close()
                os.dup2(self._log, 1)
                os.dup2(self._log, 2)
                os.environ["POLICYFS_RUNTIME_DIR"] = str(place / "run")
                own = replace(
                    options, store=str(place / "store"), trail=place / "trail" / "probe", keys=None, told={},
                    proof=False, proof_fd=theirs.fileno(), remembers=False,
                )  # fmt: skip
                serve(own, loader, lambda: None, as_json=True)
            except PolicyfsError as error:
                os.write(self._log, f"{error}\n".encode())
            except Exception as error:  # noqa: BLE001 - explained() reports it
                os.write(self._log, f"{error!r}\n".encode())
            finally:
                os._exit(1)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an error in the context into UnprovedError, with the last log line of the second daemon."""
        try:
            yield
        except (OSError, ValueError, TypeError) as error:
            words = os.pread(self._log, _LAST_WORDS, 0).decode("utf-8", "replace").strip()
            last = words.rpartition("\n")[2]
            why = last or error
            raise UnprovedError(
                f"the second daemon, whose store is in memory, did not serve its mount: {why}"
            ) from error

    def end(self) -> None:
        """Kill the second daemon. Its mount was attached to no path, and its files exist only in memory."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._log)


# -- messages -------------------------------------------------------------------------------------


def _mounted(channel: socket.socket) -> int:
    """Wait until a daemon has mounted.

    Return the descriptor of its mount, which comes with the daemon's first message.
    """
    _wait(channel)
    packet, fds, _, _ = socket.recv_fds(channel, MOST_BYTES, 1)
    decoded(packet, "the daemon")
    if len(fds) != 1:
        raise ValueError("the daemon sent no descriptor of its mount")
    return fds[0]


def _received(channel: socket.socket) -> Json:
    _wait(channel)
    return decoded(channel.recv(MOST_BYTES), "the daemon")


def _wait(channel: socket.socket) -> None:
    """Wait for a message, or for the end of the daemon. Raises ValueError after a minute (_START_S)."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(_START_S * 1000):
        raise ValueError(f"the daemon did not answer within {_START_S:g} s")


def _send(channel: socket.socket, message: Json) -> None:
    channel.send(encoded(message))
