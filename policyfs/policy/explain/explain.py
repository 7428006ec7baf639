"""Explanations of answers: what each rule does and why, the view, and the consequences."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from policyfs.domain import KIND_EMPTY, Decision, Facts, FileType, Need, Op, Principal, View
from policyfs.errors import UsageError, errno_name
from policyfs.formats import REDACTABLE_KINDS, WITHOUT_LOCATOR
from policyfs.policy.decide import End, Engine
from policyfs.policy.errors import harmless
from policyfs.policy.exceptions import ended, instant_text
from policyfs.policy.explain.cause import cause_of, sentence
from policyfs.policy.explain.rule_lines import NO, RuleLine, Weigher
from policyfs.policy.model import Policy
from policyfs.policy.moves.losses import rules_that_hide
from policyfs.policy.rules.facts import fixed_facts
from policyfs.policy.rules.states import PathState

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
"""The operations that each request needs. ``create`` stands for an open with O_CREAT."""

MADE: Final = {
    "create": FileType.REGULAR,
    "mkdir": FileType.DIRECTORY,
    "mknod": FileType.REGULAR,
    "symlink": FileType.SYMLINK,
}
"""The types of the files that requests make. The owner of such a file is the caller."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one request, with its reasons.

    view: None if the file is not regular. nearest: the allow rule that nearly allows, if none does.
    hidden_by: pairs of a directory above and a rule that hides it. io: how bytes are read and written.
    kernel: the answers that the kernel may keep in a shared mount.
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
    cause: str
    nearest: RuleLine | None

    @property
    def shown_path(self) -> str:
        """The path as text that is safe for a terminal."""
        return harmless(self.path.decode("utf-8", "backslashreplace"))

    def text(self, *, every: bool = False, refusal: str | None = None) -> str:
        """Return the explanation as text. every: for all rules. refusal: why an allowed open is denied."""
        decision, cause = self.decision, self.cause
        if refusal is not None:
            decision, cause = Decision(allowed=False, errno=errno.EACCES), refusal
        first = sentence(self.who, self.request, self.shown_path, decision, cause)
        answer = f"{self.request} {self.shown_path} by {self.who}: {_answer(self.decision)}"
        return "\n".join((first, answer, *self.rest(every=every)))

    def rest(self, *, every: bool = False) -> Iterator[str]:
        """Yield the lines of the explanation that follow the answer. every: True for all rules."""
        for directory, rule in self.hidden_by:
            above = harmless(directory.decode("utf-8", "backslashreplace"))
            yield f"  hidden, because rule {rule} hides {above}"
        yield from self.rule_lines(every=every)
        if self.view is not None:
            yield f"  view: {self.view.label}"
        yield f"  depends on: {_facts(self.needs)}"
        yield f"  bytes: {self.io}"
        yield f"  kernel: {self.kernel}"
        yield f"  audit: {self.decision.audit.name.lower()}"

    def rule_lines(self, *, every: bool = False) -> Iterator[str]:
        """Yield lines on rules that match or nearly match, and how many do not. every: for all rules."""
        for line in self.lines:
            if every or line.verdict != NO:
                yield _line(line.verdict, line)
        others = sum(line.verdict == NO for line in self.lines)
        if every or not others:
            return
        if self.nearest is not None:
            yield _line("nearly", self.nearest)
            others -= 1
        if others:
            yield f"  {others} other rule{' does' if others == 1 else 's do'} not match (--all)"


def _line(verdict: str, line: RuleLine) -> str:
    place = f"{line.where.file}:{line.where.line}"
    return f"  {verdict:<9} {line.effect:<7} {line.rule} ({place}): {line.reason}"


@dataclass(frozen=True, slots=True)
class MoveExplanation:
    """The answer to a rename or link. ends: the old path, the new path and, if any, the replaced file."""

    request: str
    who: str
    decision: Decision
    ends: tuple[Explanation, ...]
    cause: str

    def text(self, *, every: bool = False) -> str:
        """Return the explanation as text. every: True to add the rules that do not match."""
        old, new = self.ends[:2]
        paths = f"{old.shown_path} to {new.shown_path}"
        lines = [sentence(self.who, self.request, paths, self.decision, self.cause)]
        for name, end in zip(_ENDS, self.ends, strict=False):
            lines.append(f"{name} {end.shown_path} ({end.request}): {_answer(end.decision)}")
            lines += end.rule_lines(every=every)
        return "\n".join(lines)


_SPECIAL: Final = "the mount refuses fifos, sockets and devices here (EPERM), whatever the rules allow"
_SPECIAL_IF_FREE: Final = "a mount without --posix refuses fifos, sockets and devices (EPERM)"
_ENDS: Final = ("old path", "new path", "replaced file")
MOVES: Final = {
    "rename": (Op.SEE | Op.DELETE, Op.SEE | Op.CREATE),
    "link": (Op.SEE | Op.READ | Op.WRITE, Op.SEE | Op.CREATE),
}
"""The operations that rename and link need on the old path, and on the new path."""


def explain(
    engine: Engine, who: Principal, request: str, path: bytes, ftype: FileType, facts: Facts
) -> Explanation:
    """Explain one request. facts: the known facts. Raise UsageError if *request* is not in REQUESTS."""
    ops = REQUESTS.get(request)
    if ops is None:
        raise UsageError(
            f"no request is named {request!r}; the requests are {', '.join((*REQUESTS, *MOVES))}"
        )
    found = _explained(engine, who, request, ops, path, ftype, facts)
    if request == "mknod" and found.decision.allowed:
        rest = _SPECIAL_IF_FREE if engine.unrestricted(who, engine.state_of(path)) else _SPECIAL
        return replace(found, cause=f"{found.cause}, but only for a regular file: {rest}")
    return found


def explain_move(
    engine: Engine,
    who: Principal,
    request: str,
    old: bytes,
    new: bytes,
    ftype: FileType,
    facts: Facts,
    replaced: tuple[FileType, Facts] | None = None,
) -> MoveExplanation:
    """Explain a rename or link. facts: of the moved file. replaced: the file at the new path, if any."""
    before, after = MOVES[request]
    ends = [
        _explained(engine, who, _named(before), before, old, ftype, facts),
        _explained(engine, who, _named(after), after, new, ftype, facts),
    ]
    if replaced is not None and request == "rename":
        gone = Op.SEE | Op.DELETE
        ends.append(_explained(engine, who, _named(gone), gone, new, *replaced))
    start, end = End(engine.state_of(old), ftype, facts), End(engine.state_of(new), ftype, facts)
    same = old.rpartition(b"/")[0] == new.rpartition(b"/")[0]
    if request == "link":
        decision = engine.link(who, start, end, same_directory=same)
    else:
        at = None if replaced is None else End(engine.state_of(new), *replaced)
        decision = engine.rename(who, start, end, at, False, same_directory=same)
    hiding = rules_that_hide(decision)
    cause = _cause_of_move(decision, ends, ftype, by_copy=decision.errno == errno.EXDEV or bool(hiding))
    if hiding:
        cause += _lost_by_copy(hiding, engine.policy, ftype)
    elif decision.errno == errno.EXDEV:
        copied = "the file" if ftype is FileType.REGULAR else "the files"
        cause += f"; mv then copies {copied} instead, and the policy decides on the copy"
    return MoveExplanation(request, who.label, decision, tuple(ends), cause)


def _named(ops: Op) -> str:
    return " and ".join((op.name or "").lower() for op in ops if op is not Op.SEE)


def _lost_by_copy(hiding: Sequence[str], policy: Policy, ftype: FileType) -> str:
    rules = {rule.id: rule for rule in policy.rules if rule.id in hiding}
    words = ", ".join(sorted({word for rule in rules.values() for word in rule.redact if " " not in word}))
    places = ", ".join(f"{name} at {rule.where.file}:{rule.where.line}" for name, rule in rules.items())
    what = "the file" if ftype is FileType.REGULAR else "a file below the directory"
    return (
        f"; only a copy could have the new path. The app reads {what} without its {words} ({places}), so the"
        " copy would lack these data, and the data would be lost when mv deletes the original. Exempt the app"
        " from the redaction (give it the grant), or let the app delete only its own files (owner: self)"
    )


def _cause_of_move(decision: Decision, ends: Sequence[Explanation], ftype: FileType, *, by_copy: bool) -> str:
    denied = [(name, end) for name, end in zip(_ENDS, ends, strict=False) if not end.decision.allowed]
    for name, end in sorted(denied, key=lambda one: one[1].decision.errno != decision.errno):
        return f"the {name} needs {end.request}, and {end.cause}"
    if decision.allowed:
        return "the rules allow both paths, and no app gains rights by the new path"
    if by_copy and ftype is FileType.DIRECTORY:
        return (
            "the rules below the new path differ from those below the old path, or the app may not delete"
            " some file below the directory"
        )
    if by_copy:
        return (
            "some app or user would have more rights to the file at the new path, or the new path requires"
            " other content"
        )
    return "the file does not have the content that the new path requires"


def _explained(
    engine: Engine, who: Principal, request: str, ops: Op, path: bytes, ftype: FileType, facts: Facts
) -> Explanation:
    state = engine.state_of(path)
    decision = engine.decide(who, ops, state, ftype, facts)
    view = engine.view(who, state) if ftype is FileType.REGULAR else None
    weigher = Weigher(engine, who, ops, state, fixed_facts(ftype, facts))
    lines, hidden_by = weigher.lines(), tuple(_hidden_by(engine, who, path))
    # what is not seen is refused for this reason alone, whatever rules say about the other operations
    seen = engine.decide(who, Op.SEE, state, ftype, facts)
    refusal, missing = (decision, Op(0)) if seen.allowed else (seen, Op.SEE)
    for op in ops if seen.allowed and not decision.allowed else Op(0):
        if not engine.decide(who, op, state, ftype, facts).allowed:
            missing |= op
    denies = frozenset(match.rule for match in refusal.rules if match.effect == "deny" and not match.monitor)
    nearest = None if decision.allowed or denies or hidden_by else weigher.nearest(missing, path)
    brings = decision.allowed and not ops & Op.WRITE
    brought = _brought(engine, who, ops, state, ftype, facts) if brings else ""
    return Explanation(
        request=request,
        who=who.label,
        path=path,
        decision=decision,
        lines=tuple(_dated(lines, engine.policy)),
        hidden_by=hidden_by,
        view=view,
        needs=engine.needs(who, ops, state, ftype),
        io=_io(decision, view, ops) + brought,
        kernel=kept_by_kernel(engine, state, ftype),
        cause=cause_of(decision, missing, lines, denies, hidden_by, nearest, top=state.top),
        nearest=nearest,
    )


def _dated(lines: tuple[RuleLine, ...], policy: Policy) -> Iterator[RuleLine]:
    dated = {one.rule.id: one for one in policy.exceptions}
    for line in lines:
        one = dated.get(line.rule)
        if one is None:
            yield line
        else:
            end = f"until {instant_text(one.until_ns)}, approved by {one.approved_by}: {one.reason}"
            yield replace(line, reason=f"{line.reason}; {end}")
    for one in ended(policy):
        reason = f"it ended at {instant_text(one.until_ns)}"
        yield RuleLine(one.rule.id, one.rule.effect.value, NO, reason, one.rule.where)


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
    if decision.keep is not None:
        parts.append(decision.keep.words)
    if decision.would_deny:
        parts.append(f"would be denied by {', '.join(decision.would_deny)}")
    return "; ".join(parts)


def _facts(need: Need) -> str:
    names = [
        name for flag, name in ((Need.KIND, "the content kind"), (Need.OWNER, "the owner")) if need & flag
    ]
    return " and ".join(names) or "only the path and the caller"


def _hidden_by(engine: Engine, who: Principal, path: bytes) -> Iterator[tuple[bytes, str]]:
    names = [name for name in path.split(b"/") if name]
    hiding = {live.number for live in engine.profile(who, engine.state_of(path)).hiding}
    for depth in range(1, len(names)):
        directory = b"/" + b"/".join(names[:depth])
        for live in engine.profile(who, engine.state_of(directory)).lives:
            if live.number in hiding:
                yield directory, live.rule.id


def _io(decision: Decision, view: View | None, ops: Op) -> str:
    if not decision.allowed:
        return "none, because the request is denied"
    if view is None or not ops & (Op.READ | Op.WRITE):
        return "none"
    if view.raw:
        return "passthrough"
    parts = []
    if view.redact:
        now = f"{', '.join(sorted(decision.redact))} removed" if decision.redact else "nothing to remove now"
        parts.append(f"reads from a private copy, {now}")
    if view.checked:
        parts.append("writes through the daemon, which checks their content")
    return "; ".join(parts)


def _brought(engine: Engine, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts) -> str:
    if ops & Op.CREATE and ftype is FileType.REGULAR:
        rules = (live.rule for live in engine.profile(who, state).content(facts))
        required = sorted({" or ".join(sorted(rule.content)) for rule in rules})
        return f"; a file moved here must be {' and '.join(required)}" if required else ""
    banned = ops & Op.ATTR and engine.bans(who, state, ftype, facts)
    return "; user.* attributes are refused" if banned else ""


def open_refusal(decision: Decision, kind: str | None) -> str | None:
    """Return why policyfs denies an open that the rules allow: it cannot redact this kind. Else None."""
    if not decision.allowed or not decision.redact or kind is None:
        return None
    if kind in {KIND_EMPTY, *REDACTABLE_KINDS}:
        return None
    told = f"policyfs cannot clean files of the kind {kind}"
    why = WITHOUT_LOCATOR.get(kind)
    return told if why is None else f"{told} ({why})"


_NAMED: Final = 3


def kept_by_kernel(engine: Engine, state: PathState, ftype: FileType) -> str:
    """Return a text with the answers about a path that a shared mount's kernel may keep, and the reason."""
    differ = engine.distinctions
    if engine.monitor:
        return "asks the daemon each time: under --monitor apps and strangers are treated in different ways"
    below = differ.rules_below(state)
    if differ.sight(state):
        rules = _by(differ.rules_at(state) or below)
        return f"asks the daemon each time: not all callers see this path{rules}"
    if ftype is FileType.REGULAR and differ.node(state):
        why = f"not all callers have the same view{_by(differ.rules_at(state, views=True))}"
        return f"keeps the attributes, and asks the daemon for the name each time: {why}"
    if ftype is not FileType.DIRECTORY:
        return "keeps the name and the attributes: either all callers see this path, or none"
    if differ.below(state):
        return (
            f"keeps the name and the attributes, not the listing: not all callers see all names{_by(below)}"
        )
    return "keeps the name, the attributes and the listing: no rule distinguishes callers here or below"


def _by(rules: tuple[str, ...]) -> str:
    if not rules:
        return ""
    more = f" and {len(rules) - _NAMED} more" if len(rules) > _NAMED else ""
    return f" (rules: {', '.join(rules[:_NAMED])}{more})"
