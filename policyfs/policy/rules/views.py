"""Views: obligations (redaction, checks) that can apply to a caller on a regular file, as a small number."""

from __future__ import annotations

from typing import Final

from policyfs.domain import RAW_VIEW, View, banned
from policyfs.policy.model import Effect
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.table import Live


class Views:
    """The views of one engine, each with a number (key) that stands for the obligations under all facts."""

    def __init__(self) -> None:
        self._views: Final[dict[frozenset[object], View]] = {frozenset(): RAW_VIEW}

    def view(self, profile: Profile) -> View:
        """Return the view for the rules in a profile. It is raw only if no facts lead to an obligation."""
        redact: set[str] = set()
        bans: frozenset[str] = frozenset()
        checked = False
        functions: set[object] = set()
        for live in profile.lives:
            effect = live.rule.effect
            if effect not in (Effect.REDACT, Effect.CONTENT) or not live.may_oblige():
                continue
            if effect is Effect.CONTENT:
                if not profile.can_fill:
                    continue
                checked = True
                bans |= banned((live.rule.content,))
            redact |= live.rule.redact
            functions.add(_function(live))
        key = frozenset(functions)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = View(len(self._views), frozenset(redact), checked, bans)
        return found


def _function(live: Live) -> tuple[object, ...]:
    rule = live.rule
    return rule.effect, rule.redact, rule.content, rule.raw_types, rule.monitor, live.shape
