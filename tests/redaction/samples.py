"""What a matrix sample is: a real file with facts planted in it, and what has to become of them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from policyfs.domain import REDACTIONS
from policyfs.redact.core import categories
from tests.support.samples.media import TOOL_DEADLINE_S

Shown = Callable[[Path], str]
"""A digest of what a file shows or plays, made by a tool that is not policyfs."""


def pixels(path: Path) -> str:
    """Every frame's pixels as ImageMagick decodes them (orientation and colours as stored)."""
    return _digest(_tool("identify", "-quiet", "-format", "%#\n", str(path)))


def decoded(path: Path) -> str:
    """Every frame and all sound as ffmpeg decodes them."""
    return all_decoded([path])[0]


def all_decoded(paths: Sequence[Path]) -> list[str]:
    """The same of many files, by one ffmpeg."""
    return [_digest(said) for said in frames(paths)]


def frames(paths: Sequence[Path], streams: str = "va", *options: str) -> list[bytes]:
    """What one ffmpeg says of each frame of many files, in files of its own. streams: kinds of streams."""
    words: list[str] = [word for path in paths for word in ("-i", str(path))]
    with TemporaryDirectory() as directory:
        told = [Path(directory, str(number)) for number in range(len(paths))]
        for number, file in enumerate(told):
            maps = [word for kind in streams for word in ("-map", f"{number}:{kind}?")]
            words += [*maps, *options, "-f", "framemd5", str(file)]
        _tool("ffmpeg", "-v", "error", *words)
        return [file.read_bytes() for file in told]


def _tool(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
    if done.returncode:
        raise AssertionError(f"{command[0]} cannot read {command[-1]}: {done.stderr[-500:]!r}")
    return done.stdout


def _digest(said: bytes) -> str:
    assert said, "nothing is shown"
    return hashlib.sha256(said).hexdigest()


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the matrix.

    kind: what the sniffer has to call it. told: word of a policy -> facts planted for it: texts that
    some oracle prints or that stand in the bytes (a fact that tells two things stands under both).
    shown: has to be the same whatever is hidden; None where nothing decodes it. refused: words under
    which the documentation says that such a file is refused. extra: tags (``Group1:Name`` as exiftool
    writes them, or ``Group1``) that may go or change with any word, with the reason.
    """

    name: str
    kind: str
    path: Path
    told: Mapping[str, tuple[str, ...]]
    shown: Shown | None = pixels
    refused: frozenset[str] = frozenset()
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


WORDS: Final = tuple(word for word in categories.WORDS if word in REDACTIONS)
