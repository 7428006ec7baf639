"""Findings (probable mistakes in a policy), and the comments in a policy that silence them."""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from policyfs.policy.errors import PolicyError, harmless
from policyfs.policy.exceptions import PREFIX
from policyfs.policy.model import App, Policy, Rule, Where
from policyfs.policy.text.parse import SourceText

_COMMENT: Final = re.compile(r"(?:^|\s)#\s*lint:\s*ignore\b(.*)$")
_IGNORE: Final = re.compile(r"\s+(?P<id>[a-z-]+)\s+because\s+(?P<reason>\S.*)")


class Finding(NamedTuple):
    """One probable mistake. id: its sort. subject: the rule or app. todo: the remedy."""

    id: str
    where: Where
    subject: str
    message: str
    todo: str


class Silenced(NamedTuple):
    """A finding that is not reported because of a comment in the policy, with the reason in this comment."""

    finding: Finding
    reason: str


def on_rule(id_: str, rule: Rule, message: str, todo: str) -> Finding:
    """Return a finding on a rule."""
    dated = rule.id.startswith(PREFIX)
    subject = f"exception {rule.id.removeprefix(PREFIX)}" if dated else f"rule {rule.id}"
    return Finding(id_, rule.where, subject, message, todo)


def on_app(id_: str, policy: Policy, app: App, message: str, todo: str) -> Finding:
    """Return a finding on an app."""
    where = app.where or (policy.rules[0].where if policy.rules else Where("policy", 1, 1))
    return Finding(id_, where, f"app {app.name}", message, todo)


class _Comment(NamedTuple):
    where: Where
    id: str
    reason: str


def split(
    findings: Iterable[Finding], policy: Policy, sources: Sequence[SourceText]
) -> tuple[list[Finding], list[Silenced]]:
    """Divide findings: those to report, and those that a comment in the policy silences. A comment is about
    the rule or app in which it stands, or that begins below it; one that silences nothing is reported."""
    starts = _starts(policy)
    comments, faults = _comments(sources)
    at = {
        (comment.where.file, _subject_line(starts, comment, sources), comment.id): comment
        for comment in comments
    }
    stand: list[Finding] = [*faults]
    silenced: list[Silenced] = []
    used: set[_Comment] = set()
    for finding in findings:
        key = (finding.where.file, finding.where.line, finding.id)
        comment = at.get(key)
        if comment is None:
            stand.append(finding)
        else:
            used.add(comment)
            silenced.append(Silenced(finding, comment.reason))
    for comment in comments:
        if comment not in used:
            message = f"this comment silences nothing: there is no finding {comment.id} here"
            stand.append(Finding("unused-ignore", comment.where, "", message, "remove the comment"))
    return sorted(stand, key=lambda one: (one.where.file, one.where.line, one.where.column, one.id)), silenced


def not_silenced(findings: Iterable[Finding], policy: Policy, sources: Sequence[SourceText]) -> list[Finding]:
    """Return the findings that no comment silences, without findings about comments."""
    known = dict.fromkeys(findings)
    return [finding for finding in split(known, policy, sources)[0] if finding in known]


def _starts(policy: Policy) -> dict[str, list[int]]:
    places = [rule.where for rule in policy.rules] + [one.rule.where for one in policy.invariants]
    places += [one.rule.where for one in policy.exceptions]
    places += [app.where for app in policy.apps if app.where is not None]
    found: dict[str, set[int]] = {}
    for where in places:
        found.setdefault(where.file, set()).add(where.line)
    return {file: sorted(lines) for file, lines in found.items()}


def _subject_line(starts: dict[str, list[int]], comment: _Comment, sources: Sequence[SourceText]) -> int:
    own = starts.get(comment.where.file, [])
    lines = _lines(next(source for source in sources if source.name == comment.where.file))
    line = comment.where.line
    after = line + 1
    while after <= len(lines) and re.match(r"\s*(#|$)", lines[after - 1]):
        after += 1
    if re.match(r"\s*#", lines[line - 1]) and after in own:
        return after
    before = bisect_right(own, line)
    return own[before - 1] if before else 0


def _comments(sources: Sequence[SourceText]) -> tuple[list[_Comment], list[Finding]]:
    found: list[_Comment] = []
    faults: list[Finding] = []
    for source in sources:
        for number, line in enumerate(_lines(source), 1):
            match = _COMMENT.search(line)
            if match is None:
                continue
            where = Where(source.name, number, line.index("#", match.start()) + 1)
            said = _IGNORE.fullmatch(match[1])
            if said is None:
                message = "a comment that silences a finding needs the id of the finding and a reason"
                todo = "write # lint: ignore ID because REASON"
                faults.append(Finding("ignore-without-reason", where, "", message, todo))
            else:
                found.append(_Comment(where, said["id"], said["reason"].strip()))
    return found, faults


@functools.lru_cache(maxsize=2)  # each finding shows a line, and the findings are sorted by file
def _lines(source: SourceText) -> list[str]:
    return re.split(r"\r\n|\n|\r", source.text.decode("utf-8", "replace").removeprefix("\ufeff"))


def excerpt(finding: Finding, sources: Sequence[SourceText]) -> PolicyError:
    """Return a finding in the form of an error, which shows the line of the policy with a caret."""
    source = next((source for source in sources if source.name == finding.where.file), None)
    lines = [] if source is None else _lines(source)
    line = lines[finding.where.line - 1] if finding.where.line <= len(lines) else ""
    width = max(1, len(line.rstrip()) - finding.where.column + 1)
    subject = f"{harmless(finding.subject)}: " if finding.subject else ""
    return PolicyError(finding.where, f"{finding.id}: {subject}{finding.message}", finding.todo, line, width)
