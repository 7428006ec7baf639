"""What a matrix sample is: a real file with facts planted in it, and what has to become of them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from policyfs.domain import REDACTIONS
from policyfs.redact.core import categories
from tests.support.samples.media import TOOL_DEADLINE_S

Shown = Callable[[Path], str]
"""A digest of what a file shows or plays, made by a tool that is not policyfs."""


def pixels(path: Path) -> str:
    """Every frame's pixels as ImageMagick decodes them (orientation and colours as stored)."""
    return _tool("identify", "-quiet", "-format", "%#\n", str(path))


def streams(path: Path) -> str:
    """Every packet of picture and sound as ffmpeg demultiplexes them, with their times."""
    return _tool(
        *("ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v?", "-map", "0:a?"),
        *("-c", "copy", "-f", "framemd5", "-"),
    )


def decoded(path: Path) -> str:
    """Every frame and all sound as ffmpeg decodes them."""
    return _tool(
        "ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v?", "-map", "0:a?", "-f", "framemd5", "-"
    )


def _tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
    if done.returncode or not done.stdout:
        raise AssertionError(f"{command[0]} cannot read {command[-1]}: {done.stderr[-500:]!r}")
    return hashlib.sha256(done.stdout).hexdigest()


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
