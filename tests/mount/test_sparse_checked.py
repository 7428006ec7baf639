"""Files with holes under `content`, `no` and `clean`: the holes stay, and a close does not wait for them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.samples import jpegs

WRITER: Final = 10035
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: kind, require: {{content: image/jpeg}}, paths: "/content/**"}}
  - {{id: kept, require: {{content: image/jpeg}}, on_refused: quarantine, paths: "/kept/**"}}
  - {{id: no, require: {{no: location}}, paths: "/no/**", raw_types: [application/octet-stream]}}
  - {{id: clean, require: {{clean: location}}, paths: "/clean/**", raw_types: [application/octet-stream]}}
"""
HOLE: Final = 3 << 30
JPEG: Final = jpegs.plain()
PLAIN: Final = random.Random(1).randbytes(16 << 10)
DATA: Final = {"content": JPEG, "kept": JPEG, "no": PLAIN, "clean": PLAIN}


def write(path: Path, data: bytes) -> None:
    """Write a file with a hole, its end first; then change both ends of the file as it is in the store."""
    with path.open("wb", buffering=0) as new:
        new.truncate(HOLE + 4096)
        os.pwrite(new.fileno(), b"the end", HOLE)
        os.pwrite(new.fileno(), data, 0)
    with path.open("r+b", buffering=0) as old:
        os.pwrite(old.fileno(), b"more", HOLE + 512)
        old.truncate(HOLE + (1 << 20))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", list(DATA))
def test_holes_stay(mounts: Mounts, empty_store: Path, place: str) -> None:
    (empty_store / place).mkdir()
    (empty_store / place).chmod(0o777)
    mount = mounts.start(POLICY, empty_store)
    call_as(WRITER, write, mount / place / "a", DATA[place], deadline_s=30)
    wait_until_closed(mount)
    with (empty_store / place / "a").open("rb") as stored:
        status = os.fstat(stored.fileno())
        assert status.st_size == HOLE + (1 << 20)
        assert status.st_blocks * 512 < 4 << 20
        assert stored.read(len(DATA[place])) == DATA[place]
        stored.seek(HOLE)
        assert stored.read(7) == b"the end"
        stored.seek(HOLE + 512)
        assert stored.read(5) == b"more\0"
