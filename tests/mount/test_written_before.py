"""What a version has written is read by all later ones: trail, keys, refused files, the record of a store.

tests/mount/written has the state of each version, as `policyfs` of that version has left it.
POLICYFS_UPDATE_GOLDEN=1 writes that of this version anew, until the version is released.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.linux.code_digest import VERSION
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import policyfs

WRITTEN = Path(__file__).parent / "written"
PLACE = Path("/mnt")
"""The mount's name on the trail comes from its path. This process's mount namespace has memory here."""
STORE, MEDIA, STATE = PLACE / "store", PLACE / "media", PLACE / "state"
CAMERA = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: written}}
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: photos, require: {{content: [image/jpeg]}}, paths: "/DCIM/**", on_refused: quarantine}}
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "written", PLACE], check=True, timeout=30)
    try:
        for name, variable in (("trail", "TRAIL_DIR"), ("keys", "KEY_DIR"), ("stores", "STATE_DIR")):
            monkeypatch.setenv(f"POLICYFS_{variable}", str(STATE / name))
        for directory in (STORE / "DCIM", MEDIA, STATE):
            directory.mkdir(parents=True)
        (STORE / "DCIM").chmod(0o777)
        (PLACE / "policy.yaml").write_text(POLICY)
        yield PLACE
    finally:
        if os.path.ismount(MEDIA):
            policyfs("umount", MEDIA)
        subprocess.run(["umount", "--lazy", PLACE], check=True, timeout=30)  # the daemon may be ending


def done(*words: str | Path) -> str:
    said = policyfs(*words)
    assert said.returncode == 0, (words, said)
    return said.stdout


def save(name: str, data: bytes) -> str:
    fd = os.open(MEDIA / "DCIM" / name, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, data)
    return code_of(os.close, fd)


def work(name: str) -> None:
    """One life of a mount: a reload, and a refused file that is kept."""
    done("mount", "--policy", PLACE / "policy.yaml", STORE, MEDIA)
    assert call_as(CAMERA, save, name, b"words " * 30_000) == "EPERM"
    done("reload", MEDIA)
    done("umount", MEDIA)


def kept() -> list[dict]:
    return [json.loads(line) for line in done("quarantine", "list", "--json").splitlines()]


def refused() -> list[dict]:
    said = done("audit", "search", "--json", "--op", "write", "--decision", "deny")
    return [json.loads(line) for line in said.splitlines()]


def test_this_versions_state_is_among_them(place: Path) -> None:
    archive = WRITTEN / f"{re.match(r'[0-9.]*[0-9]', VERSION)[0]}.tar.xz"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        work("first.jpg")
        with tarfile.open(archive, "w:xz") as packed:
            packed.add(STATE, "state")
    assert archive.exists()


@pytest.mark.parametrize("archive", sorted(WRITTEN.glob("*.tar.xz")), ids=lambda path: path.name)
def test_the_state_of_an_earlier_version_is_read_and_continued(place: Path, archive: Path) -> None:
    subprocess.run(["tar", "-xf", archive, "-C", place], check=True, timeout=30)
    done("audit", "verify")
    [file] = kept()
    assert (file["app"], file["path"]) == ("camera", "/DCIM/first.jpg")
    assert len(refused()) == 1
    # The record is understood: this memory is not the store of that time.
    said = policyfs("mount", "--policy", PLACE / "policy.yaml", STORE, MEDIA)
    assert "another file system is there" in said.stderr
    done("accept", STORE)
    work("second.jpg")
    assert ": whole, 22 records in 1 segment" in done("audit", "verify")  # one chain
    assert (len(kept()), len(refused())) == (2, 2)


def test_the_policys_version_is_read(place: Path) -> None:
    done("policy", "check", PLACE / "policy.yaml")
    (PLACE / "policy.yaml").write_text(POLICY.replace("policyfs/v1", "policyfs/v9"))
    said = policyfs("policy", "check", PLACE / "policy.yaml")
    assert said.returncode == 3
    assert "policyfs/v9" in said.stdout
