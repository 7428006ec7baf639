"""Selections of a command line; tests/unit/test_cli_audit_command.py runs the commands."""

from __future__ import annotations

import argparse
import errno
import os
from datetime import UTC
from pathlib import Path

import pytest

from policyfs.cli.audit import query
from policyfs.cli.audit.query import add_fields, add_query, chains_of, selection_of, zone_of
from policyfs.errors import PolicyfsError
from policyfs.journal.files.segments import Chain
from tests.support.mount.trail import a_denial, an_event


def args_of(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_query(parser)
    add_fields(parser)
    return parser.parse_args(words)


def test_the_query_and_the_options_must_all_hold() -> None:
    wanted = selection_of(args_of("app:gallery or", "app:maps", "--decision", "deny", "--path", "/Private/*"))
    assert wanted.matches(a_denial())
    assert not wanted.matches(an_event())
    assert not wanted.matches(a_denial(app="mail"))


def test_nothing_given_selects_all() -> None:
    assert selection_of(args_of()).matches(an_event())


def test_zones() -> None:
    assert zone_of(argparse.Namespace(utc=True)) is UTC
    assert zone_of(argparse.Namespace()) is None


def test_a_missing_trail_is_named() -> None:
    with pytest.raises(PolicyfsError, match="--trail"):
        chains_of(argparse.Namespace(trail="/nonexistent"))


def test_a_trail_of_root_gives_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_root: Path) -> list[Chain]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(query, "find_machines", refused)
    with pytest.raises(PolicyfsError, match="only root may read it"):
        query.open_trail(argparse.Namespace(trail=str(tmp_path)))
