"""Exceptions: allows that end, in the answers of all commands that look at a policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policyfs.domain import NO_FACTS, Audit, FileType, Op
from policyfs.policy.analysis.diff import diff
from policyfs.policy.analysis.diff_text import Report, Side
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.outcomes import Direction
from policyfs.policy.decide import compile_policy
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.exceptions import ALWAYS, ended, ends, in_force, instant_text, next_end
from policyfs.policy.explain.explain import explain
from policyfs.policy.lint.lint import lint
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.values import instant

HEAD = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  guest: {uid: 10011}
rules:
  - {id: read, allow: [see, read], who: {app: camera}, paths: "/DCIM/**"}
  - {id: closed, deny: [all], paths: "/DCIM/private/***"}
"""
PARTY = """\
  - id: party
    allow: [see, read]
    until: %s
    reason: slides for the party
    approved-by: Ann
    who: {app: guest}
    paths: "%s"
"""
END = "2030-01-31T18:00:00Z"
LATER = "2030-02-28T18:00:00Z"
SECOND_NS = 1_000_000_000
END_NS = instant(END)


def text(*exceptions: str) -> str:
    return HEAD + ("exceptions:\n" + "".join(exceptions) if exceptions else "")


def party(until: str = END, paths: str = "/DCIM/**") -> str:
    return PARTY % (until, paths)


def policy(*exceptions: str) -> Policy:
    return parse_policy([SourceText("home.yaml", text(*exceptions).encode())])


def sees(of: Policy, path: bytes = b"/DCIM/a", uid: int = 10011) -> bool:
    engine = compile_policy(of)
    who = engine.principal(uid)
    return engine.decide(who, Op.READ, engine.state_of(path), FileType.REGULAR, NO_FACTS).allowed


def test_an_exception_allows_until_its_end_and_not_at_it() -> None:
    one = policy(party())
    assert not sees(one)  # a policy whose time nobody told has none
    assert sees(in_force(one, END_NS - 1))
    assert not sees(in_force(one, END_NS))
    again = in_force(in_force(one, END_NS), 0)
    assert sees(again)
    assert in_force(again, 1) is again
    assert [rule.id for rule in again.rules] == ["read", "closed", "exception:party"]


def test_a_deny_wins_over_an_exception() -> None:
    assert not sees(in_force(policy(party()), 0), b"/DCIM/private/a")


def test_what_an_exception_allowed_is_on_record_by_its_name() -> None:
    engine = compile_policy(in_force(policy(party()), 0))
    guest = engine.principal(10011)
    answer = engine.decide(guest, Op.READ, engine.state_of(b"/DCIM/a"), FileType.REGULAR, NO_FACTS)
    assert {match.rule for match in answer.rules} == {"exception:party"}
    assert answer.audit is Audit.REQUIRED


def test_ends_are_told_in_order() -> None:
    one = policy(party(), PARTY.replace("party", "later") % (LATER, "/b"))
    now = in_force(one, 0)
    assert next_end(now) == END_NS
    assert ended(now) == ()
    after = in_force(one, END_NS)
    assert [exception.rule.id for exception in ended(after)] == ["exception:party"]
    assert next_end(after) == instant(LATER)
    assert next_end(in_force(one, instant(LATER))) is None
    assert ends([one, now], END_NS) == [instant(LATER)]


@pytest.mark.parametrize("at_ns", [0, END_NS])
def test_an_invariant_wins_over_an_exception_whenever_it_ends(at_ns: int) -> None:
    never = 'invariants:\n  - {id: no-guests, never: [read], who: {app: guest}, paths: "/**"}\n'
    broken = text(party()) + never
    with pytest.raises(PolicyErrors, match="guest may read /DCIM/x by exception:party"):
        load_policy([SourceText("home.yaml", broken.encode())], at_ns=at_ns)


@pytest.mark.parametrize("year", ["1960", "0001"])
def test_an_end_long_ago_is_an_end_too(year: str) -> None:
    end = f"{year}-01-02T00:00:00Z"
    old, new = policy(), policy(party(end))
    assert instant(end) in ends([new], ALWAYS)
    assert diff(old, new, instant(end) - SECOND_NS).wider
    never = 'invariants:\n  - {id: no-guests, never: [read], who: {app: guest}, paths: "/**"}\n'
    with pytest.raises(PolicyErrors, match="guest may read /DCIM/x by exception:party"):
        load_policy([SourceText("home.yaml", (text(party(end)) + never).encode())], at_ns=0)


def test_explain_tells_ends_reasons_and_names() -> None:
    one = policy(party())
    lines = {}
    for at_ns in (0, END_NS):
        engine = compile_policy(in_force(one, at_ns))
        told = explain(engine, engine.principal(10011), "read", b"/DCIM/a", FileType.REGULAR, NO_FACTS)
        (lines[at_ns],) = (line for line in told.lines if line.rule == "exception:party")
    assert lines[0].verdict == "matches"
    assert lines[0].reason.endswith(f"until {END}, approved by Ann: slides for the party")
    assert (lines[END_NS].verdict, lines[END_NS].reason) == ("no", f"it ended at {END}")


def blocks(old: Policy, new: Policy, at_ns: int = ALWAYS) -> Iterator[tuple[str, str, str]]:
    for block in diff(old, new, at_ns).blocks:
        times = (block.since_ns, block.until_ns)
        yield block.direction.value, *("" if one is None else instant_text(one) for one in times)


def test_diff_tells_the_time_for_which_something_changes() -> None:
    base, short, long = policy(), policy(party()), policy(party(LATER))
    assert list(blocks(base, short)) == [("wider", "", END)]
    assert list(blocks(short, base)) == [("narrower", "", END)]
    assert list(blocks(base, short, END_NS)) == []
    assert list(blocks(short, long)) == [("wider", END, LATER)]
    assert list(blocks(long, short)) == [("narrower", END, LATER)]
    assert list(blocks(long, short, END_NS)) == [("narrower", "", LATER)]


def test_diff_finds_an_exception_made_a_rule() -> None:
    lasting = HEAD + '  - {id: guests, allow: [see, read], who: {app: guest}, paths: "/DCIM/**"}\n'
    rule = parse_policy([SourceText("new.yaml", lasting.encode())])
    access = [block for block in diff(policy(party()), rule).blocks if block.aspect.value == "access"]
    assert [(block.direction, block.since_ns, block.until_ns) for block in access] == [
        (Direction.WIDER, END_NS, None)
    ]
    assert access[0].rules == (("+", "guests"),)


def test_diff_joins_what_goes_on_beyond_an_end() -> None:
    new = HEAD + '  - {id: more, allow: [see], who: {app: guest}, paths: "/Music/**"}\n'
    more = parse_policy([SourceText("new.yaml", (new + "exceptions:\n" + party()).encode())])
    assert list(blocks(policy(party()), more)) == [("wider", "", "")]


def test_a_report_names_both_ends() -> None:
    sides = [Side("old.yaml", policy(party())), Side("new.yaml", policy(party(LATER)))]
    report = Report(diff(sides[0].policy, sides[1].policy), *sides, {})
    assert f"from {END} until {LATER}" in report.text()
    assert f"exception:party (until {END} before, until {LATER} now, home.yaml:10)" in report.text()
    assert f"--op read --at {END}" in report.text()
    (change,) = report.as_json()["changes"]
    assert (change["since"], change["until"]) == (END, LATER)


def test_an_accepted_change_does_not_stand_for_a_later_end() -> None:
    ids = {diff(policy(), policy(party(until))).blocks[0].id for until in (END, LATER)}
    assert len(ids) == 2


def test_another_approval_is_a_note() -> None:
    (note,) = diff(policy(party()), policy(party().replace("Ann", "Bob"))).notes
    assert note.text == "the reason or the approver of exception:party has changed"


def test_lint_looks_at_exceptions_as_at_rules_and_a_comment_silences() -> None:
    silent = party(paths="/DCIM/private/a").replace(
        "    reason", "    # lint: ignore covered-by-deny because it is a test\n    reason"
    )
    for exception, standing in ((party(paths="/DCIM/private/a"), ["covered-by-deny"]), (silent, [])):
        source = SourceText("home.yaml", text(exception).encode())
        engine = load_policy([source], at_ns=0)
        report = lint(engine, [source], at_ns=END_NS - 30 * 86400 * SECOND_NS)
        assert [finding.id for finding in report.findings if finding.subject == "exception party"] == standing
