"""`policyfs audit`: checks of the names in a query, so that a typing error does not look like "no event"."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policyfs.errors import PolicyfsError, UsageError
from policyfs.journal.policy_texts import kept_digests, read_policy
from policyfs.journal.reader import Chain, raw_lines
from policyfs.policy.parse import SourceText, parse_policy
from policyfs.trail.event import OPERATIONS, STRANGER
from policyfs.trail.table import shown

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_FIELDS: Final = {
    "app": re.compile(rb'"app":(%b)' % _STRING),
    "operation": re.compile(rb'"operation":(%b)' % _STRING),
    "rule": re.compile(rb'"(?:rules|would_deny|would_allow)":\[(%b(?:,%b)*)\]' % (_STRING, _STRING)),
}

Names = dict[str, set[str]]


def check_names(chains: list[Chain], asked: Mapping[str, Iterable[str]]) -> None:
    """Check names of apps, operations and rules against those of the kept policies and of the trail.

    asked: ``app``, ``operation``, ``rule`` to names. Raises UsageError with similar names.
    """
    if not chains:
        return
    known: Names = {"app": {STRANGER}, "operation": set(OPERATIONS), "rule": set()}
    for found in (_of_policies(chains), _of_lines(chains)):
        for more in found:
            if not _unknown(asked, known):
                return
            for what, names in more.items():
                known[what] |= names
    wrong = _unknown(asked, known)
    if wrong:
        raise UsageError("; ".join(_sentence(what, name, known[what]) for what, name in wrong))


def _unknown(asked: Mapping[str, Iterable[str]], known: Names) -> list[tuple[str, str]]:
    return [(what, name) for what, names in asked.items() for name in names if name not in known[what]]


def _sentence(what: str, name: str, known: set[str]) -> str:
    meant = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {' or '.join(map(shown, meant))}?" if meant else f"there are {_some(known)}"
    return f"no {what} {shown(name)!r} is on the trail or in a policy that it keeps; {hint}"


def _some(known: set[str]) -> str:
    names = sorted(known)
    return ", ".join(map(shown, names[:20])) + (", ..." if len(names) > 20 else "") if names else "none"


def _of_policies(chains: list[Chain]) -> Iterator[Names]:
    digests = {digest: chain for chain in chains for digest in kept_digests(chain.directory)}
    for digest, chain in digests.items():
        try:
            sources = [SourceText(*file) for file in read_policy(chain.directory, digest)]
            policy = parse_policy(sources)
        except (OSError, PolicyfsError):
            continue  # a policy that was refused, or pruned meanwhile
        yield {"app": {app.name for app in policy.apps}, "rule": {rule.id for rule in policy.rules}}


def _of_lines(chains: list[Chain]) -> Iterator[Names]:
    """Yield the names in each segment, also in those older than the kept policies."""
    for chain in chains:
        for segment in chain.segments():
            found: Names = {what: set() for what in _FIELDS}
            try:
                for raw in raw_lines(chain.directory, segment):
                    for what, pattern in _FIELDS.items():
                        found[what].update(_texts(pattern.findall(raw)))
            except FileNotFoundError:
                continue
            yield found


def _texts(found: list[bytes]) -> Iterator[str]:
    for text in found:
        try:
            yield from json.loads(b"[%b]" % text)
        except ValueError:
            continue
