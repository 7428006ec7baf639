"""B4, B6, B10: owners and modes by the policy give nobody more, and tell nobody what another app may do."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

WRITER, READER, PLAIN = 10010, 10011, 10012
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}, modes: policy}}
  reader: {{uid: {READER}, modes: policy}}
  plain: {{uid: {PLAIN}}}
rules:
  - {{id: read, allow: [see, read], paths: "/***"}}
  - {{id: write, allow: [all], who: {{app: writer}}, paths: "/office/***"}}
  - {{id: kind, allow: [write], when: {{type: image/png}}, paths: "/office/***"}}
"""
_SETLEASE = 1024


@pytest.fixture
def furnished(empty_store: Path) -> Path:
    for name in ("common", "office"):
        (empty_store / name).mkdir()
        (empty_store / name / "file").write_bytes(b"text")
        (empty_store / name / "file").chmod(0o644)
    return empty_store


def told(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def told_in_turns(mount: Mount) -> set[tuple[int, int, int]]:
    """What an app that is shown the store's modes is told of a file that others were told theirs of."""
    path = mount / "common/file"
    found = set()
    for uid in (WRITER, READER):
        call_as(uid, told, path)
        found.add(call_as(PLAIN, told, path))
    return found


def test_what_one_app_was_told_of_a_file_is_told_to_nobody_else(mounts: Mounts, furnished: Path) -> None:
    """No rule tells apps apart there, so that the kernel may keep all else.

    Attack B4.5: Learn another app's rights from attributes that the kernel keeps, if the policy decides
    the shown owners and modes
    Guard: policyfs/fs/kernel_cache/attributes.py::Timeouts.attr
    Also: tests/mount/test_modes.py::test_each_app_of_a_shared_mount_is_shown_its_own_rights
    Without: ::test_it_is_where_the_kernel_keeps_attributes
    """
    mount = mounts.start(POLICY, furnished)
    assert told_in_turns(mount) == {(0, 0, 0o644)}
    assert call_as(READER, told, mount / "common/file") == (0, READER, 0o440)


def test_it_is_where_the_kernel_keeps_attributes(without, furnished: Path) -> None:
    assert told_in_turns(without("told-to-all", POLICY, furnished)) != {(0, 0, 0o644)}


def take_lease(channel, path: Path) -> str:
    """Take a read lease, and keep it until told otherwise, whoever asks for it back."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDONLY)
    os.fstat(fd)
    code = code_of(fcntl.fcntl, fd, _SETLEASE, fcntl.F_RDLCK)
    channel.send(code)
    channel.recv()
    return code


def leased(mount: Mount) -> tuple[str, str]:
    """What a reader is answered that wants a lease, and then a writer that will not wait."""
    path = mount / "office/file"
    holder = start_as(READER, take_lease, path)
    answer = holder.receive()
    opened = call_as(WRITER, code_of, os.open, path, os.O_WRONLY | os.O_NONBLOCK)
    holder.send("enough")
    holder.result()
    return answer, opened


def test_who_only_reads_keeps_nobody_waiting(mounts: Mounts, furnished: Path) -> None:
    """Attack B6.7: Look like a file's owner by `modes: policy`, and take a lease on the file that keeps its
    writers waiting
    Guard: policyfs/fs/access/shown_modes.py::ShownModes.shown
    Also: ::test_bits_that_hang_on_a_kind_open_nothing
    Without: ::test_it_does_where_everything_is_shown_as_its_own
    """
    assert leased(mounts.start(POLICY, furnished)) == ("EACCES", "")


def test_it_does_where_everything_is_shown_as_its_own(without, furnished: Path) -> None:
    assert leased(without("everyones-own", POLICY, furnished)) == ("", "EAGAIN")


def test_bits_that_hang_on_a_kind_open_nothing(mounts: Mounts, furnished: Path) -> None:
    mount = mounts.start(POLICY, furnished)
    path = mount / "office/file"
    assert call_as(READER, told, path) == (0, READER, 0o660)
    assert call_as(READER, code_of, os.open, path, os.O_WRONLY) == "EACCES"
    assert call_as(READER, code_of, os.chmod, path, 0o777) == "EACCES"
    assert (furnished / "office/file").read_bytes() == b"text"
