"""A policy with further deny rules: a replay that shows that nothing was done against it, and its texts.

In the texts of a policy and its tests all other lines stay as they are, also comments.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from policyfs.cli.policy.recorded_requests import RecordedRequests, Sighting
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.outcomes import Direction
from policyfs.policy.cases.report import Outcome
from policyfs.policy.decide import Engine
from policyfs.policy.errors import PolicyError
from policyfs.policy.exceptions import ALWAYS
from policyfs.policy.learn.proposal import deny_text
from policyfs.policy.learn.unused import Taking
from policyfs.policy.lint.lint import lint
from policyfs.policy.model import Rule, Where
from policyfs.policy.replay.recorded import demand_of
from policyfs.policy.replay.replay import Replayer
from policyfs.policy.text.compose import compose, decode
from policyfs.policy.text.nodes import Items, Node, data_of
from policyfs.policy.text.nodes import Mapping as MappingNode
from policyfs.policy.text.parse import SourceText

PREFIX: Final = "tighten"
_COVERED: Final = "covered-by-deny"
_ADDED: Final = "tighten.yaml"
"""The name of the file with the further rules of a policy that is a directory."""
_EMPTY: Final = ("apiVersion: policyfs/v1", "kind: Policy", "rules:")
_NO_LIST: Final = "cannot change {}: write each item of its list on lines of its own, after a dash"
_NOWHERE: Final = Where("", 0, 0)


class Narrower:
    """Makes a policy narrower. engine: of the policy as it is, without its exceptions."""

    def __init__(self, path: str, sources: Sequence[SourceText]) -> None:
        """path: the file or directory of the policy."""
        self.path: Final = path
        self.sources: Final = sources
        self.engine: Final = load_policy(sources)

    def texts(self, takings: Sequence[Taking], comments: Mapping[str, str]) -> list[SourceText]:
        """Return the texts of the narrower policy. comments: by app. Raises PolicyfsError."""
        taken = {rule.id for rule in self.engine.policy.rules}
        rules: list[str] = []
        for one in takings:
            names = (f"{PREFIX}.{one.app}.{number}" for number in range(1, len(taken) + 2))
            id_ = next(name for name in names if name not in taken)
            taken.add(id_)
            rules += ["", *deny_text(comments.get(one.app, ""), id_, one.app, (), one.ops, one.globs)]
        new = _with_rules(self.path, self.sources, rules)
        return [*(one for one in self.sources if one.name != new.name), new]

    def silenced(self, sources: Sequence[SourceText]) -> list[SourceText]:
        """Return its texts, with comments for `policy lint` above allow rules that deny rules now cover."""
        meant = defaultdict[str, set[int]](set)
        found = lint(load_policy(sources), sources, at_ns=ALWAYS).findings
        known = {one.subject for one in lint(self.engine, self.sources, at_ns=ALWAYS).findings}
        for one in found:
            if one.id == _COVERED and one.subject not in known:
                meant[one.where.file].add(one.where.line)
        return [SourceText(one.name, _with_comments(one.text, meant[one.name])) for one in sources]

    def load(self, sources: Sequence[SourceText], takings: Sequence[Taking]) -> Engine:
        """Load the narrower policy. Raises PolicyfsError if it is not the old one with a rule for each."""
        engine = load_policy(sources)
        old, new = _rules(self.engine), _rules(engine)
        if len(new) != len(old) + len(takings) or any(new.get(id_) != rule for id_, rule in old.items()):
            raise PolicyfsError(_NO_LIST.format(self.path))
        return engine

    def settled(self, takings: Sequence[Taking], requests: RecordedRequests) -> list[Taking]:
        """Return these proposals without those under which something that was done would be refused."""
        left = list(takings)
        while left:
            engine = self.load(self.texts(left, {}), left)
            refused = self._refused(engine, left, requests)
            if not refused:
                break
            left = [one for one in left if one not in refused]
        return left

    def _refused(self, new: Engine, takings: Sequence[Taking], requests: RecordedRequests) -> list[Taking]:
        """Return the proposals that refuse, or perhaps refuse, a recorded request that was allowed."""
        found: dict[Taking, None] = {}
        replayers = [Replayer(engine, requests.engine) for engine in (new, self.engine)]
        for one in requests:
            if not one.recorded.allowed:
                continue
            after, before = (
                each.decide(each.asked(one.recorded), one.path, one.new_path, empty=one.empty)
                for each in replayers
            )
            is_worse = after.direction in {Direction.NARROWER, Direction.OTHER} and after != before
            if is_worse or after.untold:
                causes = [taking for taking in takings if _may_change(taking, one)]
                found |= dict.fromkeys(causes or (takings if is_worse and before.direction is None else ()))
        return list(found)


def _may_change(taking: Taking, one: Sighting) -> bool:
    """Return True if a deny rule can change the answer to a request, also to a move by another app: the move
    would give more rights to the app of the rule."""
    demand = demand_of(one.recorded.operation, one.recorded.syscall)
    if demand is None or demand.move:
        return taking.touches(one.path) or (one.new_path is not None and taking.touches(one.new_path))
    of_app = one.recorded.app == taking.app
    return of_app and taking.touches(one.path) and any(taking.ops & ops for ops in demand.ops)


def _with_comments(text: bytes, lines: Collection[int]) -> bytes:
    found: list[bytes] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if number in lines:
            indent = line[: len(line) - len(line.lstrip())]
            found.append(indent + f"# lint: ignore {_COVERED} because nobody used what is denied".encode())
        found.append(line)
    return b"\n".join(found)


def _rules(engine: Engine) -> dict[str, Rule]:
    return {rule.id: replace(rule, where=_NOWHERE) for rule in engine.policy.rules}


def _with_rules(path: str, sources: Sequence[SourceText], rules: Sequence[str]) -> SourceText:
    """Return the file of a policy that gets further rules, with its new text. path: the policy, a file or a
    directory. rules: lines, indented as in an ordinary file. Raises PolicyfsError."""
    name = os.path.join(path, _ADDED) if os.path.isdir(path) else sources[0].name
    old = next((one for one in sources if one.name == name), None)
    if old is None:
        return SourceText(name, "\n".join([*_EMPTY, *rules, ""]).encode())
    found = _items(old, "rules")
    if found is None:
        raise PolicyfsError(_NO_LIST.format(name))
    lines, places = found
    begin, end, _ = places[-1]
    indent = lines[begin].index("-")
    added = [line and " " * indent + line[2:] for line in rules]
    return SourceText(name, "\n".join([*lines[:end], *added, *lines[end:]]).encode())


def with_refusals(tests: SourceText, outcome: Outcome) -> SourceText:
    """Return a file of tests in which the requests that failed are expected to be denied. Other tests stay as
    they are. Raises PolicyfsError."""
    failing: dict[str, list[tuple[bool, str, str, str]]] = {}
    for case in dict.fromkeys(one.case.where for one in outcome.results if one.case.where.file == tests.name):
        results = [one for one in outcome.results if one.case.where == case]
        if not all(one.passed for one in results):
            doc = results[0].case.doc
            asked = [(op, path) for op in doc.operation for path in doc.path]
            callers = list(doc.app or [""] * (len(results) // len(asked)))
            every = [(who, *one) for who in callers for one in asked]
            failing[doc.id] = [(one.passed, *which) for one, which in zip(results, every, strict=True)]
    found = _items(tests, "tests")
    if not failing:
        return tests
    if found is None:
        raise PolicyfsError(_NO_LIST.format(tests.name))
    lines, places = found
    for begin, end, node in reversed(places):
        data = data_of(node)
        if isinstance(data, dict) and str(data["id"]) in failing:
            indent = " " * lines[begin].index("-")
            lines[begin:end] = [indent + line for line in _split(data, failing[str(data["id"])])]
    return SourceText(tests.name, "\n".join(lines).encode())


def _split(data: dict[str, object], asked: Sequence[tuple[bool, str, str, str]]) -> list[str]:
    """Return one test as several, for the requests that are answered as before, and those that are denied."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for passed, who, operation, path in dict.fromkeys(asked):
        groups.setdefault((passed, who, path), []).append(operation)
    lines = ["# policyfs tighten: rights that nobody used were taken away."]
    for number, ((passed, who, path), operations) in enumerate(groups.items()):
        more = {"id": f"{data['id']}.{number}" if number else data["id"], "operation": operations}
        more |= {"path": path} | ({"app": who} if who else {})
        more |= {} if passed else {"expect": {"decision": "deny"}}
        lines.append(f"- {json.dumps(data | more, ensure_ascii=False)}")
    return lines


def _items(text: SourceText, key: str) -> tuple[list[str], list[tuple[int, int, Node]]] | None:
    """Return the lines of a file, and for each item of a list its first line, the line after it, and its
    node. Return None if an item does not begin with a dash on its own line."""
    errors: list[PolicyError] = []
    root = compose(decode(text.name, text.text, errors), errors)
    lines = text.text.decode("utf-8-sig").split("\n")
    node = root.get(key) if isinstance(root, MappingNode) else None
    if not isinstance(node, Items) or not node.items:
        return None
    places = []
    for item in node.items:
        begin, column = item.span.line - 1, item.span.column - 1
        if lines[begin][:column].strip() != "-":
            return None
        end = last = begin + 1
        while end < len(lines):
            line = lines[end]
            indent = len(line) - len(line.lstrip())
            if line.strip() and not line.lstrip().startswith("#"):
                if indent < column:
                    break
                last = end + 1
            end += 1
        places.append((begin, last, item))
    return lines, places
