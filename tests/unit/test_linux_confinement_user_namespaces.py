"""Subordinate ids, and user namespaces with one user."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.linux.confinement import user_namespaces as namespaces
from tests.support.machine.inchild import child


def ended(function) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child(function), 0)[1])


def test_the_first_range_of_a_user_that_is_large_enough_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    assert namespaces.subordinate_ids(str(file), "erin", 7) is None
    file.write_text("# no line\nother:1:70\nerin:100:63\nerin:200:64\n7:300:70\nerin:x:y\n")
    assert namespaces.subordinate_ids(str(file), "erin", 7) == range(200, 264)
    assert namespaces.subordinate_ids(str(file), "eve", 7) == range(300, 370)
    assert namespaces.subordinate_ids(str(file), "eve", 8) is None


def test_a_free_range_begins_behind_all_others(tmp_path: Path) -> None:
    files = (str(tmp_path / "subuid"), str(tmp_path / "subgid"))
    assert namespaces.free_range(files) == range(100_000, 165_536)
    Path(files[0]).write_text("a:100000:65536\n")
    Path(files[1]).write_text("b:300000:10\n")
    assert namespaces.free_range(files) == range(300_010, 365_546)


def test_namespaces_of_one_user() -> None:
    def looks() -> int:
        found = namespaces.nested((4711, 4712), (1000, 1001))

        def maps() -> list[int]:
            reader, writer = os.pipe()
            os.write(writer, Path("/proc/self/uid_map").read_bytes().split()[0])
            return [reader]

        assert [os.read(namespaces.in_namespace(at, maps)[0], 9) for at in (found.root, found.user)] == [
            b"0", b"1000",
        ]  # fmt: skip
        namespaces.enter(found.user)
        os.setresgid(1001, 1001, 1001)
        os.setresuid(1000, 1000, 1000)
        return 0 if (os.getuid(), os.getgid()) == (1000, 1001) else 1

    assert ended(looks) == 0


def test_an_error_in_a_namespace_is_raised_outside() -> None:
    def looks() -> int:
        found = namespaces.nested((4711, 4711), (0, 0))

        def fails() -> list[int]:
            raise OSError(errno.EXDEV, "no")

        with pytest.raises(OSError, match="cross-device") as told:
            namespaces.in_namespace(found.root, fails)
        return told.value.errno

    assert ended(looks) == errno.EXDEV
