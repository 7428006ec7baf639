"""The mount of one daemon: how it is made, detached while it is in use, and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from policyfs.daemon.end import CIRCLE, DETACHED, EndOfMount, MountEnd, MountTable
from policyfs.daemon.kills import Killed, Kills
from policyfs.daemon.lock_circle import UNKNOWN, LockCircle, disk_of
from policyfs.daemon.log import Log, Notice
from policyfs.daemon.options import MountOptions
from policyfs.daemon.pace import at_next
from policyfs.journal.writing.programs import executable
from policyfs.kernel import own_proc, session
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.fusectl import ControlFiles
from policyfs.kernel.readiness import Readiness
from policyfs.linux import bounded_reads, procfs
from policyfs.linux.mountinfo import mounts_of_device
from policyfs.store.locking.holders import Holder, has_open, holders

_LAST_MOUNT_S: Final = 0.5
_HOLDERS_S: Final = 5.0
_TABLE_PAUSE_S: Final = 0.05
_TABLE_LOOK_S: Final = 5.0


def read_own_proc(undo: contextlib.ExitStack, log: Log) -> None:
    """Make the daemon read /proc by its own instance of procfs (own_proc.py), until *undo* is closed. If this
    is not possible, log a warning."""
    try:
        undo.callback(own_proc.end, own_proc.own_proc())
    except OSError as error:
        log.warning(
            "the daemon cannot have its own instance of procfs: a process that locks its directory in /proc"
            " can make the mount wait", error=error.strerror,
        )  # fmt: skip


class Mountpoint:
    """A mounted FUSE device. close() removes the mount, so that no dead one stays. readiness: waits for
    requests of the session; None before it runs. has_begun: True once the daemon reads requests."""

    def __init__(
        self, options: MountOptions, end: EndOfMount, log: Log, kills: Kills,
        *, read_only: bool, guard: Callable[[int], None], adopted: session.Device | None = None,
    ) -> None:  # fmt: skip
        """Mount, or raise MountError. adopted: the mounted device of a daemon that has died. guard: gives
        another process the descriptor that ends the connection of a killed daemon, even if threads wait."""
        self._path = options.mountpoint
        self._end = end
        self._log = log
        self._kills = kills
        self._is_adopted = adopted is not None
        self._undo = contextlib.ExitStack()
        self.readiness: Readiness | None = None
        self.has_begun = False
        self.circle = LockCircle(
            self._kill_writer, self._end_circle, self._is_user, disk_of(Path(options.store)), procfs.root()
        )
        self._undo.callback(self.circle.close)
        with self._undo:
            self._table = MountTable()  # opened before the mount, so that the mount's end is a change
            self._undo.callback(self._table.close)
            self._control_files = self._open_control_files(of_app=options.kernel_admits)
            self.device = adopted or self._mounted(options, read_only=read_only)
            self._undo.callback(self._unmount_at_end)
            self._undo.callback(os.close, self.device.fd)
            self._guard(guard)
            self._undo = self._undo.pop_all()

    def _mounted(self, options: MountOptions, *, read_only: bool) -> session.Device:
        try:
            return session.mount_device(
                options.mountpoint, source=options.store, control=self._control_files,
                user_id=(options.user_id or 0) if options.kernel_admits else 0,
                group_id=options.group_ids[0] if options.kernel_admits else 0,
                allow_other=not options.kernel_admits, default_permissions=options.posix,
                read_only=read_only, place_fd=options.place_fd, user_namespace=options.user_namespace,
            )  # fmt: skip
        finally:
            if options.place_fd is not None:
                os.close(options.place_fd)

    @property
    def is_mounted(self) -> bool:
        """True if this daemon's mount is at its mountpoint."""
        return any(mount.device == self.device.conn_id for mount in self._table.at(self._path))

    @property
    def _is_uncovered(self) -> bool:
        """True if this daemon's mount is the topmost at its mountpoint. INVARIANT: only then it unmounts:
        umount2(2) removes the topmost mount, perhaps an administrator's disk."""
        there = self._table.at(self._path)
        return bool(there) and there[-1].device == self.device.conn_id

    async def gone(self) -> None:
        """Wait until the mount is not at its mountpoint any more, although it is still in use (umount -l)."""
        while self.is_mounted:
            # A change right before this wait would not be reported: the kernel's poll has consumed it.
            with trio.move_on_at(at_next(_TABLE_LOOK_S)) as waiting:
                await self._table.changed()
            if not waiting.cancelled_caught:
                await trio.sleep(_TABLE_PAUSE_S)  # so that one look serves several changes
        await trio.sleep(_LAST_MOUNT_S)  # an unmount of an unused mount ends the session at once

    def detached(self) -> MountEnd | None:
        """Record that the mount is detached but in use, and return the MountEnd; None if the session has
        ended. Call this after gone()."""
        if not session.is_connected(self.device):
            return None
        return self._end.by(MountEnd("outside", DETACHED))

    async def finish(self) -> None:
        """Unmount and let the session end. A busy mount is detached, and its users are logged."""
        if not self._is_uncovered:
            if self.is_mounted:
                self._log.warning(
                    "another mount covers this mount, so this mount stays, without a daemon: unmount the"
                    " other mount, then run `policyfs umount`", path=self._path,
                )  # fmt: skip
            self.leave()
            return
        try:
            await self._unmount()
        except (session.MountError, RuntimeError) as error:  # RuntimeError: no thread can be started
            if isinstance(error, session.MountError) and error.errno == errno.EBUSY:
                who: list[Holder] = []
                # INVARIANT: the mount is detached even if its users are unknown. A process can make every
                # look at its mappings wait.
                with contextlib.suppress(OSError, RuntimeError), trio.move_on_after(_HOLDERS_S):
                    path = os.fsencode(self._path)
                    who = await trio.to_thread.run_sync(holders, path, abandon_on_cancel=True)
                self._log.warning("detached while busy", holders=[str(holder) for holder in who])
            if self._is_uncovered:  # again: the search for users takes time
                with contextlib.suppress(session.MountError):
                    # INVARIANT: by force, because no task answers requests from here on. See cut_off().
                    session.unmount(self._path, lazy=True, force=True)
            self.leave()

    def leave(self) -> None:
        """End the session now, even if a mount of it still exists. INVARIANT: the connection is aborted: no
        task answers any more, and a thread could wait for a lock of an app that waits for an answer."""
        pyfuse3.terminate()
        if self.readiness is not None:
            self.readiness.end()
        self.cut_off()

    def cut_off(self) -> None:
        """Abort the connection, so that all waiting requests fail. Otherwise a notification could wait in the
        kernel, deaf to signals, for a lock of an app that waits for an answer: neither would ever end."""
        if session.is_connected(self.device):
            with contextlib.suppress(OSError, session.MountError):
                files = self._control_files
                aborted = files is not None and files.abort(self.device.conn_id)
                if not aborted and self._is_uncovered:
                    session.unmount(self._path, lazy=True, force=True)

    def _kill_writer(self, pid: int, waited_s: float) -> bool:
        """Kill the process for whose read or write the loop waits; called on another thread. waited_s: the
        seconds for which it was seen to wait. Return False if it cannot be killed, or is the daemon."""
        if pid in {os.getpid(), UNKNOWN}:
            return False
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False
        program = _program(pid)
        try:
            uid = procfs.owner(pid)
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(process)
        self._kills.add(Killed(pid, uid, program, CIRCLE, waited_s))
        with contextlib.suppress(OSError):  # a log that cannot be written must not end the mount
            Notice.PROGRAM_KILLED.tell(
                self._log, reason=CIRCLE, pid=pid, uid=uid, exe=program, blocked_s=round(waited_s, 1)
            )
        return True

    def _is_user(self, pid: int) -> bool:
        return bounded_reads.one(pid, lambda: has_open(pid, f"0:{self.device.conn_id}"), otherwise=False)

    def _end_circle(self, pid: int) -> None:
        """End the connection, not on the loop's thread. pid: of the waiting write, or UNKNOWN."""
        uid = None
        with contextlib.suppress(OSError):
            uid = procfs.owner(pid)
        self._end.by(MountEnd("error", CIRCLE, pid or None, uid, _program(pid)))
        self.cut_off()  # before the log, which may hang or fail
        Notice.MOUNT_ENDED.tell(self._log, how=CIRCLE, pid=pid)

    def close(self) -> None:
        """Remove the mount if it is still there, and close the device. A second call does nothing."""
        self._undo.close()

    async def _unmount(self) -> None:
        """Unmount, and end the session. Raises MountError if the mount is busy. Mounts of it in other places
        (kernel/targets.py) or mount namespaces, which would keep the session, are cut off."""
        await trio.to_thread.run_sync(session.unmount, self._path)
        if mounts_of_device(self.device.conn_id):
            self.leave()
            return
        with trio.move_on_after(_LAST_MOUNT_S):
            while session.is_connected(self.device):  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)
            return
        self._log.warning(
            "the mount is removed here; another mount namespace still has it, and all requests there fail"
        )
        self.leave()

    def _unmount_at_end(self) -> None:
        if self._is_adopted and not self.has_begun:
            return  # the take-over has failed: apps must get errors, not the empty directory below
        with contextlib.suppress(session.MountError):
            if self._is_uncovered:
                session.unmount(self._path, lazy=True)

    def _guard(self, guard: Callable[[int], None]) -> None:
        """Give another process the control file that ends the connection. Without fusectl do nothing."""
        if self._control_files is None:
            return
        abort_fd = self._control_files.open_abort(self.device.conn_id)
        try:
            guard(abort_fd)
        finally:
            os.close(abort_fd)

    def _open_control_files(self, *, of_app: bool) -> ControlFiles | None:
        """Open the control files; None in a user namespace, where fusectl cannot be mounted. of_app: True if
        an app gets them."""
        try:
            control_files = ControlFiles()
        except OSError as error:
            what = "fusectl cannot be mounted here: only a forced unmount ends requests that hang"
            if of_app:
                what = "the user of this app mount owns the connection's control files, and can end the mount"
            self._log.warning(what, reason=error.strerror)
            return None
        self._undo.callback(control_files.close)
        return control_files


def _program(pid: int) -> str:
    """Return the path of a process's executable; the empty string if the kernel does not tell in time."""
    return bounded_reads.one(pid, lambda: executable(pid), otherwise="")
