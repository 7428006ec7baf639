"""Guards of remembered plans, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.fs.facts import version_key
from policyfs.fs.located import Proof
from policyfs.fs.redactor import Redactor
from policyfs.store import frozen
from policyfs.store.statx import Stat
from tests.attack.guards import put


def stat_is_proof() -> None:
    """A plan that was found under the same stat is used without the proof that nobody wrote since."""
    freeze = Redactor._freeze

    async def trusting(self: Redactor, fd: int, stat: Stat) -> tuple[frozen.Frozen, Proof | None]:
        copy, _ = await freeze(self, fd, stat)
        return copy, Proof(version_key(stat), lambda: True)

    put(Redactor, "_freeze", trusting)


REMEMBERED: Final[dict[str, Callable[[], None]]] = {"stat-is-proof": stat_is_proof}
