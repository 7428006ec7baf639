"""libmagic by its soname."""

from __future__ import annotations

import subprocess

import pytest

from policyfs.linux import libmagic
from policyfs.linux.libmagic import Magic, MagicError

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"


def test_a_kind_is_the_one_that_file_prints() -> None:
    magic = Magic()
    for head in (JPEG, b"plain text\n", b"\0" * 100, b"%PDF-1.4\n", b"x\0y" * 30):
        said = subprocess.run(
            ["file", "--brief", "--mime-type", "-"], input=head, capture_output=True, timeout=30, check=True
        )
        assert magic.kind(head) == said.stdout.decode().strip()


def test_the_version_and_the_database_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert libmagic.version() > 500
    assert libmagic.database()
    monkeypatch.setenv("MAGIC", "/elsewhere/magic")
    assert libmagic.database() == "/elsewhere/magic"
    with pytest.raises(MagicError, match="magic files"):
        Magic()


def test_without_the_library_there_is_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libmagic, "_SONAME", "libnothing.so.1")
    with pytest.raises(MagicError, match="libnothing"):
        Magic()
