"""A reload: the policy is read again, and replaces the one in force."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio

from policyfs.daemon import control
from policyfs.daemon.end import MountEnd
from policyfs.daemon.large_work import Leftovers, short_turns
from policyfs.daemon.log import Log
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies import Policies, Sources
from policyfs.errors import PolicyfsError, UsageError
from policyfs.fs.filesystem import FileSystem
from policyfs.policy.decide import Engine
from policyfs.policy.model import Policy

_DRAIN_S: Final = 5.0
_SETTLE_S: Final = 1.0
"""The longest wait of a reload for opens that the kernel tries a second time."""


class Reload:
    """Reloads of one mount, one at a time."""

    def __init__(self, options: MountOptions, policies: Policies, fs: FileSystem, log: Log) -> None:
        self._options = options
        self._policies = policies
        self._fs = fs
        self._log = log
        self._lock = trio.Lock()
        self._replaced, self._leftovers = trio.open_memory_channel[Leftovers](math.inf)

    async def reload(self, by: MountEnd, *, previous: bool = False) -> control.Json:
        """Reload the policy, or go back to the one before it. Either way the result is on record.

        Raises PolicyfsError for a policy that cannot be used; then the old one stays in force.
        """
        async with self._lock:
            policies, sources = self._policies, None
            try:
                sources = await trio.to_thread.run_sync(partial(policies.read, previous=previous))
                engine = await trio.to_thread.run_sync(self._compiled, sources)
                self._check_app(engine.policy)
            except PolicyfsError as error:
                await trio.to_thread.run_sync(policies.refuse, sources, by, str(error))
                raise
            gate = self._fs.gate
            await trio.to_thread.run_sync(policies.replace, engine, sources, by, gate.generation + 1)
            await self._fs.opener.second_tries.settled(_SETTLE_S)
            self._replaced.send_nowait(Leftovers(gate.engine))
            self._fs.use(engine)
            if not await self._fs.kernel_cache.expire_all_names():
                self._log.warning("the kernel dropped all names at once: working directories had no path")
            notifier = self._fs.kernel_cache.notifier
            if notifier is not None and not await trio.to_thread.run_sync(notifier.drain, _DRAIN_S):
                self._log.warning("the kernel is slow to drop its caches", after_s=_DRAIN_S)
            self._log.info("policy reloaded", digest=engine.digest, generation=gate.generation)
            return {"digest": engine.digest, "generation": gate.generation}

    async def free_replaced(self) -> None:
        """Free engines that reloads have replaced, for as long as this runs."""
        async for leftovers in self._leftovers:
            await leftovers.free()

    def _compiled(self, sources: Sources) -> Engine:
        with short_turns():
            return self._policies.compile(sources)

    def _check_app(self, policy: Policy) -> None:
        """Refuse a policy without the app of an app mount, or without the user or groups that it admits."""
        name, uid = self._options.app, self._options.user_id
        if name is None:
            return
        app = next((app for app in policy.apps if app.name == name), None)
        if app is None:
            raise UsageError(
                f"the new policy has no app {name}, whose mount this is; the old policy stays"
            )
        if uid is not None and app.uids and not any(first <= uid <= last for first, last in app.uids):
            raise UsageError(
                f"in the new policy uid {uid}, which this mount admits, is not the app {name}'s:"
                " unmount, and mount it anew; the old policy stays"
            )
        others = set(self._options.group_ids) - set(app.gids or self._options.group_ids)
        if others:
            raise UsageError(
                f"this mount admits group {min(others)}, which does not belong to the app {name} in the new"
                " policy; the old policy stays: unmount and mount again to use the new one"
            )
