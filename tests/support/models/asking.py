"""Requests to a policy in the words of docs/policy-language.md, and its answers likewise.

A request is ``read /DCIM/a.jpg``, a file ``image/jpeg of camera``, an answer
``allowed, redacted: location``. The page itself says what the words mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from policyfs.domain import KIND_DIRECTORY, KIND_SYMLINK, OWNER_NONE, Decision, Facts, FileType, Need, Op
from policyfs.errors import errno_name
from policyfs.policy.decide import End, Engine, compile_policy
from policyfs.policy.exceptions import in_force
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.values import instant

OPS = {
    "see": Op.SEE,
    "read": Op.SEE | Op.READ,
    "write": Op.SEE | Op.WRITE,
    "create": Op.SEE | Op.CREATE,
    "delete": Op.SEE | Op.DELETE,
    "attr": Op.SEE | Op.ATTR,
}
KINDS = {"directory": KIND_DIRECTORY, "symlink": KIND_SYMLINK, "unknown": None}
TYPES = {KIND_DIRECTORY: FileType.DIRECTORY, KIND_SYMLINK: FileType.SYMLINK}


class Row(NamedTuple):
    """One line of a table: who asks for what, of which file, and what is answered."""

    app: str
    request: str
    file: str
    answer: str


def engine_of(text: str) -> Engine:
    """The engine of one policy text."""
    return compile_policy(parse_policy([SourceText("policy.yaml", text.encode())]))


def shipped(name: str) -> Engine:
    """The engine of one of the policies that come with policyfs."""
    path = Path(__file__).resolve().parents[3] / "policies" / name
    return compile_policy(parse_policy([SourceText(path.name, path.read_bytes())]))


def rows(markdown: str) -> list[Row]:
    """The lines of a table with the columns app, request, file, answer."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(*row) for row in cells if row[0] != "app" and set(row[0]) != {"-"}]


def principal(engine: Engine, app: str):
    """An app by name (through its first uid, or its own mount), ``uid N``, or ``stranger``."""
    if app == "stranger":
        return engine.principal(65533)
    if app.startswith("uid "):
        return engine.principal(int(app[4:]))
    (found,) = (known for known in engine.policy.apps if known.name == app)
    return engine.principal(found.uids[0][0]) if found.uids else engine.app_principal(app, 5000)


def facts_of(file: str, app: str) -> tuple[FileType, Facts]:
    """What a file is and what is known of it, of the words in the column *file*."""
    words = file.split(" of ")
    if words[0].startswith("new"):
        kind = KIND_DIRECTORY if words[0] == "new directory" else None
        owner = OWNER_NONE if app == "stranger" or app.startswith("uid") else app
    else:
        kind = KINDS.get(words[0], words[0]) if words[0] else None
        owner = words[1] if len(words) > 1 and words[1] != "unknown" else None
    return TYPES.get(kind, FileType.REGULAR), Facts(kind, owner)


def ask(engine: Engine, row: Row) -> Decision:
    """The engine's decision on a row. A row without a file must not hang on any fact. A request ends in ``at
    TIME`` where exceptions are to count."""
    request, _, at = row.request.partition(" at ")
    if at:
        engine = compile_policy(in_force(engine.policy, instant(at)))
        row = row._replace(request=request)
    who = principal(engine, row.app)
    ftype, facts = facts_of(row.file, row.app)
    moved = re.fullmatch(r"(rename|link) (\S+) to (\S+)", row.request)
    if moved:
        old, new = (End(engine.state_of(path.encode()), ftype, facts) for path in moved.group(2, 3))
        if moved[1] == "link":
            return engine.link(who, old, new)
        return engine.rename(who, old, new, None, exchange=False)
    word, path = row.request.split(" ", 1)
    state = engine.state_of(path.encode())
    if not row.file:
        assert engine.needs(who, OPS[word], state, ftype) is Need.NOTHING, f"{row} hangs on facts"
    return engine.decide(who, OPS[word], state, ftype, facts)


def told(decision: Decision, *, audit: bool = False, rules: bool = False) -> str:
    """A decision in the words of the column *answer*; audit and rules only if they are asked for. What is
    required of a request that is denied anyway says nothing, and is not told."""
    parts = ["allowed" if decision.allowed else errno_name(decision.errno)]
    if decision.allowed and decision.bare:
        parts.append("bare")
    if decision.allowed and decision.redact:
        parts.append(f"redacted: {' '.join(sorted(decision.redact))}")
    if decision.allowed and decision.content:
        parts.append(
            "checked: " + " and ".join(sorted(" ".join(sorted(kinds)) for kinds in decision.content))
        )
    if decision.quarantine:
        parts.append("quarantine")
    if decision.would_deny:
        parts.append(f"would_deny: {' '.join(sorted(decision.would_deny))}")
    if decision.would_allow:
        parts.append(f"would_allow: {' '.join(sorted(decision.would_allow))}")
    if audit:
        parts.append(f"audit: {decision.audit.name.lower()}")
    if rules:
        parts.append("by " + " ".join(sorted({match.rule for match in decision.rules})))
    return ", ".join(parts)


def check(engine: Engine, row: Row) -> None:
    """Fails unless the engine answers a row as it says."""
    decision = ask(engine, row)
    answer = told(decision, audit="audit: " in row.answer, rules=", by " in row.answer)
    assert answer == row.answer, f"{row.app}: {row.request} ({row.file or 'any file'})\n{decision}"
