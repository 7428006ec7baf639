"""Reloads: the policy is read again, and replaces the policy in force."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from policyfs.daemon.control import control
from policyfs.daemon.end import MountEnd
from policyfs.daemon.large_work import Leftovers, lasting_objects
from policyfs.daemon.log import Log, Notice
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies import policy_watch
from policyfs.daemon.policies.policies import UNSAVED, Policies, Sources
from policyfs.errors import PolicyfsError, UsageError
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.opening.stale_handles import summary
from policyfs.policy.decide import Engine
from policyfs.policy.exceptions import instant_text
from policyfs.policy.model import Policy
from policyfs.policy.text.sources import digest_of

_DRAIN_S: Final = 5.0
_LOOK_S: Final = 0.05
"""The pause between two looks at the clock, to find exceptions (rules for a limited time) that end."""
_AHEAD_NS: Final = 30 * 1_000_000_000
_SETTLE_S: Final = 1.0
"""The longest time for which a reload waits for opens that the kernel tries again after ESTALE
(stale_retries.py)."""
_BRIEF_S: Final = 0.05
"""The same for the end of an exception."""
_RECORD_S: Final = 1.0
"""The longest time for which a reload waits for the trail's disk."""

T = TypeVar("T")


class Reload:
    """A service that reloads the policy of one mount.

    `_exchange` puts a policy in force. It never waits, so it needs no lock. What an app or a disk can prolong
    comes before (the texts of a reload) or after it (`_tell`: the kernel's caches, the trail, the file of
    ends). INVARIANT: the end of an exception waits for no lock, no disk, and at most _BRIEF_S for an app.
    `_turn` is held by a reload until its policy is in force: one reload at a time reads files.
    """

    def __init__(
        self, options: MountOptions, policies: Policies, fs: FileSystem, log: Log,
        parse: Callable[[Sources], Awaitable[Policy]],
    ) -> None:  # fmt: skip
        """parse: parses texts in another process, and proves the policy's invariants."""
        self._options = options
        self._policies = policies
        self._fs = fs
        self._log = log
        self._parse = parse
        self._turn = trio.Lock()
        self._signalled = False
        self._in_force = trio.Event()  # set, and replaced by a new one, when another policy is in force
        self._replaced, self._leftovers = trio.open_memory_channel[Leftovers](math.inf)

    async def reload(
        self, by: MountEnd, *, previous: bool = False, expected: object = None, live: object = None
    ) -> control.Json:
        """Load the policy again, or the previous one. Success and refusal are both recorded. expected, live:
        the digests that the texts, and the policy in force, must have; None: any. Raises PolicyfsError for a
        policy that cannot be used: the one in force stays."""
        async with self._turn:
            generation = await self._reloaded(by, previous=previous, expected=expected, live=live)
        return await self._tell(generation)

    async def on_signal(self, by: MountEnd) -> None:
        """Reload after a SIGHUP; a refusal is logged. A reload for an earlier SIGHUP that still waits for its
        turn serves this one, too, so that many signals do not make many tasks."""
        if self._signalled:
            return
        self._signalled = True
        try:
            await self._turn.acquire()
        finally:
            self._signalled = False
        try:
            generation = await self._reloaded(by, previous=False, expected=None)
        except PolicyfsError as error:
            Notice.POLICY_REFUSED.tell(self._log, reason=str(error))
            return
        finally:
            self._turn.release()
        await self._tell(generation)

    async def _reloaded(
        self, by: MountEnd, *, previous: bool, expected: object, live: object = None
    ) -> int:
        """Put a loaded policy in force. Return its generation. INVARIANT: the caller has the turn."""
        policies, sources = self._policies, None
        try:
            read = partial(policies.read, previous=previous)
            # If the mount ends, a thread that waits for the disk is left alone: it only reads.
            sources = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            if expected is not None and digest_of(source.text for source in sources) != expected:
                raise PolicyfsError("the policy's files were changed after the check; try again")
            policy = await self._parse(sources)
            engine = await trio.to_thread.run_sync(self._compiled, policy)
            self._check_app(engine.policy)
            await _at_most(_RECORD_S, partial(policies.save_text, engine, sources))
            engine = await self._settled(engine)
            if live is not None and self._fs.gate.engine.digest != live:
                raise PolicyfsError("another policy came into force after the check; try again")
        except PolicyfsError as error:
            policies.refuse(sources, by, str(error))
            await _at_most(_RECORD_S, policies.flush)
            raise
        generation = self._exchange(engine, sources, by)
        self._log.info("policy reloaded", digest=engine.digest, generation=generation)
        return generation

    async def _settled(self, engine: Engine) -> Engine:
        """Wait until the policy may be put in force. Return it without the exceptions that have ended."""
        while True:
            engine = await trio.to_thread.run_sync(self._policies.without_ended, engine)
            await self._fs.opener.second_tries.settled(_SETTLE_S)
            if not self._policies.has_ended(engine):
                return engine

    async def end_exceptions(self) -> None:
        """End each exception (a rule for a limited time) at its time, by a reload without new texts, until
        cancelled. The engine without this rule is compiled before that time, so that the reload is quick."""
        policies = self._policies
        prepared: Engine | None = None
        prepared_for: Engine | None = None
        async with trio.open_nursery() as nursery:
            while True:
                if policies.next_end is None:
                    await self._in_force.wait()
                await trio.sleep(_LOOK_S)
                end = policies.next_end
                if end is None or policies.mark.now_ns() < end - _AHEAD_NS:
                    continue
                if prepared is None or prepared_for is not policies.engine:
                    prepared_for = policies.engine
                    prepared = await trio.to_thread.run_sync(self._successor)
                if policies.mark.now_ns() >= end:
                    await self._fs.opener.second_tries.settled(_BRIEF_S)
                    if prepared_for is policies.engine:  # else another policy has come into force meanwhile
                        by = MountEnd("exception", f"ended at {instant_text(end)}")
                        generation = self._exchange(prepared, None, by)
                        self._log.info("exceptions ended", at=instant_text(end), generation=generation)
                        nursery.start_soon(self._tell, generation)
                    prepared = prepared_for = None

    def _exchange(self, engine: Engine, sources: Sources | None, by: MountEnd) -> int:
        """Put a policy in force, and queue its record. Never waits. Return the generation. sources: None if
        the texts stay: the policy then allows no more, so requests need not wait for the record."""
        gate, written, token = self._fs.gate, trio.Event(), trio.lowlevel.current_trio_token()
        generation = gate.generation + 1

        def on_record() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(written.set)

        self._fs.nodes.read_all()
        self._policies.replace(engine, sources, by, generation, on_record)
        if sources is not None and engine.digest != gate.engine.digest:
            gate.policy_record.expect(written)
        self._replaced.send_nowait(Leftovers(gate.engine))
        self._fs.use(engine)
        self._in_force.set()
        self._in_force = trio.Event()
        return generation

    async def _tell(self, generation: int) -> control.Json:
        """Write the record of the policy in force, make the kernel drop its caches, and find open files that
        the policy would not open so (apps still use them). Return the client's answer."""
        gate, policies = self._fs.gate, self._policies
        digest = gate.engine.digest
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._record)
            if not await self._fs.kernel_cache.expire_all_names():
                self._log.warning(
                    "the kernel dropped all names at once: for a moment, working directories had no path"
                )
        unsaved = await _at_most(_RECORD_S, policies.save_ends, "the disk is slow")
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
            policies.tell_stale(stale, generation)
            await _at_most(_RECORD_S, policies.flush)
        return {"digest": digest, "generation": generation, "stale_handles": stale}

    async def _record(self) -> None:
        await _at_most(_RECORD_S, self._policies.flush)
        if self._fs.gate.policy_record.is_missing:
            Notice.POLICY_UNRECORDED.tell(self._log)

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

    def _compiled(self, policy: Policy) -> Engine:
        with lasting_objects():
            return self._policies.compile(policy)

    def _successor(self) -> Engine:
        with lasting_objects():
            return self._policies.successor()

    def _check_app(self, policy: Policy) -> None:
        """Raise UsageError for a policy without an app mount's app, or its admitted uid or groups."""
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


async def _at_most(most_s: float, work: Callable[[], T], late: T | None = None) -> T | None:
    """Do work on a thread that may wait for a disk. After *most_s* leave it, and return *late*."""
    with trio.move_on_after(most_s):
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    return late
