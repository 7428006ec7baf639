"""The part of a trail that concerns one app, for `policyfs audit export --for-app`."""

from __future__ import annotations

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.domain import NO_FACTS, Facts, FileType, Principal
from policyfs.errors import UsageError
from policyfs.policy.decide import Engine, as_of, compile_policy
from policyfs.policy.explain.explain import explain
from policyfs.trail.lines.event import STRANGER, Event


class PolicySight:
    """The rights of one app at the time of each event: under the policy that the event names.

    The app has no rights if the policy does not name the app, or if the policy's text is not kept or was
    changed. An exception of the policy (an allow rule with an end date) counts for events before its end.
    """

    def __init__(self, kept: KeptPolicies, app: str) -> None:
        """Raises UsageError if *app* is `stranger`: strangers are not one app."""
        if app == STRANGER:
            raise UsageError("--for-app: strangers are not one app; name an app of the policy")
        self._kept = kept
        self._app = app
        self._engines: dict[str, Engine | None] = {}
        self._latest_ns: dict[str, int] = {}
        """Mount -> the latest time of its events so far, in ns since 1970. After the clock was set back, an
        exception that has ended stays ended (daemon/high_water.py)."""
        self.unknown: set[str] = set()
        """Digests of policies that do not name the app, or whose text is not kept or was changed."""

    def sees(self, event: Event, path: bytes, *, directory: bool) -> bool:
        """Return True if the app could see this path when the event happened. The answer holds for every kind
        and owner that the file could have had."""
        ftype = FileType.DIRECTORY if directory else FileType.REGULAR
        return self._may(event, "see", path, ftype, NO_FACTS)

    def reads(self, event: Event, path: bytes, kind: str | None) -> bool:
        """Return True if the app could read a file of this kind at this path when the event happened."""
        return self._may(event, "read", path, FileType.REGULAR, Facts(kind))

    def _may(self, event: Event, request: str, path: bytes, ftype: FileType, facts: Facts) -> bool:
        found = self._of(event)
        if found is None:
            return False
        engine, who = found
        explained = explain(engine, who, request, path, ftype, facts)
        return explained.decision.allowed and not explained.hidden_by

    def _of(self, event: Event) -> tuple[Engine, Principal] | None:
        """Return the engine of an event's policy at that time, and the app as its caller."""
        digest = event.policy_digest
        if digest not in self._engines:
            policy = self._kept.policy(digest)
            if policy is None or all(app.name != self._app for app in policy.apps):
                self.unknown.add(digest)
                self._engines[digest] = None
            else:
                self._engines[digest] = compile_policy(policy)
        engine = self._engines[digest]
        if engine is None:
            return None
        if engine.policy.exceptions:
            at_ns = self._latest_ns[event.mount] = max(event.time_ns, self._latest_ns.get(event.mount, 0))
            self._engines[digest] = engine = as_of(engine, at_ns)
        uids = next(app.uids for app in engine.policy.apps if app.name == self._app)
        return engine, engine.app_principal(self._app, uids[0][0] if uids else 0)
