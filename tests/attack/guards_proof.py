"""Guards that the proof of a mount is there to miss, taken out one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import policyfs.daemon.mountpoint as mountpoint_module
from policyfs.content.sniffer import Sniffer
from policyfs.domain import Decision
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.path_answers import PathAnswers, Unseen
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.redact.plan import Outcome, Plan
from tests.attack.guards import put

_ENOENT: Final = 2


def _allowing(refused: Callable[[int], bool]) -> None:
    decide = Gate.decide

    def allowing(self: Gate, *arguments: Any) -> Decision:
        found = decide(self, *arguments)
        return dataclasses.replace(found, allowed=True, errno=0) if refused(found.errno) else found

    put(Gate, "decide", allowing)


def shows_hidden() -> None:
    """What the policy hides is shown."""
    put(PathAnswers, "unseen", lambda self, who, state: Unseen(None, None))
    _allowing(lambda errno: errno == _ENOENT)


def denies_nothing() -> None:
    """What the policy shows may be read, written and removed."""
    _allowing(lambda errno: errno not in {0, _ENOENT})


def redacts_nothing() -> None:
    """In no file anything is found that could be hidden."""

    async def clean(self: Sniffer, fd: int, what: frozenset[str], **named: Any) -> Any:
        return "image/jpeg", Plan(Outcome.CLEAN)

    put(Sniffer, "index", clean)


def passes_nothing() -> None:
    """Passthrough is on, as `status` says, and every read goes through the daemon."""

    def choose(self: Passthrough, node: Any, state: Any, fd: int) -> None:
        state.mode, node.mediated = Mode.MEDIATED, True

    put(Passthrough, "choose", choose)


def admits_everybody() -> None:
    """The kernel admits every user to an app mount."""
    mount_device = mountpoint_module.session.mount_device

    def admitting(mountpoint: str, **named: Any) -> Any:
        return mount_device(mountpoint, **named | {"allow_other": True})

    put(mountpoint_module.session, "mount_device", admitting)


PROOF: Final[dict[str, Callable[[], None]]] = {
    "shows-hidden": shows_hidden,
    "denies-nothing": denies_nothing,
    "redacts-nothing": redacts_nothing,
    "passes-nothing": passes_nothing,
    "admits-everybody": admits_everybody,
}
