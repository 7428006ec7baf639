"""What is said of a wrong command line."""

from __future__ import annotations

import pytest

from policyfs.cli.common.command_line import CommandLine


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    parser = CommandLine(prog="policyfs")
    commands = parser.add_subparsers(dest="command", required=True)
    mount = commands.add_parser("mount")
    mount.add_argument("--policy", required=True)
    mount.add_argument("--log")
    mount.add_argument("store")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    return capsys.readouterr().err.splitlines()


def test_a_similar_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _said(capsys, "mont")
    assert first.endswith("did you mean 'mount'?")
    assert second.startswith("usage: policyfs")


def test_only_what_the_command_needs_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "mount", "--policy", "p", "s", "more") == [
        "policyfs mount: unrecognized arguments: more",
        "usage: policyfs mount --policy POLICY store (policyfs mount --help: all options)",
    ]
