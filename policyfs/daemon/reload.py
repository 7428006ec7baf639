"""Reloads: the policy is read again, and replaces the policy in force."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from policyfs.daemon import control, policy_watch
from policyfs.daemon.end import MountEnd
from policyfs.daemon.large_work import Leftovers, lasting_objects
from policyfs.daemon.log import Log
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies import UNSAVED, Policies, Sources
from policyfs.errors import PolicyfsError, UsageError
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.opening.stale_handles import summary
from policyfs.policy.decide import Engine
from policyfs.policy.model import Policy
from policyfs.policy.parse import digest_of
from policyfs.policy.values import instant_text

_DRAIN_S: Final = 5.0
_LOOK_S: Final = 0.05
"""The pause between two looks at the clock, to find exceptions (rules for a limited time) that end."""
_AHEAD_NS: Final = 30 * 1_000_000_000
_SETTLE_S: Final = 1.0
"""The longest time for which a reload waits for opens that the kernel tries again after ESTALE
(stale_retries.py).
"""


class Reload:
    """A service that reloads the policy of one mount.

    Locks: a reload holds `_turn` from its first to its last step, so only one runs at a time. While a policy
    is put in force, a task also holds `_lock`. INVARIANT: `_lock` is never held during a read of the policy's
    files. Such a read may wait for a disk, and then the ends of exceptions would wait, too.
    """

    def __init__(self, options: MountOptions, policies: Policies, fs: FileSystem, log: Log) -> None:
        self._options = options
        self._policies = policies
        self._fs = fs
        self._log = log
        self._turn, self._lock = trio.Lock(), trio.Lock()
        self._signalled = False
        self._in_force = trio.Event()  # set, and replaced by a new one, when another policy is in force
        self._replaced, self._leftovers = trio.open_memory_channel[Leftovers](math.inf)

    async def reload(
        self, by: MountEnd, *, previous: bool = False, expected: object = None, live: object = None
    ) -> control.Json:
        """Load the policy again, or the previous policy. Success and refusal are both recorded.

        expected: the digest that the texts must have; None: any. live: the digest that the policy in force
        must have; None: any. Raises PolicyfsError for a policy that cannot be used. Then the policy in force
        stays.
        """
        async with self._turn:
            return await self._reloaded(by, previous=previous, expected=expected, live=live)

    async def on_signal(self, by: MountEnd) -> None:
        """Reload after a SIGHUP. A refusal is logged, and the policy in force stays.

        If the reload for an earlier SIGHUP still waits for the lock, it has read no policy yet. Then that
        reload serves this SIGHUP, too. So many signals do not make many tasks.
        """
        if self._signalled:
            return
        self._signalled = True
        try:
            await self._turn.acquire()
        finally:
            self._signalled = False
        try:
            await self._reloaded(by, previous=False, expected=None)
        except PolicyfsError as error:
            self._log.warning("reload refused, the old policy stays", reason=str(error))
        finally:
            self._turn.release()

    async def _reloaded(
        self, by: MountEnd, *, previous: bool, expected: object, live: object = None
    ) -> control.Json:
        """Load the policy again, or the previous policy, for reload(). INVARIANT: the caller has the turn."""
        policies, sources = self._policies, None
        try:
            read = partial(policies.read, previous=previous)
            # If the mount ends, a thread that waits for the disk is left alone: it only reads.
            sources = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            if expected is not None and digest_of(source.text for source in sources) != expected:
                raise PolicyfsError("the policy's files were changed after the check; try again")
            engine = await trio.to_thread.run_sync(self._compiled, sources)
            self._check_app(engine.policy)
        except PolicyfsError as error:
            async with self._lock:
                await trio.to_thread.run_sync(policies.refuse, sources, by, str(error))
            raise
        async with self._lock:
            if live is not None and self._fs.gate.engine.digest != live:
                late = PolicyfsError("another policy came into force after the check; try again")
                await trio.to_thread.run_sync(policies.refuse, sources, by, str(late))
                raise late
            # An exception may have ended since the policy was compiled.
            engine = await trio.to_thread.run_sync(policies.without_ended, engine)
            stale = await self._put_in_force(engine, sources, by)
        self._log.info("policy reloaded", digest=engine.digest, generation=self._fs.gate.generation)
        return {"digest": engine.digest, "generation": self._fs.gate.generation, "stale_handles": stale}

    async def end_exceptions(self) -> None:
        """End each exception (a rule for a limited time) at its time, by a reload without new texts, until
        cancelled.

        The engine without this rule is compiled before that time, so that the reload is quick.
        """
        prepared: Engine | None = None
        prepared_for: Engine | None = None
        policies = self._policies
        while True:
            if policies.next_end is None:
                await self._in_force.wait()
            await trio.sleep(_LOOK_S)
            end = policies.next_end
            if end is None or policies.mark.now_ns() < end - _AHEAD_NS:
                continue
            async with self._lock:
                if prepared_for is not policies.engine or policies.next_end != end:
                    prepared_for, end = policies.engine, policies.next_end
                    prepared = await trio.to_thread.run_sync(self._successor)
                if prepared is None or end is None or policies.mark.now_ns() < end:
                    continue
                by = MountEnd("exception", f"ended at {instant_text(end)}")
                await self._put_in_force(prepared, None, by)
                self._log.info("exceptions ended", at=instant_text(end), generation=self._fs.gate.generation)
            prepared = prepared_for = None

    async def _put_in_force(self, engine: Engine, sources: Sources | None, by: MountEnd) -> control.Json:
        """Replace the policy, and make the kernel drop its caches. sources: None if the texts stay.

        Return a summary of the open files that the new policy would not open in this way. The kernel still
        lets apps use these files.
        """
        gate, policies = self._fs.gate, self._policies
        try:
            await trio.to_thread.run_sync(policies.replace, engine, sources, by, gate.generation + 1)
        finally:
            self._in_force.set()
            self._in_force = trio.Event()
        await self._fs.opener.second_tries.settled(_SETTLE_S)
        self._replaced.send_nowait(Leftovers(gate.engine))
        self._fs.use(engine)
        if not await self._fs.kernel_cache.expire_all_names():
            self._log.warning(
                "the kernel dropped all names at once: for a moment, working directories had no path"
            )
        # Not before: the disk, or the lock of another daemon, would keep the old policy in force.
        unsaved = await trio.to_thread.run_sync(policies.pass_ends)
        if unsaved:
            self._log.warning(UNSAVED, why=unsaved)
        notifier = self._fs.kernel_cache.notifier
        if notifier is not None and not await trio.to_thread.run_sync(notifier.drain, _DRAIN_S):
            self._log.warning("the kernel is slow to drop its caches", after_s=_DRAIN_S)
        stale = summary(await self._fs.stale_handles.find())
        if stale["count"]:
            self._log.warning(
                "files stay open that the new policy would not open in this way", count=stale["count"]
            )
            await trio.to_thread.run_sync(policies.tell_stale, stale, gate.generation)
        return stale

    def works(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """Return the background tasks."""
        return self.free_replaced, self.end_exceptions, self.watch_files

    async def watch_files(self) -> None:
        """With `--watch`, reload when the policy's files change, until cancelled."""
        if self._options.watch:
            path, is_new = Path(self._options.policy), self._policies.has_new_text
            await policy_watch.watch(path, is_new, self.reload, self._log)

    async def free_replaced(self) -> None:
        """Free the contents of engines that reloads have replaced, until cancelled."""
        async for leftovers in self._leftovers:
            await leftovers.free()

    def _compiled(self, sources: Sources) -> Engine:
        with lasting_objects():
            return self._policies.compile(sources)

    def _successor(self) -> Engine:
        with lasting_objects():
            return self._policies.successor()

    def _check_app(self, policy: Policy) -> None:
        """Raise UsageError for a policy without the app of an app mount, or without a uid or group that the
        mount admits.
        """
        name, uid = self._options.app, self._options.user_id
        if name is None:
            return
        app = next((app for app in policy.apps if app.name == name), None)
        if app is None:
            raise UsageError(
                f"this mount belongs to the app {name}, which the new policy does not have;"
                " the old policy stays"
            )
        before = next((one for one in self._fs.gate.engine.policy.apps if one.name == name), app)
        belongs = any(first <= uid <= last for first, last in app.uids) if uid is not None else True
        if not belongs and (app.uids or before.uids):
            raise UsageError(
                f"this mount admits uid {uid}, which does not belong to the app {name} in the new"
                " policy; the old policy stays: unmount and mount again to use the new policy"
            )
        others = set(self._options.group_ids) - set(app.gids or self._options.group_ids)
        if others:
            raise UsageError(
                f"this mount admits group {min(others)}, which does not belong to the app {name} in the new"
                " policy; the old policy stays: unmount and mount again to use the new policy"
            )
