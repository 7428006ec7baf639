"""A picture (the names of a store that one caller would see) as text for a terminal, and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from policyfs.cli.policy.view.picture import REDACTED, REFUSED, Entry, Picture, Rest, Sample, words_of
from policyfs.domain import FileType
from policyfs.trail.lines.table import fit, pad, shown, shown_path, table

_HIDDEN: Final = 20
_UNREAD: Final = 10
_NEAR: Final = 10
_LEGEND: Final = "r read, w write, c create in it, d delete, a change attributes"


def text_of(picture: Picture, columns: int | None) -> str:
    """Return a picture as text. columns: the width of the terminal; None: no limit."""
    return "\n".join((*_head(picture), "", *_tree(picture, columns), *_after(picture, columns)))


def _head(picture: Picture) -> Iterator[str]:
    counts = picture.counts()
    skipped = f"; {_plural(picture.skipped, 'file', 'files')} not looked at" if picture.skipped else ""
    policy = f"{shown(picture.policy)} ({picture.digest[:16]})"
    yield f"{shown(picture.store)} as {picture.who} sees it under {policy}"
    yield (
        f"{_plural(counts[FileType.DIRECTORY], 'directory', 'directories')},"
        f" {_plural(counts[FileType.REGULAR], 'file', 'files')},"
        f" {_plural(counts[FileType.SYMLINK], 'symlink', 'symlinks')}{skipped}; {_LEGEND}"
    )


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _tree(picture: Picture, columns: int | None) -> Iterator[str]:
    entries = ordered(picture)
    views = {bytes_of(entry) for entry in entries if isinstance(entry, Entry)}
    room = max(map(len, views), default=0)
    for entry in entries:
        if isinstance(entry, Rest):
            depth = entry.directory.rstrip(b"/").count(b"/") + 1
            line = f"{'':5}  {'':{room}}  {'  ' * depth}and {told_of(entry)}"
        else:
            depth = entry.path.count(b"/") if entry.path != b"/" else 0
            name = shown_path(entry.path.rpartition(b"/")[2])
            name += {FileType.DIRECTORY: "/", FileType.SYMLINK: "@"}.get(entry.ftype, "")
            line = f"{entry.letters}  {pad(bytes_of(entry), room)}  {'  ' * depth}{name}"
        yield line if columns is None else fit(line, columns)


def told_of(rest: Rest) -> str:
    """Return a text with the number of files that the walk skipped."""
    what = f"*{shown(rest.suffix)}" if rest.suffix else "without an extension"
    return f"{rest.files:,} more {what}, not looked at (--alike)"


def bytes_of(entry: Entry) -> str:
    """Return the name of the view of a file, or an empty text for the raw view and for other file types. For
    a directory that is seen only as the way to visible paths, return ``on the way``."""
    if entry.bare:
        return "on the way"
    return "" if entry.view is None or entry.view.raw else entry.view.label


def ordered(picture: Picture) -> list[Entry | Rest]:
    """Return the entries in the order of a tree: a directory, then its contents, then its skipped files."""
    below: dict[bytes, list[Entry]] = defaultdict(list)
    rests: dict[bytes, list[Rest]] = defaultdict(list)
    for entry in picture.entries:
        if entry.path != b"/":
            below[entry.path.rpartition(b"/")[0] or b"/"].append(entry)
    for rest in picture.rests:
        rests[rest.directory].append(rest)
    found: list[Entry | Rest] = []
    todo: list[Entry | Rest] = [*picture.entries[:1]]
    while todo:
        one = todo.pop()
        found.append(one)
        if isinstance(one, Entry) and one.ftype is FileType.DIRECTORY:
            inside = sorted(below[one.path], key=lambda entry: entry.path)
            todo += [*reversed(rests[one.path]), *reversed(inside)]
    return found


def _after(picture: Picture, columns: int | None) -> Iterator[str]:
    if picture.samples:
        total = sum(picture.may_be_redacted.values())
        yield ""
        told = f"{len(picture.samples):,} of {_plural(total, 'file', 'files')} examined, --samples"
        yield f"Reads under redaction ({told}):"
        rows = [
            (kind, str(count), result, shown_path(path)) for kind, count, result, path in sampled(picture)
        ]
        head = ("KIND", "FILES", "RESULT", "EXAMPLE")
        yield from table(head, rows, columns=columns, flexible=2, right=frozenset({1}))
    if picture.hidden:
        yield ""
        yield f"Not seen: {_plural(len(picture.hidden), 'name', 'names')} in the directories above:"
        for hidden in picture.hidden[:_HIDDEN]:
            yield f"  {shown_path(hidden.path)}: {hidden.why}"
        if len(picture.hidden) > _HIDDEN:
            yield f"  and {len(picture.hidden) - _HIDDEN:,} more (--json has all)"
    for path, why in picture.unread[:_UNREAD]:
        yield f"not listed: {shown_path(path)}: {why}"
    if len(picture.unread) > _UNREAD:
        yield f"not listed: {len(picture.unread) - _UNREAD:,} more directories"
    for near in picture.near[:_NEAR]:
        yield f"near miss: rule {near}"
    if len(picture.near) > _NEAR:
        yield f"near miss: {len(picture.near) - _NEAR:,} more (--json has all)"


def sampled(picture: Picture) -> list[tuple[str, int, str, bytes]]:
    """Return a table about the files that were opened as samples. Each row has a kind, the number of files,
    the result, and one path."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], bytes] = {}
    for sample in picture.samples:
        key = (sample.kind or "unknown", result_of(sample))
        counts[key] += 1
        first.setdefault(key, sample.path)
    return [(kind, counts[kind, result], result, first[kind, result]) for kind, result in sorted(counts)]


def result_of(sample: Sample) -> str:
    """Return a text about the result of opening one file: the bytes that the app reads, or the refusal."""
    if sample.outcome == REDACTED:
        return f"read without {', '.join(sample.words)}"
    if sample.outcome == REFUSED:
        return f"cannot be opened: {shown(sample.reason)}"
    return f"read unchanged: {shown(sample.reason)}"


def as_json(picture: Picture) -> dict[str, object]:
    """Return a picture as one JSON object."""
    return {
        "store": picture.store,
        "near_misses": picture.near,
        "policy": picture.policy,
        "digest": picture.digest,
        "who": picture.who,
        "entries": [_entry(entry) for entry in picture.entries],
        "not_looked_at": [
            {"directory": _text(rest.directory), "suffix": rest.suffix, "files": rest.files}
            for rest in picture.rests
        ],
        "hidden": [
            {"path": _text(one.path), "type": one.ftype.value, "why": one.why} for one in picture.hidden
        ],
        "redaction": {
            "files": sum(picture.may_be_redacted.values()),
            "samples": [
                {
                    "path": _text(one.path), "kind": one.kind, "outcome": one.outcome,
                    "words": list(one.words), "reason": one.reason,
                }
                for one in picture.samples
            ],
        },
        "not_listed": [{"directory": _text(path), "why": why} for path, why in picture.unread],
    }  # fmt: skip


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "path": _text(entry.path),
        "type": entry.ftype.value,
        "may": words_of(entry.may),
        "bare": entry.bare,
        "view": None if entry.view is None else entry.view.label,
        "content": list(entry.content),
        "rules": list(entry.rules),
        "kind": entry.kind,
        "owner": entry.owner,
    }


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
