"""Explanations of answers: every rule with its reason, the view, and the consequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.domain import KIND_EMPTY, Decision, Facts, FileType, Need, Op, Principal, View
from policyfs.errors import UsageError, errno_name
from policyfs.formats import REDACTABLE_KINDS, WITHOUT_LOCATOR
from policyfs.policy.callers import Caller
from policyfs.policy.decide import Engine
from policyfs.policy.facts import Truth, fixed_facts
from policyfs.policy.kept import kept_by_kernel
from policyfs.policy.model import ANY, STRANGER, Block, Effect, Rule, Where, Who
from policyfs.policy.states import PathState
from policyfs.policy.table import Live, Situated, binds_hold

REQUESTS: Final = {
    "see": Op.SEE,
    "lookup": Op.SEE,
    "stat": Op.SEE,
    "list": Op.SEE,
    "readlink": Op.SEE,
    "read": Op.SEE | Op.READ,
    "exec": Op.SEE | Op.READ,
    "getxattr": Op.SEE | Op.READ,
    "write": Op.SEE | Op.WRITE,
    "truncate": Op.SEE | Op.WRITE,
    "create": Op.SEE | Op.CREATE | Op.WRITE,
    "mkdir": Op.SEE | Op.CREATE,
    "mknod": Op.SEE | Op.CREATE,
    "symlink": Op.SEE | Op.CREATE,
    "delete": Op.SEE | Op.DELETE,
    "unlink": Op.SEE | Op.DELETE,
    "rmdir": Op.SEE | Op.DELETE,
    "attr": Op.SEE | Op.ATTR,
    "chmod": Op.SEE | Op.ATTR,
    "chown": Op.SEE | Op.ATTR,
    "utimens": Op.SEE | Op.ATTR,
    "setxattr": Op.SEE | Op.ATTR,
    "removexattr": Op.SEE | Op.ATTR,
    "all": Op.ALL,
}
"""Requests by name and the operations they need (``create``: as open with O_CREAT does)."""


NO: Final = "no"
"""The verdict on a rule that does not match."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule's effect on a request. verdict: ``matches``, ``may match`` (a fact is unknown) or ``no``."""

    rule: str
    effect: str
    verdict: str
    reason: str
    where: Where


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one request with its reasons. view: of regular files, else None.

    hidden_by: (directory, rule) for each directory above that hides the path. io: the way of reads and
    writes. kernel: the answers that the kernel of a shared mount may remember.
    """

    request: str
    who: str
    path: bytes
    decision: Decision
    lines: tuple[RuleLine, ...]
    hidden_by: tuple[tuple[bytes, str], ...]
    view: View | None
    needs: Need
    io: str
    kernel: str

    def text(self) -> str:
        """Format the explanation for people: the answer first, then the reasons."""
        shown = self.path.decode("utf-8", "backslashreplace")
        return "\n".join((f"{self.request} {shown} by {self.who}: {_answer(self.decision)}", *self._rest()))

    def _rest(self) -> Iterator[str]:
        for directory, rule in self.hidden_by:
            yield f"  hidden, because {rule} hides {directory.decode('utf-8', 'backslashreplace')}"
        for line in self.lines:
            place = f"{line.where.file}:{line.where.line}"
            yield f"  {line.verdict:<9} {line.effect:<7} {line.rule} ({place}): {line.reason}"
        if self.view is not None:
            yield f"  view: {self.view.label}"
        yield f"  depends on: {_facts(self.needs)}"
        yield f"  bytes: {self.io}"
        yield f"  kernel: {self.kernel}"


def explain(
    engine: Engine, who: Principal, request: str, path: bytes, ftype: FileType, facts: Facts
) -> Explanation:
    """Explain one request. facts: the file's known facts. Raises UsageError if there is no such request."""
    ops = REQUESTS.get(request)
    if ops is None:
        raise UsageError(f"no such request: {request!r}; there are {', '.join(REQUESTS)}")
    state = engine.state_of(path)
    decision = engine.decide(who, ops, state, ftype, facts)
    view = engine.view(who, state) if ftype is FileType.REGULAR else None
    weigher = _Weigher(engine, who, ops, state, fixed_facts(ftype, facts))
    return Explanation(
        request=request,
        who=who.label,
        path=path,
        decision=decision,
        lines=weigher.lines(),
        hidden_by=tuple(_hidden_by(engine, who, path)),
        view=view,
        needs=engine.needs(who, ops, state, ftype),
        io=_io(decision, view, ops),
        kernel=kept_by_kernel(engine, state, ftype),
    )


def _answer(decision: Decision) -> str:
    if not decision.allowed:
        return f"denied ({errno_name(decision.errno)})"
    parts = ["allowed"]
    if decision.bare:
        parts.append("as a bare directory, on the way to paths that the app sees")
    if decision.redact:
        parts.append(f"redacted: {', '.join(sorted(decision.redact))}")
    for kinds in decision.content:
        parts.append(f"only with content of {', '.join(sorted(kinds))}")
    if decision.quarantine:
        parts.append("refused files go to the quarantine")
    if decision.would_deny:
        parts.append(f"would be denied by {', '.join(decision.would_deny)}")
    return "; ".join(parts)


def _facts(need: Need) -> str:
    names = [
        name for flag, name in ((Need.KIND, "the content kind"), (Need.OWNER, "the owner")) if need & flag
    ]
    return " and ".join(names) or "only the path and the caller"


def _hidden_by(engine: Engine, who: Principal, path: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield the directories above that are hidden under any owner, each with the rule that hides it."""
    names = [name for name in path.split(b"/") if name]
    hiding = {live.number for live in engine.profile(who, engine.state_of(path)).hiding}
    for depth in range(1, len(names)):
        directory = b"/" + b"/".join(names[:depth])
        for live in engine.profile(who, engine.state_of(directory)).lives:
            if live.number in hiding:
                yield directory, live.rule.id


class _Weigher:
    """Finds the reason of each rule for one request."""

    def __init__(self, engine: Engine, who: Principal, ops: Op, state: PathState, facts: Facts) -> None:
        self._table: Final = engine.table
        self._caller: Final = engine.caller(who)
        self._profile: Final = engine.profile(who, state)
        self._ops: Final = ops
        self._state: Final = state
        self._facts: Final = facts
        self._placed: Final = {one.rule: one for one in state.situated(engine.table)}

    def lines(self) -> tuple[RuleLine, ...]:
        """Return a line for every rule, by id."""
        return tuple(self._line(number, rule) for number, rule in enumerate(self._table.rules))

    def _line(self, number: int, rule: Rule) -> RuleLine:
        verdict, reason = self._weigh(number, rule)
        if verdict != NO and rule.monitor:
            reason += "; only recorded (mode: monitor)"
        return RuleLine(rule.id, rule.effect.value, verdict, reason, rule.where)

    def _weigh(self, number: int, rule: Rule) -> tuple[str, str]:
        touched = self._ops & (Op.WRITE if rule.effect is Effect.CONTENT else rule.ops)
        if not touched:
            return NO, f"the rule is about {_words(rule.ops)}"
        if not self._caller.fits(number, rule):
            return NO, f"who: {_who_fault(rule.who, self._caller)}"
        situated = self._placed.get(number)
        if situated is None:
            fault = self._table.path_fault(number, self._state.position)
            return NO, f"{fault or 'paths'}: no glob matches"
        if not all(binds_hold(binds, self._caller) for binds in situated.binds):
            return NO, "paths: {app} or {uid} in the path is not this caller"
        live = self._table.live(situated, self._caller)
        if live is None or live.match(self._facts) is Truth.NO:
            return NO, self._condition_fault(rule, situated, live)
        if rule.effect is Effect.CONTENT and not self._profile.can_fill:
            return NO, "no allow of write or create could apply to this caller here"
        if live.match(self._facts) is Truth.YES:
            return "matches", f"it applies to {_words(touched)}, and all its conditions hold"
        if rule.effect is Effect.ALLOW:
            return NO, f"{_unknown(live)} is unknown, so this allow does not match"
        return "may match", f"{_unknown(live)} is unknown, so the rule counts as matching"

    def _condition_fault(self, rule: Rule, situated: Situated, live: Live | None) -> str:
        """Return the condition on facts that keeps the rule from matching."""
        if live is not None and live.when is not None and live.when.hold(self._facts) is Truth.NO:
            return f"when: {_asked(rule.when)} does not hold"
        for number, binds in situated.unless:
            if binds is None or binds_hold(binds, self._caller):
                block = rule.unless[number]
                if block.kinds is None and block.owners is None:
                    return f"unless: {_asked(block)} holds"
        if live is None:
            return f"when: {_asked(rule.when)} holds for no stranger"
        held = [c for c in live.unless if c.hold(self._facts) is Truth.YES]
        if not held:
            return "its conditions exclude each other"
        return f"unless: {_asked(rule.unless[0]) if len(rule.unless) == 1 else 'one of its blocks'} holds"


def _words(ops: Op) -> str:
    return ", ".join((op.name or "").lower() for op in ops)


def _unknown(live: Live) -> str:
    asked = live.conditions()
    kind = any(condition.kinds is not None for condition in asked)
    owner = any(condition.owners is not None for condition in asked)
    return " or ".join([*(["the content kind"] if kind else []), *(["the owner"] if owner else [])])


def _asked(block: Block | None) -> str:
    if block is None:
        return "nothing"
    parts = []
    if block.kinds is not None:
        parts.append(f"type {', '.join(sorted(block.kinds))}")
    if block.owners is not None:
        parts.append(f"owner {', '.join(sorted(block.owners))}")
    if block.paths is not None:
        parts.append(f"path {', '.join(block.paths)}")
    return " and ".join(parts)


def _who_fault(who: Who | None, caller: Caller) -> str:
    """Return the key of ``who`` that the caller does not match."""
    if who is None:
        return "everyone"
    name = caller.app or STRANGER
    if who.apps is not None and name not in who.apps and (caller.app is None or ANY not in who.apps):
        return f"{name} is none of {', '.join(sorted(who.apps))}"
    if who.grants is not None and who.grants.isdisjoint(caller.of.grants):
        return f"{name} holds no grant of {', '.join(sorted(who.grants))}"
    if who.not_ is not None and caller.of.within(who.not_):
        return f"{name} is excluded by not"
    return f"uid {caller.uid} is not among its uids"


def _io(decision: Decision, view: View | None, ops: Op) -> str:
    """Say how the file's bytes are read and written."""
    if not decision.allowed:
        return "none, it is denied"
    if view is None or not ops & (Op.READ | Op.WRITE):
        return "none"
    if view.raw:
        return "passthrough"
    parts = []
    if view.redact:
        now = f"{', '.join(sorted(decision.redact))} removed" if decision.redact else "nothing to remove now"
        parts.append(f"reads from a private copy, {now}")
    if view.checked:
        parts.append("writes through the daemon, their content checked")
    return "; ".join(parts)


def open_refusal(decision: Decision, kind: str | None) -> str | None:
    """Return the reason why the table of kinds (docs/redaction.md) forbids to open it redacted, or None."""
    if not decision.allowed or not decision.redact or kind is None:
        return None
    if kind in {KIND_EMPTY, *REDACTABLE_KINDS}:
        return None
    why = WITHOUT_LOCATOR.get(kind)
    return f"policyfs cannot clean files of the kind {kind}" if why is None else f"{kind}: {why}"
