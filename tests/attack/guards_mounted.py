"""Guards of the mount itself (threat F3), taken out."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any, Final

import trio

from policyfs.cli.mounts import run_command, run_user
from policyfs.content.sniffer import Sniffer
from policyfs.daemon import lock_circle
from policyfs.daemon.end import EndOfMount, MountEnd
from policyfs.daemon.keeper import keeper
from policyfs.daemon.lock_circle import LockCircle
from policyfs.daemon.mountpoint import Mountpoint
from policyfs.fs.checked import head_writes
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.handlers import Handlers
from policyfs.journal.writing import recorders
from policyfs.kernel import mount_api, own_proc, session, targets, vectors
from policyfs.kernel import notify as notify_module
from policyfs.kernel.fusectl import ControlFiles
from policyfs.kernel.notify import Notifier
from policyfs.linux import bounded_reads
from policyfs.linux.libc import NoReserve
from tests.attack.guards import named, put

FEW: Final = 8
"""Threads that may hang in the daemons of "few-notifiers" and "few-for-all"."""


def control_files_left() -> None:
    """A connection's control files belong to whom its mount admits, as the kernel makes them."""
    put(ControlFiles, "take", lambda self, conn_id: None)


def detached_unseen() -> None:
    """Nobody notices that the mount was taken out of the tree."""

    async def never(self: Any) -> None:
        await trio.sleep_forever()

    put(Mountpoint, "gone", never)


def end_unasked() -> None:
    """The daemon does not ask why its session has ended."""
    put(EndOfMount, "by", lambda self, end: MountEnd("command", ""))
    put(EndOfMount, "end", MountEnd("command", ""))


def one_recorder() -> None:
    """A trail takes one recorder: who comes while another lives is refused."""
    put(recorders, "_AT_ONCE", 1)


def roots_reserve() -> None:
    """Bytes are written, and backing files registered, as root."""
    put(NoReserve, "__enter__", lambda self: None)
    put(NoReserve, "__exit__", lambda self, *_: None)


def changed_on_the_loop() -> None:
    """Checked writes, and the looks at what is in the file, are done where everybody waits for them."""

    async def on_loop(self: ChangeLock, fd: int, fence: Any, change: Any) -> Any:
        async with self.on(fd):
            fence()
            return change()

    async def read(fd: int, offset: int, size: int) -> bytes:
        return os.pread(fd, size, offset)

    put(ChangeLock, "in_thread", on_loop)
    put(head_writes, "read_store", read)


def writable_after_all() -> None:
    """A read-only mount relies on the kernel, which refuses changes of the app's mount."""
    put(mount_api, "unchangeable", os.dup)
    put(Handlers, "_may_change", lambda self: None)


def directory_kept() -> None:
    """A command that runs as an app stays in the working directory of whoever started it."""
    put(run_command, "_stand_at", lambda path: None)


def descriptors_kept() -> None:
    """A command that runs as an app inherits all descriptors."""
    put(run_command, "_close_others", lambda: None)


def descriptors_kept_above() -> None:
    """A command that runs as an app inherits the descriptors above the limit."""
    put(run_command, "_close_others", lambda: os.closerange(3, os.sysconf("SC_OPEN_MAX")))


def terminal_kept() -> None:
    """A command that runs as an app has the terminal of its caller."""
    put(run_command, "terminal_for", lambda uid: None)


def user_kept() -> None:
    """A command that a user runs without root is root of the user's namespace, as the daemon is."""
    put(run_user.User, "take", lambda self: None)


def environment_kept() -> None:
    """A command that runs as an app has all variables of the caller."""
    put(run_command.Identity, "environment", lambda self: dict(os.environ))


def processes_kept() -> None:
    """What a command leaves behind goes on, with the terminal of the caller."""
    terminal_kept()
    put(run_command, "fork_first_process", os.fork)


def keyring_kept() -> None:
    """A command that runs as an app has the caller's session keyring."""
    put(run_command, "leave_session_keyring", lambda: None)


def one_notifier() -> None:
    """One thread writes all notifications, also if one of them hangs."""
    put(Notifier, "tend", lambda self: None)


def few_notifiers() -> None:
    """No guard is gone, but an app has held enough directories after a few."""
    put(notify_module, "_HANGING", FEW)
    put(notify_module, "_IN_DIRECTORIES", FEW // 2)


def few_for_all() -> None:
    """The same, and a message for a directory may take the last thread."""
    few_notifiers()
    put(notify_module, "_IN_DIRECTORIES", 1 << 20)


def circle_unseen() -> None:
    """Nobody looks whether the loop and a write wait for each other."""
    put(LockCircle, "beat", lambda self: None)


def readers_unseen() -> None:
    """Nobody looks at the bridge's readers. They read the device from the first request on."""
    put(lock_circle, "_READER", "nobody")
    put(lock_circle, "LOOK_S", 0.15)
    vectors.set_shares(0, 0)


def connection_unguarded() -> None:
    """A killed daemon's connection ends when the kernel has freed the daemon's threads."""
    put(Sniffer, "guard", lambda self, *args, **options: None)


def keeper_unfiltered() -> None:
    """The keeper may make all system calls."""
    put(keeper, "only_wait", lambda: True)


def faults_dumped() -> None:
    """At a fault in C, the daemon ends as the kernel ends every program."""
    put(session, "end_at_faults", lambda: None)


def removal_unanswered() -> None:
    """No guard is gone, but a removal drops its name from the kernel's cache, and gets no answer. The kernel
    has the directory's lock during the removal, and waits for this lock to drop the name."""
    notifiers: list[Notifier] = []
    make = Notifier.__init__

    def anew(self: Notifier, *parts: Any, **named: Any) -> None:
        make(self, *parts, **named)
        notifiers.append(self)

    async def unlink(self: Handlers, parent: int, name: bytes, ctx: object) -> None:
        notifiers[-1].inval_entry(parent, name, expire_only=False)
        await trio.sleep_forever()

    put(Notifier, "__init__", anew)
    put(Handlers, "unlink", unlink)


def proc_shared() -> None:
    """The daemon reads the files of other processes in /proc itself."""
    put(own_proc, "own_proc", lambda: ())
    put(own_proc, "end", lambda _: None)


def proc_unbounded() -> None:
    """The watchdog of the loop waits for each read of a file in /proc."""
    put(bounded_reads, "each", lambda pid, read: read())
    put(lock_circle, "LOOK_S", 0.15)


def targets_followed() -> None:
    """The directory of a target is looked up as any path is: symlinks are followed."""

    def followed(root: int, path: bytes, flags: int, *, one_mount: bool) -> int:
        return os.open(path, flags, dir_fd=root)

    put(targets, "open_beneath", followed)


def targets_late() -> None:
    """No guard is gone, but targets after the first are bound only once a file in the runtime directory is
    gone."""
    bind, late = targets.bind, f"{os.environ['POLICYFS_RUNTIME_DIR']}/late"

    def waiting(place: str, *arguments: object, **more: object) -> None:
        while not place.endswith("/films") and os.path.exists(late):
            time.sleep(0.01)
        bind(place, *arguments, **more)  # type: ignore[arg-type]

    put(targets, "bind", waiting)


def targets_fail() -> None:
    """No guard is gone, but no target can be bound."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    put(targets, "bind", fails)


def targets_killed() -> None:
    """No guard is gone, but the process that binds targets is killed."""
    put(targets, "bind", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))


MOUNTED: Final = named(
    circle_unseen, readers_unseen, control_files_left, detached_unseen, end_unasked, one_recorder,
    roots_reserve, changed_on_the_loop, one_notifier, few_notifiers, few_for_all, directory_kept,
    descriptors_kept, descriptors_kept_above, terminal_kept, processes_kept, environment_kept,
    user_kept, keyring_kept, connection_unguarded, keeper_unfiltered, faults_dumped, removal_unanswered,
    proc_shared, proc_unbounded, writable_after_all, targets_followed, targets_late,
    targets_fail, targets_killed,
)  # fmt: skip
