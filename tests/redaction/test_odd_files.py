"""What is odd within a stated length goes, and reference decoders read the rest as before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.content.workers.worker import Detector
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.redaction import odd_files
from tests.redaction.kind_matrix import matrix, packaged
from tests.redaction.odd_files import Odd
from tests.redaction.samples import frames
from tests.support.samples.media import TOOL_DEADLINE_S

MARKS = (b"47.80453", b"13.04229")


def said(reader: tuple[str, ...], path: Path) -> bytes:
    """What the reference decoder says of a file; empty if it does not read it."""
    command = [*reader, path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
    return b"" if done.returncode else b"read:" + done.stdout


def wrong(odd: Odd, path: Path, kind: str | None) -> Iterator[str]:
    """Redact the file, and let the locator read it again. Yield what is wrong with it."""
    plan = locate(odd.kind, frozenset({"location"}), MemorySource(odd.data))
    out = apply(odd.data, plan.patches)
    path.write_bytes(odd.data)
    path.with_stem("view").write_bytes(out)
    if kind != odd.kind:
        yield f"is called {kind}"
    if plan.outcome is not Outcome.PATCH:
        yield f"{plan.outcome.value}: {plan.reason}"
    again = locate(odd.kind, frozenset({"location"}), MemorySource(out))
    if again.outcome is not Outcome.CLEAN:
        yield f"again {again.outcome.value}: {again.reason}"
    if len(out) != len(odd.data):
        yield "its size changed"
    if any(mark in out for mark in MARKS):
        yield "the place is still in it"


@pytest.mark.parametrize("make", [odd_files.stills, odd_files.films, odd_files.sounds, odd_files.large])
@pytest.mark.timeout(120)
def test_decoders_read_what_is_left(make: Callable[[Path], Iterator[Odd]], tmp_path: Path) -> None:
    detector, found, films = Detector(), [], {}
    (tmp_path / "made").mkdir()
    for number, odd in enumerate(make(tmp_path / "made")):
        path = tmp_path / str(number) / "file"
        path.parent.mkdir()
        name = f"{odd.name} ({odd.kind}, {odd.reader[:1]})"
        found += [f"{name}: {why}" for why in wrong(odd, path, detector.kind(odd.data[:65536]))]
        if not odd.reader:
            films[name] = path
            continue
        old, new = said(odd.reader, path), said(odd.reader, path.with_stem("view"))
        assert old, f"{name}: the decoder does not read the file as made"
        if old.replace(b"file", b"") != new.replace(b"view", b""):
            found.append(f"{name}: damaged: {old[-200:]!r} {new[-200:]!r}")
    pairs = frames([p for path in films.values() for p in (path, path.with_stem("view"))])
    for name, old, new in zip(films, pairs[::2], pairs[1::2], strict=True):
        if old != new:
            found.append(f"{name}: damaged")
    assert not found, "\n".join(found)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_no_sample_of_the_packages_of_this_machine_is_damaged(tmp_path: Path) -> None:
    rows = matrix(packaged(), tmp_path)
    assert sum(row.counts["files"] for row in rows.values()) > 100
    assert [text for row in rows.values() for text in row.wrong] == []
