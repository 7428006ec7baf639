"""The search for a stranger: a caller whose uid no app lists."""

from __future__ import annotations

from typing import Final

from policyfs.domain import WORKER_UIDS, Principal
from policyfs.policy.decide import Engine
from policyfs.policy.globs.names import UID_LIMIT

_USUAL_UID: Final = 65533
"""The uid of the stranger, if no app lists it."""


def stranger_of(engine: Engine) -> Principal | None:
    """Return a stranger. Return None if apps list all uids but those of workers."""
    after = sorted(last + 1 for app in engine.policy.apps for _, last in app.uids)
    for uid in (_USUAL_UID, *after, WORKER_UIDS.stop, 0):
        if uid < UID_LIMIT and uid not in WORKER_UIDS:
            who = engine.principal(uid)
            if who.app is None:
                return who
    return None
