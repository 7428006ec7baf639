"""Digital video, as ffmpeg writes it into each container: refused where its times are to be hidden."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from policyfs.redact.bitstreams.digital_video import check_dated
from policyfs.redact.core.categories import UNKNOWN, hidden_by
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate

MOMENT = "2024-05-17 11:22:33"
KINDS = {"avi": "video/x-msvideo", "mov": "video/quicktime", "mkv": "video/x-matroska"}


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tape") / "tape.dv"
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=720x576:rate=25:duration=0.2"),
            *("-f", "lavfi", "-i", "sine=duration=0.2:sample_rate=48000", "-pix_fmt", "yuv420p"),
            *("-c:v", "dvvideo", "-c:a", "pcm_s16le", "-ac", "2"),
            *("-metadata", f"creation_time={MOMENT.replace(' ', 'T')}Z", str(path)),
        ],
        check=True,
        timeout=60,
    )
    return path


@pytest.mark.parametrize("name", KINDS)
def test_the_time_on_a_tape_is_shown_in_no_file(name: str, tape: Path, tmp_path: Path) -> None:
    path = tmp_path / f"tape.{name}"
    rate = ["-r", "25"]  # ffmpeg 7 finds a wrong one
    command = ["ffmpeg", "-v", "error", *rate, "-i", str(tape), "-map", "0:v", "-map", "0:a", "-c", "copy"]
    subprocess.run([*command, str(path)], check=True, timeout=60)
    said = subprocess.run(["mediainfo", str(path)], capture_output=True, timeout=60, check=True)
    assert MOMENT.encode() in said.stdout
    source = MemorySource(path.read_bytes())
    for word in ("time", "device", "all-metadata"):
        assert locate(KINDS[name], frozenset({word}), source).outcome is Outcome.REFUSE, word
    for word in ("location", "people"):
        assert locate(KINDS[name], frozenset({word}), source).outcome is not Outcome.REFUSE, word


def test_no_other_codec_is_digital_video():
    for code in (b"DIVX", b"DVX1", b"dvhe", b"dvav", b"avc1", b"MJPG", b"dvcC", b"AVdn", b"", b"dv"):
        check_dated(code, UNKNOWN)
    check_dated(b"dvsd", hidden_by(["location", "people"]))
    with pytest.raises(NotThisKindError):
        check_dated(b"DVSD", hidden_by(["time"]))
