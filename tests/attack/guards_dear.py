"""Guards against names and files that are made to be dear, taken out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from policyfs.content.missed import Missed
from policyfs.content.sniffer import Sniffer
from policyfs.domain import Ranges
from policyfs.fs.redacted import copies
from policyfs.policy.globs import names
from policyfs.policy.globs.names import Bind, Captured
from policyfs.redact.core.values import Plan
from tests.attack.guards import put
from tests.attack.guards_reading import parsers


def every_number() -> None:
    """Every number that a name holds is tried as the uid that a capture could mean."""
    bind = Captured.bind

    def trying(self: Captured, text: str, before: Bind, apps: frozenset[str]) -> Bind | None:
        for start in range(len(text)):
            for stop in range(start + 1, start + 11):
                if names.is_uid(text[start:stop]):
                    pattern = self.filled(Bind(before.app, int(text[start:stop])))
                    names.matches(pattern._replace(folded=True), text)
        return bind(self, text, before, apps)

    put(Captured, "bind", trying)


def tried_again() -> None:
    """A file over which a worker hung is given to the next one at once."""
    put(Missed, "refusal", lambda self, key: None)


def plans_kept() -> None:
    """A finished copy keeps the whole plan."""
    ranges_of, kept = copies.ranges_of, []

    def keeping(plan: Plan) -> Ranges:
        kept.append(plan)
        return ranges_of(plan)

    put(copies, "ranges_of", keeping)


def unlimited_looks() -> None:
    """Locators do whatever work a file asks for."""
    parsers("tests.attack.parsers_unbudgeted")
    put(Sniffer, "start", functools.partial(Sniffer.start, deadline_s=2.0))


DEAR: Final[dict[str, Callable[[], None]]] = {
    "every-number": every_number,
    "plans-kept": plans_kept,
    "tried-again": tried_again,
    "unlimited-looks": unlimited_looks,
}
