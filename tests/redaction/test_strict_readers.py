"""Tools that check files find nothing wrong in what is left after redaction, under any word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.redact.core.categories import WORDS
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.redaction.material_chunks import image, photo, tagged
from tests.redaction.material_sound import cover, sound
from tests.support.samples import pngs
from tests.support.samples.media import TOOL_DEADLINE_S, run


def files(directory: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """(kind, a file with metadata, the command that checks it)."""
    source = photo(directory)
    yield "image/png", tagged(image(directory / "a.png"), source), ("pngcheck", "-q")
    odd = directory / "odd.png"
    chunks = (pngs.packed_text("Comment", b"47.80453, 13.04229"), pngs.chunk(b"abCd", b"unknown"))
    odd.write_bytes(pngs.plain(*chunks, after=pngs.text("foo", "bar")))
    yield "image/png", odd, ("pngcheck", "-q")
    webp = directory / "a.webp"
    run("cwebp", "-quiet", str(image(directory / "b.png")), "-o", str(webp))
    yield "image/webp", tagged(webp, source), ("webpinfo", "-quiet")
    wav = sound(directory / "plain.wav", tags={})
    flac = directory / "a.flac"
    run("flac", "--silent", "--tag=LOCATION=here", f"--picture={cover(directory)}", str(wav), "-o", str(flac))
    yield "audio/flac", flac, ("flac", "--silent", "--warnings-as-errors", "-t")
    ogg = directory / "a.ogg"
    run(
        "oggenc",
        "--quiet",
        "-c",
        "LOCATION=here",
        "-t",
        "Quince",
        "-d",
        "2024-05-17",
        str(wav),
        "-o",
        str(ogg),
    )
    yield "audio/ogg", ogg, ("ogginfo", "-q", "-q")
    opus = directory / "a.opus"
    run("opusenc", "--quiet", "--comment", "LOCATION=here", "--title", "Quince", str(wav), str(opus))
    yield "audio/ogg", opus, ("opusinfo",)


@pytest.mark.timeout(120)
def test_strict_readers_find_nothing_wrong(tmp_path):
    for kind, path, command in files(tmp_path):
        data = path.read_bytes()
        changed = 0
        for word in WORDS:
            plan = locate(kind, frozenset({word}), MemorySource(data))
            assert plan.outcome.value != "refuse", (path.name, plan.reason)
            changed += bool(plan.patches)
            path.write_bytes(apply(data, plan.patches))
            done = subprocess.run(
                [*command, str(path)], capture_output=True, timeout=TOOL_DEADLINE_S, check=False, text=True
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, (path.name, word, said)
            assert "WARNING" not in said, (path.name, word, said)
        assert changed, path.name
