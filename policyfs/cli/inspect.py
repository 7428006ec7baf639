"""`policyfs inspect`: the metadata that policyfs finds in a file, and the bytes that apps read instead."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Final

from policyfs.cli.common.looking import opened, plan_for
from policyfs.cli.saved_copy import frozen, save, settled
from policyfs.domain import DENY_UNKNOWN, REDACTIONS, Patch
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.redact.core.values import MAX_FINDINGS, Outcome, Plan, RemovedPart
from policyfs.trail.lines.table import shown, table

_PREVIEW_BYTES: Final = 32
_HEX_BYTES: Final = 8
_LOOKED_AT_BYTES: Final = 1 << 16
_TEXT_CHARACTERS: Final = 3
"""The minimum number of characters of a finding that is shown as text. A shorter finding is more likely a
number."""


def run_inspect(args: argparse.Namespace) -> int:
    """Print the metadata in a file. With --write, also save the file as an app would read it under redaction.
    Return 0 if redaction leaves the file unchanged, or if it was saved; else 1."""
    words = _words(args.redact) | ({DENY_UNKNOWN} if args.on_unknown == "deny" else frozenset())
    path = args.path
    with opened(path) as fd, contextlib.ExitStack() as stack:
        version = settled(fd)
        source = fd if args.write is None else stack.enter_context(frozen(fd))
        kind, plan = plan_for(source, words)
        if args.json:
            print(json.dumps(_as_json(path, version.size, kind, words, plan), indent=2))
        else:
            # The file's author chooses the names of tags. No escape sequence in them may reach the terminal.
            print("\n".join(map(shown, _report(path, version.size, kind, words, plan, fd))))
        if args.write is None:
            return EXIT_OK if plan.outcome is Outcome.CLEAN else EXIT_REFUSED
        if plan.outcome is Outcome.REFUSE:
            raise PolicyfsError(f"wrote nothing, because an app cannot open this file ({shown(plan.reason)})")
        try:
            save(fd, version, source, plan, args.write, lambda copy: plan_for(copy, words)[1])
        except PolicyfsError as error:
            raise PolicyfsError(f"cannot write {args.write}: {error}") from error
    return EXIT_OK


def _words(text: str) -> frozenset[str]:
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    if not words or not words <= REDACTIONS:
        known = ", ".join(sorted(REDACTIONS))
        raise UsageError(f"--redact takes some of {known}, separated by commas, not {text!r}")
    return words


def _report(
    name: str, size: int, kind: str | None, words: frozenset[str], plan: Plan, fd: int
) -> Iterator[str]:
    yield f"{name}: {kind or 'of unknown kind'}, {size:,} bytes; hidden: {', '.join(sorted(words))}"
    if plan.outcome is Outcome.REFUSE:
        yield f"an app cannot open this file (EACCES): {plan.reason}"
        return
    if plan.outcome is Outcome.CLEAN:
        yield f"an app reads the unchanged file: {plan.reason}"
        return
    changed = sum(patch.size for patch in plan.patches)
    yield f"an app reads {changed:,} bytes changed, in {len(plan.patches):,} ranges; the size stays the same"
    rows = [
        (
            *(f"{f.offset:,}", f"{f.length:,}", f.what, f"{f.container} {f.tag}"),
            *(_preview(fd, f), _reads_as(fd, f, plan.patches)),
        )
        for f in plan.findings
    ]
    head = ("offset", "bytes", "tells", "where", "holds", "reads as")
    yield from table(head, rows, right=frozenset({0, 1}))
    if len(plan.findings) == MAX_FINDINGS:
        yield f"(the first {MAX_FINDINGS} are shown; all are hidden)"
    counts = Counter(word for finding in plan.findings for word in finding.what.split(", "))
    yield "in all: " + ", ".join(f"{word} {count}" for word, count in sorted(counts.items()))


def _preview(fd: int, finding: RemovedPart) -> str:
    data = os.pread(fd, min(finding.length, _PREVIEW_BYTES), finding.offset)
    text = data.replace(b"\0", b"").decode("utf-8", "replace").strip()
    more = "..." if finding.length > _PREVIEW_BYTES else ""
    if len(text) >= _TEXT_CHARACTERS and text.isprintable() and "\ufffd" not in text:
        return f'"{text}{more}"'
    return data[:_HEX_BYTES].hex(" ") + ("..." if finding.length > _HEX_BYTES else "")


def _reads_as(fd: int, finding: RemovedPart, patches: tuple[Patch, ...]) -> str:
    """Describe the bytes that an app reads instead of a finding (a part of the file with metadata)."""
    end = finding.offset + min(finding.length, _LOOKED_AT_BYTES)
    old = os.pread(fd, end - finding.offset, finding.offset)
    new = bytearray(old)
    for patch in patches:
        first, last = max(patch.offset, finding.offset), min(patch.end, end)
        if first < last:
            new[first - finding.offset : last - finding.offset] = patch.part(first, last)
    if not any(new):
        return "zeros"
    return "spaces" if not new.strip(b" ") else "other data of the file, or neutral bytes"


def _as_json(name: str, size: int, kind: str | None, words: frozenset[str], plan: Plan) -> dict[str, object]:
    return {
        "file": name,
        "size": size,
        "kind": kind,
        "redact": sorted(words),
        "outcome": plan.outcome.value,
        "reason": plan.reason,
        "findings": [
            {
                "offset": finding.offset,
                "length": finding.length,
                "container": finding.container,
                "tag": finding.tag,
                "tells": finding.what.split(", "),
                "understood": not finding.broken,
            }
            for finding in plan.findings
        ],
        "ranges": [[patch.offset, patch.size] for patch in plan.patches],
    }


def add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows the data in a file that a redact rule hides from apps: position, name and meaning"
        " of each part. The exit code is 1 if there is such data, or if no app may open the file."
        " With --write OUT, saves the file as an app would read it; nothing is overwritten."
    )
    add = parser.add_argument
    add("path", metavar="PATH", help="a file, in a store or not")
    add(
        *("--redact", "-r"),
        default="all-metadata" if "all-metadata" in REDACTIONS else "location",
        metavar="WORDS",
        help=f"words of the rule, with commas: {', '.join(sorted(REDACTIONS))} (default: %(default)s)",
    )
    help_ = "what to do with parts that policyfs does not understand, as in a rule (default: zero)"
    add("--on-unknown", choices=("zero", "deny"), default="zero", help=help_)
    add("--write", metavar="OUT", help="save the file to OUT, as an app would read it")
    add("--json", action="store_true", help="one JSON object")
