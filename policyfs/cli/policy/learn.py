"""`policyfs policy learn`: propose a policy that allows the requests of a trail, for a person to review."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from typing import Final

from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.query import add_query, finish, hole_fields, holes_of, opened
from policyfs.cli.common.time_bound import bounded
from policyfs.cli.policy.recorded_requests import RecordedRequests, Sighting
from policyfs.domain import DENY_UNKNOWN
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.policy.analysis.diff import Block, Note
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import PREFIX, without_exceptions
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.learn.bound import Bound
from policyfs.policy.learn.evidence import Evidence
from policyfs.policy.learn.globs import Proposed, may_allow, proposals
from policyfs.policy.learn.proposal import (
    NOT_COMPARED,
    globs_of,
    silenced,
    text_of,
    with_warnings,
)
from policyfs.policy.replay.recorded import Cause, Recorded
from policyfs.policy.replay.replay import Replayer
from policyfs.policy.text.parse import SourceText

_POLICIES: Final = 4
"""The maximum number of recorded policies that are kept compiled, without their exceptions (allow rules that
end at a date)."""


def run_learn(args: argparse.Namespace) -> int:
    """Print a proposed policy. Return 1 if there is nothing to propose."""
    trail, wanted = opened(args)
    check_names(trail, wanted)
    requests, evidence = RecordedRequests(trail, wanted), Evidence()
    words, bounds, kept = _collect(requests, evidence)
    if len(bounds) == 1:
        evidence.bound = bounds[0]
    elif any(bound.redacts for bound in bounds):  # none of several is taken over
        requests, evidence = RecordedRequests(trail, wanted), Evidence()
        *_, kept = _collect(requests, evidence, is_bound=False)
    text, wider = "", None
    while rules := proposals(evidence):
        text = silenced(text_of(rules, evidence, words))
        engine = load_policy([SourceText("proposal", text.encode())])
        if _contradict(RecordedRequests(trail, wanted), evidence, rules, engine):
            continue
        wider = _wider(bounds, engine)
        if wider is None or not evidence.narrow(globs_of(rules, wider)):
            if evidence.refused:
                _count_lost(RecordedRequests(trail, wanted), kept, evidence, engine)
                text = silenced(text_of(rules, evidence, words))
            break
    else:
        print("policyfs: this trail has no request that a proposed rule could allow", file=sys.stderr)
        return finish(trail, EXIT_REFUSED, wanted)
    text = with_warnings(text, wider)
    if args.json:
        holes = hole_fields(holes_of(trail, wanted))
        print(json.dumps({**_as_json(text, rules, evidence, requests), "holes": holes}, indent=2))
    else:
        print(text, end="")
        _tell(evidence, requests, wider)
    return finish(trail, EXIT_OK, wanted)


def _collect(
    requests: RecordedRequests, evidence: Evidence, *, is_bound: bool = True
) -> tuple[set[str], list[Bound], set[int]]:
    """Add all requests to the evidence. Return all redacted words, the policies at the end, and hashes of the
    ids of requests that are kept back. is_bound: True if the proposal takes over rules of the policy at the
    end."""
    words, kept = set[str](), set[int]()
    lasting = _LastingRules(requests)
    bounds: dict[tuple[str, bool], Bound] = {}
    for one in requests:
        words |= _redacted(requests, one)
        bound = None
        if requests.end is not None:
            key = requests.end.policy.digest, requests.end.monitor
            bound = bounds.get(key)
            if bound is None:
                bound = bounds[key] = Bound(*requests.end, requests.engine)
        taken_away = bound is not None and not bound.allows(
            one.recorded, one.path, one.new_path, empty=one.empty
        )
        guard = evidence.add(
            one.recorded, one.path, one.weight, one.id, denied_by_rule=_denied(requests, one.recorded),
            by_exception=not lasting.allow(one), taken_away=taken_away,
            only_own=bound is not None and bound.allows_only_own(one.recorded, one.path),
            raw=is_bound and bound is not None and bound.redacts,
        )  # fmt: skip
        if guard is not None:
            kept.add(hash(one.id()))
    return words, list(bounds.values()), kept


def _count_lost(requests: RecordedRequests, kept: set[int], evidence: Evidence, engine: Engine) -> None:
    """Count as kept back what the proposal refuses all the same: because another mount refused it to the app,
    or because too many of the app's requests were refused."""
    replayer = Replayer(engine, requests.engine)
    for one in requests:
        if one.recorded.allowed and hash(one.id()) not in kept:
            asked = replayer.asked(one.recorded)
            verdict = replayer.decide(asked, one.path, one.new_path, empty=one.empty)
            if verdict.direction is Direction.NARROWER and verdict.aspect is Aspect.ACCESS:
                evidence.lose(one.recorded, one.weight, one.id)


def _wider(bounds: Sequence[Bound], proposal: Engine) -> list[Block | Note] | None:
    """Return by what a proposal allows more; None with several mounts, or if it is too hard to compare."""
    if len(bounds) > 1:
        return None
    try:
        with bounded():
            return [block for bound in bounds for block in bound.wider(proposal.policy)]
    except TooHardError:
        return None


def _contradict(
    requests: RecordedRequests, evidence: Evidence, rules: Sequence[Proposed], engine: Engine
) -> bool:
    """Add refused requests that a proposal may allow to the evidence. Return True if there are some."""
    replayer = Replayer(engine, requests.engine)
    found = False
    for one in requests:
        if one.recorded.allowed or one.recorded.cause is Cause.RESOURCE:
            continue
        verdict = replayer.decide(replayer.asked(one.recorded), one.path, one.new_path, empty=one.empty)
        perhaps = bool(verdict.untold) and may_allow(rules, one.recorded, one.path)
        if verdict.direction is Direction.WIDER or perhaps:
            found |= evidence.refuse(one.recorded, one.path, one.weight, one.id)
    return found


class _LastingRules:
    """The policies of the trail without their exceptions (allow rules that end at a date)."""

    def __init__(self, requests: RecordedRequests) -> None:
        self._requests: Final = requests
        self._replayer: Final = functools.lru_cache(_POLICIES)(self._make)

    def allow(self, one: Sighting) -> bool:
        """Return False if only an exception (an allow rule with an end date) allowed the request; else True.
        If it is unknown whether only an exception allowed the request, return False, too."""
        recorded = one.recorded
        if not recorded.allowed or not any(rule.startswith(PREFIX) for rule in recorded.rules):
            return True
        replayer = self._replayer(self._requests.engine(recorded))
        if replayer is None:
            return False
        verdict = replayer.decide(replayer.asked(recorded), one.path, one.new_path, empty=one.empty)
        return verdict.direction is None and not verdict.untold

    def _make(self, engine: Engine | None) -> Replayer | None:
        if engine is None:
            return None
        return Replayer(compile_policy(without_exceptions(engine.policy)), self._requests.engine)


def _denied(requests: RecordedRequests, recorded: Recorded) -> bool:
    """Return True if a deny rule, or a rule of unknown text, refused the request, or would have."""
    rules = recorded.would_deny if recorded.allowed else recorded.rules
    effects = (requests.effect(recorded.digest, rule) for rule in rules if not rule.startswith("("))
    return any(effect in {None, "deny"} for effect in effects)


def _redacted(requests: RecordedRequests, one: Sighting) -> set[str]:
    """Return the words of data (such as ``location``) in the redact rules of the recorded policy."""
    engine = requests.engine(one.recorded)
    rules = () if engine is None else engine.policy.rules
    return {word for rule in rules for word in rule.redact if word != DENY_UNKNOWN}


def _tell(evidence: Evidence, requests: RecordedRequests, wider: Sequence[Block | Note] | None) -> None:
    kept = evidence.kept_back.total()
    print(
        f"policyfs: requests: {evidence.used:,} allowed by the proposal, {kept:,} kept back,"
        f" {evidence.denied:,} denied for lack of a rule, {requests.left_out.total():,} left out",
        file=sys.stderr,
    )
    if evidence.contradictions:
        print(
            f"policyfs: WARNING: {evidence.contradictions.total():,} refused requests match the proposed"
            " globs; deny rules refuse them again. See the list at the top of the proposal",
            file=sys.stderr,
        )
    if wider is None:
        print(f"policyfs: WARNING: {NOT_COMPARED}", file=sys.stderr)
    elif wider:
        print(
            "policyfs: WARNING: the proposal allows more than the policy in force at the end of the trail."
            " See the list at the top of the proposal",
            file=sys.stderr,
        )


def _as_json(
    text: str, rules: list[Proposed], evidence: Evidence, requests: RecordedRequests
) -> dict[str, object]:
    return {
        "policy": text,
        "used": evidence.used,
        "denied": evidence.denied,
        "left_out": dict(requests.left_out),
        "rules": [
            {
                "app": rule.app,
                "uids": list(rule.uids),
                "use": rule.use.value,
                "paths": [pattern.glob for pattern in rule.patterns],
                "requests": rule.weight,
                "ids": list(rule.ids),
            }
            for rule in rules
        ],
        "contradictions": [
            {"app": app, "uid": uid, "operation": operation, "requests": count,
             "id": evidence.contradicting[app, uid, operation]}
            for (app, uid, operation), count in evidence.contradictions.most_common()
        ],
        "kept_back": [
            {
                "guard": guard.name.lower(), "app": app, "operation": operation, "requests": count,
                "id": evidence.examples[guard, app, operation],
            }
            for (guard, app, operation), count in evidence.kept_back.most_common()
        ],
    }  # fmt: skip


def add_learn(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a policy that allows the requests of a trail, in short globs, with ids of requests as"
        " comments. Requests that a person should decide on (such as deletion and private directories)"
        " are left out of the policy, and listed. Nothing is put in force."
    )
    parser.add_argument("trail", metavar="TRAIL", help="a trail root, or the trail of one mount")
    add_query(parser, named=True)
    parser.add_argument("--json", action="store_true", help="one JSON object")
