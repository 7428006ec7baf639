"""A mount inside of an unprivileged container, whose user namespace has the uids 0 to 65535, as of LXC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.machine.namespace import CLONE_NEWNS
from tests.support.machine.processes import call_as
from tests.support.machine.user_namespaces import call_inside
from tests.support.samples import jpegs

APP: Final = 1000
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: viewer}}, paths: "/**"}}
  - {{id: no-place, require: {{redact: location}}, who: {{app: viewer}}, paths: "/**"}}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif())


def _policyfs(*words: str | Path) -> str:
    line = [sys.executable, "-m", "policyfs.cli.main", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or words[0] != "mount", done.stderr
    return done.stdout


def _uid(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("\nUid:")[2].split()[0])
    except OSError:
        return -1


def _used(store: Path, mountpoint: Path, policy: Path, trail: Path) -> dict[str, Any]:
    """Mount in this namespace, and use the mount; tells what came of it."""
    for name in ("RUNTIME", "TRAIL", "KEY"):
        os.environ[f"POLICYFS_{name}_DIR"] = str(trail / name)
        (trail / name).mkdir(mode=0o700)
    doctor = _policyfs("doctor", "--json", store)
    _policyfs("mount", "--policy", policy, store, mountpoint)
    try:
        photo = call_as(APP, (mountpoint / "a.jpg").read_bytes)
        call_as(APP, (mountpoint / "new.txt").write_text, "new")
        status = json.loads(_policyfs("status", "--json", mountpoint))
        workers = {_uid(pid) for pid in filter(str.isdigit, os.listdir("/proc"))}
        listing = call_as(APP, os.listdir, mountpoint)
    finally:
        _policyfs("umount", mountpoint)
    rows = {row["name"]: (row["state"], row["what"]) for row in json.loads(doctor)}
    return {"photo": photo, "status": status, "doctor": rows, "uids": workers, "list": listing}


def test_a_mediated_mount_works(empty_store: Path, arena: Path) -> None:
    (empty_store / "a.jpg").write_bytes(PHOTO)
    (arena / "mnt").mkdir()
    (arena / "policy.yaml").write_text(POLICY)
    (arena / "work").mkdir(mode=0o700)
    places = (empty_store, arena / "mnt", arena / "policy.yaml", arena / "work")
    told = call_inside(_used, *places, first=0, flags=CLONE_NEWNS)
    assert (len(told["photo"]), jpegs.leaks(told["photo"])) == (len(PHOTO), [])
    assert sorted(told["list"]) == ["a.jpg", "new.txt"]
    made = (empty_store / "new.txt").stat()
    assert (made.st_uid, made.st_gid) == (APP, APP)
    assert any(60_706 <= uid < 61_184 for uid in told["uids"]), "the workers have uids of their own"
    status = told["status"]
    assert status["passthrough"]["enabled"] is False
    assert "user namespace of a container" in status["passthrough"]["why_not"]
    assert status["watch"]["running"] is False
    assert told["doctor"]["capability"][0] == "slow"
    assert "no passthrough, no watch on the store" in told["doctor"]["capability"][1]
    assert told["doctor"]["passthrough"][0] == "slow"
