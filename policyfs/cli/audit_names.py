"""`policyfs audit`: checks of the names in a query, so that a typing error does not look like "no event"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.journal.policy_texts import kept_digests, read_policy
from policyfs.journal.reader import Chain, raw_lines
from policyfs.policy.parse import SourceText, parse_policy
from policyfs.trail.event import OPERATIONS, STRANGER
from policyfs.trail.expression import Value
from policyfs.trail.parser import QueryError, similar
from policyfs.trail.selection import Selection
from policyfs.trail.table import shown

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_FIELDS: Final = {
    "app": re.compile(rb'"app":(%b)' % _STRING),
    "operation": re.compile(rb'"operation":(%b)' % _STRING),
    "rule": re.compile(rb'"(?:rules|would_deny|would_allow)":\[(%b(?:,%b)*)\]' % (_STRING, _STRING)),
}

_WORDS: Final = {"app": "app", "op": "operation", "rule": "rule"}

Names = dict[str, set[str]]


def check_names(chains: list[Chain], wanted: Selection) -> None:
    """Check names of apps, operations and rules against those of the kept policies and of the trail.

    Raises QueryError with similar names, and its place in the query.
    """
    asked = [(_WORDS[field], name, value) for field, name, value in wanted.names()]
    if not chains or not asked:
        return
    known: Names = {"app": {STRANGER}, "operation": set(OPERATIONS), "rule": set()}
    for found in (_of_policies(chains), _of_lines(chains)):
        for more in found:
            if not _unknown(asked, known):
                return
            for what, names in more.items():
                known[what] |= names
    for what, name, value in _unknown(asked, known):
        hint = similar(name, sorted(known[what]))
        message = f"no {what} {shown(name)!r} is on the trail or in a policy that it keeps; {hint}"
        raise QueryError(message, wanted.text, value.at)


def _unknown(asked: list[tuple[str, str, Value]], known: Names) -> list[tuple[str, str, Value]]:
    return [one for one in asked if one[1] not in known[one[0]]]


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
