"""The cause of a decision, in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from policyfs.domain import Decision, Op
from policyfs.errors import errno_name
from policyfs.policy.errors import harmless, words_of
from policyfs.policy.explain.rule_lines import NO, RuleLine
from policyfs.policy.model import Effect


def cause_of(
    decision: Decision,
    missing: Op,
    lines: Sequence[RuleLine],
    denying: Collection[str],
    hidden_by: Sequence[tuple[bytes, str]],
    nearest: RuleLine | None,
    *,
    top: bool,
) -> str:
    """Return the cause of an answer as text.

    missing: the operations that no rule allows. denying: the ids of the rules that deny. hidden_by: pairs of
    a directory above and a rule that hides it. nearest: the allow rule that nearly allows. top: True for the
    root.
    """
    spoke = [line for line in lines if line.verdict != NO and "only recorded" not in line.reason]
    if decision.allowed:
        return _of_allowed(decision, spoke, top=top)
    denies = [line for line in spoke if line.rule in denying]
    if hidden_by:
        directory, rule = hidden_by[0]
        return f"rule {rule} hides {harmless(directory.decode('utf-8', 'backslashreplace'))}"
    if denies:
        unsure = all(line.verdict != "matches" for line in denies)
        verb = "denies" if len(denies) == 1 else "deny"
        told = f"{_rules(line.rule for line in denies)} {verb} the request"
        return f"{told}, because {denies[0].reason}" if unsure else told
    if missing & Op.SEE:
        told = "no rule allows the caller to see the path"
    else:
        told = f"no rule allows {' or '.join(words_of(missing).split(', '))}"
    if nearest is None:
        return told
    place = f"{nearest.where.file}:{nearest.where.line}"
    return f"{told}; the nearest rule is {nearest.rule} ({place}): {nearest.reason}"


def _of_allowed(decision: Decision, spoke: Sequence[RuleLine], *, top: bool) -> str:
    if decision.would_deny:
        told = f"{_rules(decision.would_deny)} would deny the request"
        return f"{told}, but in monitor mode policyfs only records this"
    way = "everyone may see the root" if top else "the directory leads to paths that the app sees"
    allows = [line.rule for line in spoke if line.effect == Effect.ALLOW.value]
    verb = "allows" if len(allows) == 1 else "allow"
    if decision.bare and not allows:
        return way
    told = f"{_rules(allows)} {verb} the request" if allows else "no rule denies the request"
    if decision.bare:
        told += f", and {way}"
    redacts = [line.rule for line in spoke if line.effect == Effect.REDACT.value]
    if decision.redact:
        told += f", without {', '.join(sorted(decision.redact))} ({_listed(redacts)})"
    if limits := [line for line in spoke if line.effect == Effect.LIMIT.value]:
        told += f", and {_rules(line.rule for line in limits)} may stop the app: {limits[0].reason}"
    return told


def _rules(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))
    return f"{'rule' if len(known) == 1 else 'rules'} {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def sentence(who: str, request: str, path: str, decision: Decision, cause: str) -> str:
    """Return a sentence with the answer to a request and its cause. who: the caller's name."""
    if decision.allowed:
        return f"{who} may {request} {path}: {cause}."
    return f"{who} may not {request} {path} ({errno_name(decision.errno)}): {cause}."
