"""A confined child: it has no rights, its answer is bounded, and its end is an error of the command."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from policyfs.cli.common.confined import in_confined_child
from policyfs.errors import PolicyfsError
from tests.support.machine.processes import call_as


def _rights(data: bytes) -> object:
    """Try what a hostile parser would do."""
    done = []
    for name, attempt in (
        ("open", lambda: os.open("/etc/passwd", os.O_RDONLY)),
        ("fork", os.fork),
        ("connect", lambda: socket.socket(socket.AF_UNIX)),
        ("kill", lambda: os.kill(1, 0)),
    ):
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    return [done, data.decode()]


def _memory(data: bytes) -> object:
    return len(data * (1 << 32))


def _end(_data: bytes) -> object:
    os._exit(3)


def _much(_data: bytes) -> object:
    return "x" * (17 << 20)


def test_the_child_has_no_rights(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    assert in_confined_child(_rights, str(tmp_path / "file"), 5) == [[], "words"]


@pytest.mark.parametrize(
    ("function", "told"),
    [(_memory, "MemoryError"), (_end, "too much time or memory"), (_much, "too much time or memory")],
)
def test_a_child_that_fails_is_an_error_of_the_command(tmp_path: Path, function, told: str) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(PolicyfsError, match=told):
        in_confined_child(function, str(tmp_path / "file"), 5)


def test_a_file_that_is_too_large_or_absent_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(PolicyfsError, match="larger than 4 bytes"):
        in_confined_child(_rights, str(tmp_path / "file"), 4)
    with pytest.raises(PolicyfsError, match="No such file"):
        in_confined_child(_rights, str(tmp_path / "none"), 4)


def test_a_user_without_rights_can_ask() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        file = Path(directory) / "file"
        file.write_text("words")
        assert call_as(10_011, in_confined_child, _rights, str(file), 5) == [[], "words"]
