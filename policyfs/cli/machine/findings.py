"""Findings: the results of checks on a machine and its stores."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class State(enum.Enum):
    """The state of a finding. OK: policyfs has what it needs. SLOW: policyfs works, but slower. OFF: a
    feature is missing. BAD: a mount will fail. ERROR: the check could not run."""

    OK = "ok"
    SLOW = "slow"
    OFF = "off"
    BAD = "bad"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. todo: the remedy, empty if none is needed."""

    name: str
    state: State
    what: str
    todo: str = ""


def tried(name: str, check: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """Run a check and return its findings. If the check raises an exception, return a finding of state ERROR.
    So the other checks can go on."""
    findings: list[Finding] = []
    try:
        found = check()
        findings.extend([found] if isinstance(found, Finding) else found)
    except Exception as error:  # noqa: BLE001 # a check of a broken machine may raise anything
        what = f"this check could not run: {error if isinstance(error, OSError) else repr(error)}"
        todo = "run this command as root, with /proc and /sys mounted; if this line stays, report a bug"
        findings.append(Finding(name, State.ERROR, what, todo))
    return findings


def render(findings: list[Finding]) -> str:
    """Return findings as a table: state, name, result, and the remedy on the next line."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state.value:<5} {finding.name:<{width}}  {finding.what}")
        if finding.todo:
            lines.append(f"{'':<5} {'':<{width}}  -> {finding.todo}")
    return "\n".join(lines)
