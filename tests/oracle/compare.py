"""Ask policyfs the questions that the oracle answers."""

from __future__ import annotations

import errno

from policyfs.domain import DENY_UNKNOWN, Audit, FileType, Op, Principal, ban, cleaning
from policyfs.domain import Facts as FactsOf
from policyfs.policy.analysis.requests import Request
from policyfs.policy.decide import End, Engine
from tests.oracle.decide import DIRECTORY, LEVELS, Answer, Oracle, Requirement
from tests.oracle.draw import Question
from tests.oracle.globs import names_of
from tests.oracle.language import UNKNOWN, Facts
from tests.oracle.moves import CLEANABLE, WORDS, Move

TYPES = {DIRECTORY: FileType.DIRECTORY, "inode/symlink": FileType.SYMLINK}


def as_bytes(path: str) -> bytes:
    """Return the bytes of a path."""
    return path.encode("utf-8", "surrogateescape")


def facts_of(facts: Facts) -> tuple[FileType, FactsOf]:
    """Return facts of the oracle as those of policyfs."""
    owner = None if facts.owner == UNKNOWN else facts.owner
    return TYPES.get(facts.kind or "", FileType.REGULAR), FactsOf(facts.kind, owner)


def principal(engine: Engine, app: str | None, uid: int) -> Principal:
    """Return a caller as a principal of the engine."""
    return engine.principal(uid) if app is None else engine.app_principal(app, uid)


def ask(engine: Engine, question: Question) -> Answer:
    """Return the engine's answer to a question, in the words of the oracle."""
    who = principal(engine, question.app, question.uid)
    names = names_of(question.path)
    chain = [(engine.root, FactsOf(DIRECTORY, "none"))]
    for depth in range(1, len(names)):
        state = engine.state_of(as_bytes("/" + "/".join(names[:depth])))
        chain.append((state, facts_of(Facts(DIRECTORY, question.above[depth - 1]))[1]))
    state = engine.state_of(as_bytes(question.path))
    operation = Op.SEE
    for word in question.operation.split():
        operation |= Op[word.upper()]
    answer = engine.hidden_above(who, chain) or engine.decide(
        who, operation, state, *facts_of(question.facts)
    )
    return Answer(
        errno.errorcode[answer.errno] if answer.errno else None,
        bare=answer.bare and answer.allowed,
        redact=answer.redact - {DENY_UNKNOWN},
        strict=DENY_UNKNOWN in answer.redact,
        checks=frozenset(answer.content),  # type: ignore[arg-type]
        quarantine=answer.quarantine,
        audit=Audit(answer.audit).name.lower(),
        would_deny=frozenset(answer.would_deny),
        would_allow=frozenset(answer.would_allow),
    )


def view(engine: Engine, question: Question) -> str:
    """Return the form in which a caller sees a file, without the words."""
    who = principal(engine, question.app, question.uid)
    return engine.view(who, engine.state_of(as_bytes(question.path))).label.split("(")[0]


def move(engine: Engine, asked: Move) -> str | None:
    """Return the errno of a rename or link that nobody has open, of a file that was searched."""
    who = principal(engine, asked.caller.app, asked.caller.uid or 0)
    for path in (asked.old, asked.new):
        names = names_of(path)
        above = [as_bytes("/" + "/".join(names[:depth])) for depth in range(len(names))]
        chain = [(engine.state_of(one), FactsOf(DIRECTORY, "none")) for one in above]
        if engine.hidden_above(who, chain):
            return "ENOENT"
    ftype, facts = facts_of(asked.facts)
    if asked.facts.kind in (*CLEANABLE, "inode/x-empty"):
        facts = facts._replace(free_of=frozenset({*WORDS, DENY_UNKNOWN}))
    old, new = (End(engine.state_of(as_bytes(path)), ftype, facts) for path in (asked.old, asked.new))
    near = asked.old.rsplit("/", 1)[0] == asked.new.rsplit("/", 1)[0]
    if asked.is_link:
        answer = engine.link(who, old, new, same_directory=near)
    else:
        answer = engine.rename(who, old, new, None, False, same_directory=near)
    return errno.errorcode[answer.errno] if answer.errno else None


def patterns(check: Requirement) -> frozenset[str]:
    """Return a requirement as policyfs writes it."""
    if check.effect == "content":
        return check.values
    if check.effect == "clean":
        return frozenset({cleaning(check.values)}) | check.raw_types
    return (
        frozenset({ban(check.values | ({DENY_UNKNOWN} if check.strict else frozenset()))}) | check.raw_types
    )


def differences(policies: tuple[Oracle, Oracle], question: Question) -> tuple[frozenset[str], frozenset[str]]:
    """Return the parts of the answers that differ, and those that a comparison of two policies must report.

    Records of rules in monitor mode do not count. What a change of `see` brings with it is reported
    with `see` alone, and what a change of `write` brings with it is reported with `write` alone.
    """
    callers = [oracle.policy.caller(question.app, question.uid) for oracle in policies]

    def answers(operation: str) -> list[Answer]:
        return [
            oracle.decide(caller, operation, question.path, question.facts, question.above)
            for oracle, caller in zip(policies, callers, strict=True)
        ]

    def both(operation: str) -> bool:
        return all(answer.errno is None for answer in answers(operation))

    before, after = answers(question.operation)
    if (before.errno is None) != (after.errno is None):
        return frozenset({"access"}), frozenset({"access"})
    found = {"errno"} if before.errno != after.errno else set()
    if before.errno is None:
        found |= {"redaction"} if (before.redact, before.strict) != (after.redact, after.strict) else set()
        found |= {"content"} if before.checks != after.checks else set()
        found |= {"quarantine"} if before.quarantine != after.quarantine else set()
        regular = question.facts.kind not in TYPES
        if question.operation == "attr" and not both("write") and not (regular and both("create")):
            facts = Facts(None, question.facts.owner) if regular else question.facts
            bans = [
                oracle.bans(caller, question.path, facts)
                for oracle, caller in zip(policies, callers, strict=True)
            ]
            found |= {"content"} if bans[0] != bans[1] else set()
        if question.operation == "create" and regular and not both("write"):
            checks = [
                oracle.required(caller, question.path, question.facts)
                for oracle, caller in zip(policies, callers, strict=True)
            ]
            found |= {"content"} if checks[0] != checks[1] else set()
    # a redaction that begins or ends changes the level by itself
    weaker = bool(after.redact) and LEVELS.index(after.audit) < LEVELS.index(before.audit)
    if weaker or (before.audit != after.audit and "redaction" not in found):
        found.add("record")
    sights = [answer.errno for answer in answers("see")]
    told = found if sights[0] == sights[1] else set()
    if any(
        oracle.hiding(caller, question.path, question.above)
        for oracle, caller in zip(policies, callers, strict=True)
    ):
        told = told - {"record"}  # told of the hidden directory
    return frozenset(found), frozenset(told)


def asked(request: Request) -> Question:
    """Return a sample request of a comparison as a question."""
    names = names_of(request.path.decode("utf-8", "surrogateescape"))
    above = tuple(UNKNOWN if owner is None else owner for owner in request.owners) or ("none",) * len(names)
    kind = {FileType.DIRECTORY: DIRECTORY, FileType.SYMLINK: "inode/symlink"}.get(
        request.ftype, request.facts.kind
    )
    return Question(
        request.subject.mounted,
        request.subject.uid,
        (request.op.name or "").lower(),
        request.path.decode("utf-8", "surrogateescape"),
        Facts(kind, UNKNOWN if request.facts.owner is None else request.facts.owner),
        above,
    )
