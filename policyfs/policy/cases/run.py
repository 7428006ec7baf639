"""The run of a policy's tests: the policy's answers are compared with the expected answers."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from policyfs.domain import OWNER_NONE, Decision, Facts, FileType, Principal, View
from policyfs.errors import errno_name
from policyfs.policy.cases.document import TYPES, Case
from policyfs.policy.decide import End, Engine, compile_policy
from policyfs.policy.errors import PolicyError, PolicyErrors, quote
from policyfs.policy.exceptions import in_force, instant_text
from policyfs.policy.explain.explain import MADE, REQUESTS, open_refusal
from policyfs.policy.model import SELF, Policy, Rule
from policyfs.policy.stranger import stranger_of


class Difference(NamedTuple):
    """One part of an answer that is not as expected."""

    key: str
    expected: str
    found: str


class Result(NamedTuple):
    """The result of one request of a test. rules: the rules that had an effect on the answer."""

    case: Case
    request: str
    differences: tuple[Difference, ...]
    rules: frozenset[str]
    explain: str

    @property
    def passed(self) -> bool:
        """True if the answer is as expected."""
        return not self.differences


def run(
    policy: Policy, cases: Iterable[Case], named: str, sniff: Callable[[Case], str | None]
) -> Iterator[Result]:
    """Yield the result of every request of the tests.

    A test without ``at`` is decided without exceptions. named: the policy's name in commands. sniff: a
    function that returns the kind of the file that a test names in ``content``. Raise PolicyErrors if a test
    needs a stranger and every uid belongs to an app.
    """
    engines: dict[tuple[Rule, ...], Engine] = {}
    for case in cases:
        then = policy if case.doc.at is None else in_force(policy, case.doc.at)
        engine = engines.get(then.rules)
        if engine is None:
            engine = engines[then.rules] = compile_policy(then)
        kind = case.doc.kind if case.doc.content is None else sniff(case)
        for who in _callers(engine, case):
            for operation in case.doc.operation:
                for path in case.doc.path:
                    yield _Request(engine, case, who, operation, path, kind).result(named)


def _callers(engine: Engine, case: Case) -> Iterator[Principal]:
    doc = case.doc
    for name in doc.app or ():
        if name == "stranger":
            yield _stranger(engine, case)
            continue
        app = next(app for app in engine.policy.apps if app.name == name)
        yield engine.app_principal(name, app.uids[0][0] if app.uids else 0)
    for uids in doc.uid or ():
        for uid in dict.fromkeys(uids):
            yield engine.principal(uid)


def _stranger(engine: Engine, case: Case) -> Principal:
    who = stranger_of(engine)
    if who is not None:
        return who
    message = f"test {quote(case.doc.id)} needs a stranger, but every uid belongs to an app"
    help_ = "remove stranger from app in this test, or give the apps of the policy fewer uids"
    raise PolicyErrors([PolicyError(case.where, message, help_, "", 1)], "the tests have errors")


class _Request:
    def __init__(
        self, engine: Engine, case: Case, who: Principal, operation: str, path: str, kind: str | None
    ) -> None:
        self._engine: Final = engine
        self._case: Final = case
        self._who: Final = who
        self._operation: Final = operation
        self._path: Final = path
        doc = case.doc
        making = MADE.get(operation)
        self._ftype: Final = making or TYPES[doc.type or FileType.REGULAR.value]
        owner = doc.owner
        if owner == SELF or (owner is None and making is not None):
            owner = who.app or OWNER_NONE
        self._facts: Final = Facts(kind, owner)

    def result(self, policy: str) -> Result:
        decision = self._decide()
        refused = self._ftype is FileType.REGULAR and open_refusal(decision, self._facts.kind) is not None
        differences = tuple(self._differences(decision, refused=refused))
        rules = frozenset(match.rule for match in decision.rules)
        return Result(self._case, self._text(), differences, rules, self._command(policy))

    def _decide(self) -> Decision:
        engine, to = self._engine, self._case.doc.to
        state = engine.state_of(self._path.encode())
        if to is None:
            return engine.decide(self._who, REQUESTS[self._operation], state, self._ftype, self._facts)
        old = End(state, self._ftype, self._facts)
        new = End(engine.state_of(to.encode()), self._ftype, self._facts)
        same = self._path.rpartition("/")[0] == to.rpartition("/")[0]
        if self._operation == "link":
            return engine.link(self._who, old, new, same_directory=same)
        return engine.rename(self._who, old, new, None, False, same_directory=same)

    def _differences(self, decision: Decision, *, refused: bool) -> Iterator[Difference]:
        expect = self._case.doc.expect
        allowed = decision.allowed and not refused
        code = errno.EACCES if refused else decision.errno
        found = "allow" if allowed else f"deny ({errno_name(code)})"
        if expect.decision != found.split(maxsplit=1)[0]:
            yield Difference("decision", expect.decision, found)
        elif expect.errno is not None and expect.errno != errno_name(code):
            yield Difference("errno", expect.errno, errno_name(code))
        if expect.redact is not None and frozenset(expect.redact) != decision.redact:
            yield Difference("redact", _listed(expect.redact), _listed(decision.redact))
        if expect.view is not None:
            view = self._engine.view(self._who, self._engine.state_of(self._path.encode()))
            if expect.view != _view_name(view):
                yield Difference("view", expect.view, _view_name(view))
        matched = {match.rule for match in decision.rules}
        if expect.rules is not None and not matched.issuperset(expect.rules):
            yield Difference("rules", _listed(expect.rules), _listed(matched))
        if expect.audit is not None and expect.audit != decision.audit.name.lower():
            yield Difference("audit", expect.audit, decision.audit.name.lower())
        for key, wanted, is_so in (
            ("bare", expect.bare, decision.bare),
            ("quarantine", expect.quarantine, decision.quarantine),
        ):
            if wanted is not None and wanted != is_so:
                yield Difference(key, str(wanted).lower(), str(is_so).lower())

    def _text(self) -> str:
        to = f" to {self._case.doc.to}" if self._case.doc.to is not None else ""
        kind = self._facts.kind or ("unknown kind" if self._ftype is FileType.REGULAR else self._ftype.value)
        owner = self._facts.owner or "unknown owner"
        who = self._who.label if self._case.doc.uid is None else f"uid {self._who.uid}"
        at = "" if self._case.doc.at is None else f" at {instant_text(self._case.doc.at)}"
        return f"{self._operation} {self._path}{to} by {who} ({kind} of {owner}){at}"

    def _command(self, policy: str) -> str:
        if self._case.doc.to is not None:
            return ""
        by_app = self._case.doc.uid is None and self._who.app is not None
        words = ["policyfs", "policy", "explain", policy, self._path]
        words += ["--app", str(self._who.app)] if by_app else ["--uid", str(self._who.uid)]
        words += ["--op", self._operation]
        words += [] if self._case.doc.at is None else ["--at", instant_text(self._case.doc.at)]
        if self._ftype is not FileType.REGULAR:
            words.append(f"--{self._ftype.value}")
        elif self._facts.kind is not None:
            words += ["--kind", self._facts.kind]
        owner = self._facts.owner
        if owner is not None:
            known = owner == OWNER_NONE or any(app.name == owner for app in self._engine.policy.apps)
            words += ["--owner" if known else "--former-owner", owner]
        return shlex.join(words)


def _view_name(view: View) -> str:
    parts = ["checked"] if view.checked else []
    return "+".join([*parts, *(["redacted"] if view.redact else [])]) or "raw"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"
