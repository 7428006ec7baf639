"""What reaches a store past the mounts of its site: `status --check` names it until the site does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.namespace import detach, mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Said, policyfs_process

CHECKOUT = Path(__file__).resolve().parents[2]


class Library:
    """A site of one app mount."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.store = store
        self.file = arena / "home.site.yaml"
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(arena / "run"),
            "POLICYFS_KEY_DIR": str(arena / "keys"),
            "PYTHONPATH": str(CHECKOUT),
        }
        self.mountpoint = arena / "gallery"
        self.write()

    def write(self, *past: str) -> None:
        named = {"past": list(past)} if past else {}
        self.file.write_text(json.dumps({
            "apiVersion": "policyfs/v1", "kind": "Site", "name": "home", "store": str(self.store),
            "policy": f"{CHECKOUT}/policies/family-photos.yaml", "trail": f"{self.file.parent}/trail",
            **named, "mounts": [{"app": "gallery", "at": str(self.mountpoint)}],
        }), encoding="utf-8")  # fmt: skip

    def __call__(self, *words: str | Path) -> Said:
        return policyfs_process(*words, environment=self.environment, deadline_s=60)


@pytest.fixture
def library(arena: Path, store: Path) -> Iterator[Library]:
    store.chmod(0o700)
    made = Library(arena, store)
    up = made("up", made.file)
    assert up.returncode == 0, up
    yield made
    assert made("down", made.file).returncode == 0
    for entry in mounts_below(arena):  # the placeholder
        detach(entry.mountpoint)


def test_what_was_given_the_store_is_named_until_the_site_does(library: Library, arena: Path) -> None:
    other = arena / "other"
    other.mkdir()
    assert library("status", "--check", library.file).returncode == 0, "daemons and workers are its own"
    words = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$1/DCIM" "$2"; echo; exec cat', "sh"]
    with subprocess.Popen(
        [*words, library.store, other], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as container:
        assert container.stdout is not None and container.stdin is not None
        assert container.stdout.read(1) == b"\n"
        for mount in (library.file, library.mountpoint):  # the site of a mount is known without its name
            said = library("status", "--check", mount)
            assert said.returncode == 1
            well, told = said.stdout.splitlines()
            assert well == f"{library.mountpoint}: well"
            assert told.startswith(f"{library.store}: PAST THE POLICY: ")
            assert f" at {other} (pid {container.pid}, cat): " in told
        found = re.search(r"write past: \[(.+)\] in (.+)$", told)
        assert found is not None
        assert found[2].strip("'") == str(library.file)
        said = library("doctor", library.store)
        assert f"at {other} (pid {container.pid}, cat)" in said.stdout
        library.write(found[1].strip('"'))
        said = library("status", "--check", library.mountpoint)
        assert said.returncode == 0, said
        assert f"{library.store}: past the policy, as its site says: " in said.stdout
        library.write("other.service")
        assert library("status", "--check").returncode == 1
        container.stdin.close()
    wait_for(lambda: library("status", "--check").returncode == 0, "only the mount is left")


def test_users_with_open_files_are_named(library: Library) -> None:
    script = 'cd "$1/DCIM"; exec setpriv --reuid 54321 --clear-groups sh -c "echo; exec cat"'
    words = ["sh", "-ec", script, "sh", str(library.store)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None and user.stdin is not None
        assert user.stdout.read(1) == b"\n"
        said = library("status", "--check")
        assert f" works in {library.store}/DCIM (pid {user.pid}, cat): " in said.stdout
        user.stdin.close()


def test_a_second_mount_that_users_can_reach_is_named(library: Library, arena: Path) -> None:
    other = arena / "export"
    other.mkdir()
    subprocess.run(["mount", "--bind", library.store / "DCIM", other], check=True)
    try:
        said = library("status", "--check")
        assert f"users can reach it at {other}, too: umount " in said.stdout, said
        library.write(f"mount {other}")
        assert library("status", "--check").returncode == 0
        other.parent.chmod(0o700)
        library.write()
        assert library("status", "--check").returncode == 0, "nobody but root gets there"
    finally:
        subprocess.run(["umount", other], check=True)
