"""A table of commands: each has its own module, and only the one that is used is imported."""

from __future__ import annotations

import argparse

import pytest

from policyfs.cli.common.commands import CommandLine, add_commands

TABLE = {
    "schema": ("policy.schema", "print"),
    "who-could": ("audit.could", "list"),
    "none": ("none", "no module"),
}


def parser_for(*words: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_commands(parser, TABLE, words, guard=lambda run: lambda args: f"guarded {run.__name__} {args.action}")
    return parser


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("schema", "Policy"), "guarded run_schema schema"),
        (("who-could", "/a"), "guarded run_who_could who-could"),
    ],
)
def test_a_command_is_read_by_its_own_module_and_run_guarded(words: tuple[str, ...], said: str) -> None:
    args = parser_for(*words).parse_args(words)
    assert args.run(args) == said


def test_the_outline_needs_no_module() -> None:
    assert all(f"{name}" in parser_for("--help").format_help() for name in TABLE)


def test_an_unknown_word_needs_all_modules() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"policyfs\.cli\.none"):
        parser_for("shema")


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
