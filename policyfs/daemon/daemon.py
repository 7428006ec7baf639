"""The assembly of all parts of one mount's daemon, the run of the daemon, and its end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Final

import trio

from policyfs.content.disk_cache import remembered_for
from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.execution import LauncherProcess
from policyfs.daemon import descriptors
from policyfs.daemon.commands import commands, release_brake, tell_brake
from policyfs.daemon.contain import close_door, give_up_rights
from policyfs.daemon.control import control
from policyfs.daemon.control import server as control_server
from policyfs.daemon.descriptors import small_part
from policyfs.daemon.duties import Duties, kept, once
from policyfs.daemon.end import ABORTED, UNMOUNTED, EndOfMount, MountEnd, SignalReader
from policyfs.daemon.garbage import Garbage
from policyfs.daemon.inotify import Inotify
from policyfs.daemon.keeper.hung_loop import HungLoop
from policyfs.daemon.keeper.upgrade import check_candidate, follow
from policyfs.daemon.kills import Kills
from policyfs.daemon.log import Bugs, Conditions, Log, Notice
from policyfs.daemon.mountpoint import Mountpoint, read_own_proc
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies.policies import Loader, Policies
from policyfs.daemon.policies.reload import Reload
from policyfs.daemon.status import conditions, describe, questions_about, root_of
from policyfs.daemon.worker_losses import WorkerLosses
from policyfs.domain import FileType, in_turn
from policyfs.errors import PolicyfsError
from policyfs.fs.access.brakes import Brakes
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.foundation import Foundation, Settings
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.inodes.vectors import MAX_DIRECTORIES, MAX_NODES
from policyfs.fs.kernel_cache.name_expiry import all_stay
from policyfs.fs.opening.stale_retries import MOST_RESTING
from policyfs.fs.saved.saved_handle import Setup
from policyfs.fs.sharing.pauses import in_slices
from policyfs.journal.sealing.heads import heads_if_any
from policyfs.journal.writing.recorders import open_journal
from policyfs.kernel import mount_api, session
from policyfs.kernel.bridge import Appender, counters, init_request
from policyfs.kernel.notify import Notifier
from policyfs.kernel.operations import Door
from policyfs.kernel.protocol import MINOR_INC_EPOCH, InitFlag
from policyfs.kernel.readiness import Readiness
from policyfs.linux import libc, procfs
from policyfs.linux.code_digest import code_digest
from policyfs.linux.confinement.namespaces import is_first_user_namespace
from policyfs.linux.memory import group_limit
from policyfs.linux.scheduling import SERVING_NICE, set_turns, weigh_own_session
from policyfs.linux.statx import ignore_birth_times
from policyfs.linux.threads import ParkedThread
from policyfs.policy.decide import Engine
from policyfs.store import quarantine as refused
from policyfs.store.facts import StoreFacts
from policyfs.store.kept.bins import Bins, machine_id
from policyfs.store.kept.kept_files import KeptFiles
from policyfs.store.kept.room import Room
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.owner import Owners
from policyfs.store.pool import Pool
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from policyfs.store.watch import Watch

_READY_S: Final = 20.0
_WATCH_PAUSE_S: Final = 0.005
"""The pause after events of the watch: those that come meanwhile are then read together."""
_SLICE_NS: Final = 100_000
"""The daemon's time slice in ns. Apps wait for the daemon, so it runs before processes that only compute."""
_MAX_TASKS: Final = session.IN_ALL + 256 + MOST_RESTING
"""Limit of tasks: IN_ALL requests, 256 for idle lanes and requests without a caller, MOST_RESTING opens."""
_THREADS: Final = _MAX_TASKS + 32
"""The limit of threads for calls that block: more than tasks, so no call waits for a thread."""


def _learn_next(resolver: Resolver, nodes: Iterator[Node]) -> bool:
    """Watch the next node, if it is a directory. Return False if there was none."""
    node = next(nodes, None)
    if node is not None and node.parent is not None and node.ftype is FileType.DIRECTORY:
        resolver.learn(node, node.parent, node.name)
    return node is not None


class Daemon:
    """All parts that serve one mount. They are built in order; close() ends them in reverse order."""

    def __init__(
        self, options: MountOptions, loader: Loader, log: Log, launcher: LauncherProcess,
        state: SavedState | None = None,
    ) -> None:  # fmt: skip
        """Build all parts. launcher: the executed launcher of workers, in the network of this process. state:
        the state that a daemon after this one continues, as this one continues that of the one before."""
        self._options = options
        self.state = state
        self._before = None if state is None else state.setup()
        self._restored: int | None = None  # open files and directories of the daemon before
        self.code = code_digest()  # what runs, also if other code is installed later
        self._log = log
        self._bugs = Bugs(log)
        self._undo = contextlib.ExitStack()
        self._listening = trio.Event()
        self._end = EndOfMount()
        self.started_ns = time.time_ns()
        """The start time of this daemon, in ns since 1970."""
        self.leaving = False
        """True if the mount has left its mountpoint, but open files or another namespace still use it."""
        with _undone_on_error(self._undo):
            self.policies = Policies(
                loader, options.trail.parent, log, succeeds=self._before.policy if self._before else "",
                saved_in=options.trail, in_force=_nobody_follows if state is None else state.use_policy,
            )  # fmt: skip
            self._undo.callback(self.policies.close)
            self._build(self.policies.engine, launcher)

    def _build(self, engine: Engine, launcher: LauncherProcess) -> None:
        self._build_processes(launcher)
        self._build_trail()
        owners = self._build_store()
        # From here on, signals wait until the daemon reads them, so that it removes the mount in order.
        self._signal_reader = SignalReader()
        self._undo.callback(self._signal_reader.close)
        self._garbage = Garbage(lambda: sum(counters().values()))
        self._mountpoint = Mountpoint(
            self._options, self._end, self._log, self._kills,
            read_only=self.facts.read_only or self._options.read_only,
            guard=partial(self.sniffer.guard, keeper=self._keeper_pid()), adopted=self._adopted(),
        )  # fmt: skip
        self._undo.callback(self._mountpoint.close)
        base = Foundation(
            tree=self._tree, facts=self.facts, owners=owners, sniffer=self.sniffer, keeper=self._keeper,
            watch=self._watch, journal=self.journal, remembered=self.remembered, warn=self._warn,
            quarantine=refused.Quarantine(self._options.trail / refused.NAME), pool=self._pool,
            brakes=Brakes(self._options.trail, partial(tell_brake, self.journal, self._log)),
            kept=self.kept,
        )  # fmt: skip
        self.fs = FileSystem(self._settings(), engine, base, self._bugs)
        self._undo.callback(self.fs.close)
        if self.state is not None:
            if self._before is None:
                self.fs.restoration.save_to(self.state)
            else:
                self._restored = self.fs.restoration.restore(self.state)
        self.inotify = self._inotify()
        self._reload = Reload(self._options, self.policies, self.fs, self._log, self.sniffer.parse)
        self._door = Door(self.fs.requests(), self._bugs, self.fs.quick_requests())

    def _keeper_pid(self) -> int:
        """Return the keeper's pid; 0 if there is none, or it has ended."""
        return self.state.keeper if self.state is not None and os.getppid() == self.state.keeper else 0

    def _adopted(self) -> session.Device | None:
        if self._before is None:
            return None
        return session.Device(self._before.device, self._options.mountpoint, self._before.connection)

    def _inotify(self) -> Inotify | None:
        options, announcements = self._options, self.fs.announcements
        if announcements is None:
            return None
        inotify = Inotify(
            options.mountpoint, announcements, self.sniffer.announcer, self._log.warning,
            uid=announcements.uid, gid=options.group_ids[0] if options.group_ids else announcements.uid,
            state=self.state,
        )  # fmt: skip
        self._undo.callback(inotify.close)
        return inotify

    def _announced_to(self) -> int | None:
        options = self._options
        if not options.inotify:
            return None
        if self.facts.read_only:
            self._log.warning("the store is read-only: inotify reports no change of the store")
            return None
        return self.sniffer.announcer_uid if options.user_id is None else options.user_id

    async def _announcing(self) -> None:
        if self.inotify is not None:
            await self.inotify.run(self.connection)

    def _build_processes(self, launcher: LauncherProcess) -> None:
        # INVARIANT: the keeper of leases blocks its signal before any thread starts.
        self._keeper = LeaseKeeper()
        self._undo.callback(self._keeper.close)
        read_own_proc(self._undo, self._log)
        self.sniffer = Sniffer.start(launcher, waits=self._before is None)
        self._undo.callback(self.sniffer.close)
        set_turns(nicer=SERVING_NICE, slice_ns=_SLICE_NS)  # after the sniffer's processes have started
        weigh_own_session(SERVING_NICE)
        give_up_rights(special_files=self._options.posix)

    def _build_trail(self) -> None:
        options, before = self._options, self._options.before
        is_upgrade = before is not None and before.serves
        self.journal, self.trail = open_journal(
            options.trail.parent, control.mount_id(options.mountpoint),
            keep=options.keep, segment_bytes=options.segment_bytes, keys=options.keys, appender=Appender(),
            upgrades=is_upgrade,
        )  # fmt: skip
        self._undo.callback(self._close_journal)
        self._losses = WorkerLosses(
            self.journal, lambda text: Notice.TRAIL_INCOMPLETE.tell(self._log, reason=text)
        )
        self._kills = Kills(self.journal)
        told = options.told
        if self._before is not None and self.state is not None:
            told = told | {"takeovers": self.state.takeovers + 1, **self._refused(self.state)}
            if before is not None and is_upgrade:
                told = told | {"upgraded_from": before.code}
        self.policies.begin(self.journal, self.trail, told)

    def _refused(self, state: SavedState) -> dict[str, int]:
        """Log the requests that get EIO, since they have probably killed daemons, and return their number."""
        _, guilty = state.suspects
        for one in guilty:
            Notice.DEADLY_REQUEST.tell(
                self._log, opcode=one.opcode, uid=one.uid, pid=one.pid, deaths=one.deaths
            )
        return {"eio": len(guilty)} if guilty else {}

    def _build_store(self) -> Owners:
        options = self._options
        tree = self._tree = Tree.open(options.store)
        self._undo.callback(tree.close)
        if self._before is not None and self._before.root != _inode_of(tree):
            raise PolicyfsError(f"{options.store} is not the directory that the killed daemon has served")
        if options.read_only:
            tree.look_by(_unchangeable(options.store, tree))
        self.facts = facts = probe(tree.making_fd, tree.root_fd)
        facts.check(options.store)
        self.root = root_of(tree, writable=not (facts.read_only or options.read_only))
        self._pool = Pool.of(tree.making_fd)
        if self._pool is not None:
            self._undo.callback(self._pool.close)
        if self._pool is not None or facts.delegates:
            self._keeper.release_early()
        tree.limit_to(facts)
        if facts.tried and not facts.birth_times:
            ignore_birth_times()
        if facts.checks_callers:
            libc.keep_user()
        if facts.squashes_root:
            self._log.warning(
                "the store's server gives root the rights of another user (root_squash), so apps cannot open"
                " files that this user may not open; `policyfs doctor` with the store tells what to do",
                uid=facts.root_as,
            )
        # See MountOptions.vectors.
        self._in_vectors = options.vectors and not facts.remote
        self._directories = descriptors.of_directories(MAX_DIRECTORIES if self._in_vectors else 0)
        database = str(options.trail.parent / "owners.sqlite") if facts.owners_in_database else None
        owners = Owners(facts.trusted_xattr, database)
        self._undo.callback(owners.close)
        self.remembered = None
        if facts.stable_inodes and facts.leases and facts.times_tell:
            path = str(options.trail.parent / "found.sqlite")
            self.remembered = remembered_for(path, tree.root_fd, self._log.warning, self._identify)
            self._undo.callback(self.remembered.close)
        self._watch = self._open_watch(facts)
        bins = Bins(tree.making_fd, machine_id())
        self._undo.callback(bins.close)
        room = Room(tree.making_fd, options.keep_bytes)
        self.kept = KeptFiles(tree, bins, room, most_bytes=options.keep_file_bytes)
        return owners

    def _identify(self, lane: Hashable) -> str:
        """Return a text for a lane, with the uids that are its app in this mount (Remembered)."""
        name, user = in_turn(lane), self._options.user_id
        uids = [pair for app in self.policies.engine.policy.apps if app.name == name for pair in app.uids]
        if user is not None and not any(first <= user <= last for first, last in uids):
            uids.append((user, user))
        return f"{lane!r} {sorted(uids)}"

    def _settings(self) -> Settings:
        options = self._options
        return Settings(
            mountpoint=options.mountpoint, store=options.store, app=options.app,
            device_fd=self._mountpoint.device.fd if options.passthrough else None,
            copy_bytes=options.copy_bytes, cache_bytes=self._copies_at_most(options.cache_bytes),
            directories=self._directories[0], descriptors=descriptors.of_open_files(),
            posix=options.posix, lock_owners=small_part(4096),
            copies=descriptors.of_copies(), nodes=options.nodes,
            latches=str(control.runtime_dir() / "changes.lock"),
            policy_modes=options.policy_modes, any_uid=options.any_uid, admitted=options.admitted,
            idmap=options.idmap,
            read_only=self.facts.read_only or options.read_only, xattrs=options.xattrs,
            vectors=self._in_vectors,
            announced_to=self._announced_to(),
            quarantine=refused.Limits(options.quarantine_bytes, options.quarantine_files),
        )  # fmt: skip

    def _copies_at_most(self, wanted: int) -> int:
        """Return the memory for copies: *wanted*, but at most half of the control group's memory limit.
        Otherwise the kernel might end the daemon, or a worker, in the middle of a copy."""
        if (limit := group_limit()) is None or wanted <= limit // 2:
            return wanted
        half = limit // 2
        self._log.info("memory for copies is half of the control group's limit", bytes=half, asked=wanted)
        return half

    def _warn(self, what: str, path: bytes) -> None:
        self._log.warning(what, path=os.fsdecode(path))

    def _open_watch(self, facts: StoreFacts) -> Watch | None:
        if not facts.fanotify:
            self._log.warning(
                "the store is not watched: apps see other programs' changes only after 1 s", store=facts.name
            )
            return None
        watch = Watch(self._tree.root_fd, writes=self._options.inotify)
        self._undo.callback(watch.close)
        return watch

    # -- running ------------------------------------------------------------------------------------

    @property
    def end(self) -> MountEnd:
        """The end of the mount: its cause, and the process that caused it."""
        return self._end.end

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until the mount ends. *ready* is called once the mount answers requests."""
        flags = self._door.init_flags
        if self._options.posix:
            flags |= InitFlag.POSIX_ACL  # mode bits alone would allow what an ACL denies
        if self._options.idmap:
            flags |= InitFlag.ALLOW_IDMAP
        readiness = self._mountpoint.readiness = session.attach(
            self.fs.handlers, self._mountpoint.device, passthrough=self._options.passthrough, flags=flags,
            vectors=(MAX_NODES, self._directories[1]) if self._in_vectors else None,
            answered=self._before.init if self._before is not None else b"",
            outliving=None if self.state is None else self.state.outliving(shared=self._options.app is None),
        )  # fmt: skip
        self.fs.listings.others_wait = readiness.others_wait
        self._undo.callback(readiness.close)
        self._undo.callback(session.close)  # the bridge's opens are on record by then
        self._undo.callback(self.fs.bridge_handles.end_all)
        self._garbage.start()
        trio.run(self._main, ready, readiness)

    async def _main(self, ready: Callable[[], None], readiness: Readiness) -> None:
        trio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        path = control.socket_path(self._options.mountpoint)
        server = control_server.claim(path)
        self._socket_inode = path.stat().st_ino
        try:
            # INVARIANT: this comes before the first request of any app.
            if not close_door(special_files=self._options.posix):
                self._log.warning("system calls are not filtered: `policyfs doctor` shows why")
            self._take()
            async with trio.open_nursery() as nursery:
                await nursery.start(self._door.serve)
                nursery.start_soon(self._fuse, readiness, nursery.cancel_scope)
                await self._negotiated()
                self._mountpoint.circle.beat()  # before an app can make the loop wait
                works = (*self._duties().works(self.kept), self._breaks, self._watching,
                         self.fs.kernel_locks.run, self.fs.locks.ask_again, self.fs.bridge_handles.events.run,
                         self.sniffer.tend, self.fs.quarantine.run, self.fs.late_writes.run,
                         *self._reload.works(), self._signals, self._places, self._announcing)  # fmt: skip
                for work in works:
                    nursery.start_soon(kept, self._bugs, work.__name__, work)
                await self._listening.wait()  # a process that finds the socket may send signals, too
                known = commands(
                    self._end, self._mountpoint, self._reload, lambda: describe(self),
                    partial(self.journal.tell, "proof"), self._follow,
                    lambda app, by: release_brake(self.fs.gate.brakes, self.journal, app, by),
                )  # fmt: skip
                listener, questions = control_server.answer_on(server), questions_about(self.fs)
                nursery.start_soon(control_server.serve, listener, known, self._bugs, questions)
                if self._restored is not None:
                    nursery.start_soon(kept, self._bugs, "take-over", self._forget)
                self._serves()
                ready()
        finally:
            server.close()
            control_server.release(self._socket_inode, self._options.mountpoint)
            with trio.CancelScope(shield=True):
                await self.sniffer.aclose()

    def _take(self) -> None:
        """Take the mount from the daemon before, right before the first request. Raises PolicyfsError if what
        that one has agreed on with the kernel cannot go on."""
        known, answer = self._before.flags if self._before is not None else 0, session.negotiated()
        if known and answer is not None and int(answer.flags) != known:
            raise PolicyfsError("this code uses other features of FUSE than the mount has")
        if self.state is not None:
            check_candidate(self.state)
        self._mountpoint.has_begun = True
        if self.state is not None and self.state.before is not None:
            self.state.before.take()
            self.fs.gate.brakes.load()  # one may have gone on since this daemon was built

    async def _follow(self, candidate: int, keeper: int) -> None:
        await follow(self.state, candidate, keeper, self.journal, self.fs.bridge_handles.events.settle)

    async def _fuse(self, readiness: Readiness, everything: trio.CancelScope) -> None:
        await readiness.serve(_MAX_TASKS)
        end = self._end.by(MountEnd("outside", ABORTED if self._mountpoint.is_mounted else UNMOUNTED))
        if end.cause == "outside":
            Notice.MOUNT_ENDED.tell(self._log, how=end.how)
        everything.cancel()

    async def _negotiated(self) -> None:
        with trio.fail_after(_READY_S):
            while (answer := session.negotiated()) is None:  # noqa: ASYNC110 - C code sets it
                await trio.sleep(0.002)
        passing = self.fs.passthrough
        inside = not is_first_user_namespace(procfs.text(os.getpid(), "uid_map"))
        if passing.enabled and (inside or not answer.passthrough):
            kernel = "the kernel has no FUSE passthrough (Linux 6.9 brought it)"
            passing.switch_off("the daemon runs in the user namespace of a container" if inside else kernel)
            self._log.warning("no passthrough: every read and write goes through the daemon", why=passing.why)
        self.fs.kernel_cache.notifier = Notifier(self._mountpoint.device.fd, minor=answer.minor)
        self._undo.callback(self.fs.kernel_cache.notifier.close)
        self._undo.callback(self._mountpoint.cut_off)
        self.fs.timeouts.forgets_absent = answer.minor >= MINOR_INC_EPOCH
        self.fs.changes.start()
        if self.state is not None:
            device = self._mountpoint.device
            digest, root = self.policies.engine.digest, _inode_of(self._tree)
            init, flags = init_request(), int(answer.flags)
            self.state.set_up(Setup(device.fd, device.conn_id, init, digest, root, flags))
            parked = ParkedThread()
            self._undo.callback(parked.end)
            self._undo.callback(self.state.park, 0)
            self.state.park(max(0, parked.pidfd))

    def _serves(self) -> None:
        if self.state is None:
            return
        self.state.serves(time.monotonic_ns())
        if self._restored is not None:
            notice = Notice.TAKEN_OVER
            if self._options.before is not None and self.state.upgrades[1]:
                notice = Notice.UPGRADED
                self._options.before.forget()
            pause_ms, lost = self.state.pause_ns // 1_000_000, len(self.fs.nodes.lost)
            notice.tell(self._log, pause_ms=pause_ms, handles=self._restored, lost=lost)

    async def _forget(self) -> None:
        """Make the kernel ask again for all that the daemon before had told, since meanwhile no change of the
        store was reported: first for what takes no time."""
        cache = self.fs.kernel_cache
        if cache.notifier is not None:
            cache.notifier.inval_inodes(self.fs.nodes.numbers())
        await in_slices(self.fs.nodes.read_some)
        if self.inotify is not None:  # apps may wait for changes in any directory, without a request
            await in_slices(partial(_learn_next, self.fs.resolver, iter(self.fs.nodes)))
        cache.forget_attributes_of_all(self.fs.nodes.lost)
        await cache.expire_all_names(all_stay)

    async def _signals(self) -> None:
        """Obey signals. An order to end does not wait for a reload: a reload may wait for a hung disk."""
        self._listening.set()
        async with trio.open_nursery() as nursery:
            while True:
                received = await self._signal_reader.receive()
                if received.how == "SIGHUP":
                    obey = partial(self._reload.on_signal, received)
                    nursery.start_soon(once, self._bugs, "reload", obey)
                    continue
                self._end.by(received)
                if self.inotify is not None:
                    await self.inotify.stop()
                await self._mountpoint.finish()

    async def _places(self) -> None:
        """Wait until the mount is detached while in use. Then free the socket's name for another daemon."""
        await self._mountpoint.gone()
        end = self._mountpoint.detached()
        if end is None:
            return
        self.journal.announce("detached", end.fields())  # does not wait: an app may have to leave now
        Notice.MOUNT_ENDED.tell(self._log, **{"how": "it was detached while in use", **end.fields()})
        self.leaving = True
        control_server.step_aside(self._socket_inode, self._options.mountpoint)
        if self._options.user_id and self._options.kernel_admits and not end.ordered:
            # The app has detached the mount with fusermount3. The app must not use an old policy for ever.
            self._mountpoint.leave()

    def _duties(self) -> Duties:
        beats = [self._mountpoint.circle.beat]
        if (state := self.state) is not None:
            hung = HungLoop(
                lambda: state.can_continue and self._keeper_pid() > 0, self._log.warning, procfs.root()
            )
            hung.beat()  # a loop may hang before its first turn
            self._mountpoint.circle.also = hung.look
            beats.append(hung.beat)
        return Duties(
            (*beats, self._garbage.tick, self.fs.expire, Conditions(self._log, conditions(self)).tend),
            settle=self.fs.bridge_handles.events.settle, trail=self.journal, losses=self._losses,
            kills=self._kills, lost=self.sniffer.losses, findings=self.remembered,
            links=None if self._watch is None else partial(self._take_changes, links=True),
        )  # fmt: skip

    async def _breaks(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._keeper.fileno())
            self._keeper.on_signal()

    async def _watching(self) -> None:
        while self._watch is not None:
            with trio.move_on_after(self.fs.changes.wait_s()):
                await trio.lowlevel.wait_readable(self._watch.fileno())
            await self._take_changes()
            await trio.sleep(_WATCH_PAUSE_S)

    async def _take_changes(self, *, links: bool = False) -> bool:
        """Read events of the watch (links: about link counts). Return True if there were many."""
        changes, notifier, places = self.fs.changes, self.fs.kernel_cache.notifier, self.fs.resolver
        if notifier is None:
            return False
        take = partial(changes.take, notifier, places, links=links)
        try:
            many = take()
            if many:
                await in_slices(take)
        except Exception:
            changes.reset(notifier, places)  # the invalidations of this batch are lost
            raise
        return many

    # -- status -------------------------------------------------------------------------------------

    @property
    def connection(self) -> int:
        """The number of the FUSE connection: the minor device number of the mount."""
        return self._mountpoint.device.conn_id

    @property
    def options(self) -> MountOptions:
        """The options of the mount."""
        return self._options

    @property
    def bugs(self) -> int:
        """The number of unexpected exceptions so far: in requests (the app got EIO), and in other work."""
        return self._bugs.count

    # -- end ----------------------------------------------------------------------------------------

    def _close_journal(self) -> None:
        """End the trail, and log its last digest, for `audit verify --expect`."""
        self._kills.flush()
        self.journal.announce("others", *heads_if_any(self.trail))
        self.journal.close(self._end.end.fields())
        last = self.journal.stats()
        self._log.info("trail closed", seq=last.seq, head=last.head, dropped=last.dropped)
        if last.failing:
            refused, reason = last.refused, last.last_error
            self._log.warning("the trail's last records were not written", refused=refused, reason=reason)

    def close(self) -> None:
        """Close all parts, in reverse order."""
        self._undo.close()


def _unchangeable(store: str, tree: Tree) -> int:
    """Return the store's root in a copy of its mounts (mount_api.unchangeable), which --read-only needs: the
    kernel itself opens files for passthrough, and root can make the app's mount writable."""
    try:
        return mount_api.unchangeable(tree.root_fd)
    except OSError as error:
        raise PolicyfsError(
            f"--read-only needs a copy of the mounts of {store}, which the kernel refuses: {error.strerror}"
        ) from error


def _inode_of(tree: Tree) -> tuple[int, int]:
    found = tree.fstat(tree.root_fd)
    return found.dev << 64 | found.ino, found.btime_ns


def _nobody_follows(_digest: str) -> None:
    """Save nothing: no other daemon follows this one."""


@contextlib.contextmanager
def _undone_on_error(stack: contextlib.ExitStack) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stack.close()
        raise
