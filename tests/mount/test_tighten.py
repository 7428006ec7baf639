"""`policyfs tighten` on a site that is up: what was done goes on, and what was not is refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.namespace import abort_connection, detach, mounts_below
from tests.support.machine.processes import call_as
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Said, policyfs_process

PLAYER, SYNC = 10011, 10012
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  player: {uid: 10011}
  sync: {uid: 10012}
rules:
  # As before: each program may do what it could.
  - {id: player, allow: [all], who: {app: player}, paths: ["/Films/***", "/Music/***"]}
  - {id: sync, allow: [all], who: {app: sync}, paths: "/***"}
"""
TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  - {id: player, app: player, operation: [read, delete], path: /Films/a, expect: {decision: allow}}
"""
SITE = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: {store}
policy: {place}/home.yaml
trail: {place}/trail
mounts:
  - {{app: player, at: {place}/at/player}}
  - {{app: sync, at: {place}/at/sync}}
"""


class Home:
    """A site that is up, with its files and commands."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.arena, self.store, self.file = arena, store, arena / "home.site.yaml"
        for name in ("Films", "Music", "Documents"):
            (store / name).mkdir()
            (store / name / "old").write_bytes(b"old")
            os.chmod(store / name, 0o777)
        self.file.write_text(SITE.format(place=arena, store=store))
        (arena / "home.yaml").write_text(POLICY)
        (arena / "home.test.yaml").write_text(TESTS)
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(arena / "run"),
            "POLICYFS_KEY_DIR": str(arena / "keys"),
            "POLICYFS_CACHE_DIR": str(arena / "cache"),
            "PYTHONPATH": str(CHECKOUT),
        }

    def __call__(self, *words: str) -> Said:
        return policyfs_process(*words, str(self.file), environment=self.environment, deadline_s=110)

    def use(self) -> None:
        """What both programs do."""
        player, sync = self.arena / "at/player", self.arena / "at/sync"
        for name in ("Films", "Music"):
            assert call_as(PLAYER, os.listdir, player / name)
            assert call_as(PLAYER, content, player / name / "old") == b"old"
        call_as(SYNC, _write, sync / "Documents/new.part")
        call_as(SYNC, os.rename, sync / "Documents/new.part", sync / "Documents/new")
        call_as(SYNC, os.unlink, sync / "Documents/new")
        assert call_as(SYNC, content, sync / "Films/old") == b"old"


def _write(path: Path) -> None:
    with fd_of(path, os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"new")


@pytest.fixture
def home(arena: Path) -> Iterator[Home]:
    (arena / "media").mkdir()
    made = Home(arena, arena / "media")
    assert made("up").returncode == 0
    yield made
    for entry in mounts_below(arena):
        abort_connection(entry.device)
        detach(entry.mountpoint)


def test_what_was_done_goes_on_and_what_was_not_is_refused(home: Home) -> None:
    home.use()
    said = home("tighten", "--yes")
    assert said.returncode == 0, said
    assert "take away write, create, delete, attr in /Films, /Music? (y/N): yes" in said.stdout
    assert "player: policy " in said.stdout
    assert "sync: policy " in said.stdout
    assert "WARNING: not all of these 7 days are on record" in said.stdout
    home.use()
    player, sync = home.arena / "at/player", home.arena / "at/sync"
    assert call_as(PLAYER, error, os.unlink, player / "Films/old") == "EACCES"
    assert call_as(PLAYER, error, _write, player / "Music/new") == "EACCES"
    assert call_as(SYNC, error, os.unlink, sync / "Films/old") == "EACCES"
    assert (home.store / "Films/old").read_bytes() == b"old"
    assert policyfs_process("policy", "test", home.arena / "home.yaml").returncode == 0
    undo = next(line for line in said.stdout.splitlines() if line.startswith("undo: "))
    for words in undo.removeprefix("undo: ").split(" && "):
        if words.startswith("cp "):
            _, old, new = shlex.split(words)
            Path(new).write_bytes(Path(old).read_bytes())
    assert (home.arena / "home.yaml").read_text() == POLICY
    assert (home.arena / "home.test.yaml").read_text() == TESTS
    reloaded = policyfs_process("reload", player, sync, environment=home.environment)
    assert reloaded.returncode == 0, reloaded
    call_as(PLAYER, os.unlink, player / "Films/old")
    assert home("down").returncode == 0


def test_a_policy_that_the_mounts_do_not_have_is_not_made_narrower(home: Home) -> None:
    home.use()
    other = POLICY.replace("/Music/***", "/Documents/***")
    (home.arena / "home.yaml").write_text(other)
    said = home("tighten", "--yes")
    assert said.returncode == 1
    assert "has another policy in force" in said.stderr
    assert (home.arena / "home.yaml").read_text() == other
    assert home("down").returncode == 0
