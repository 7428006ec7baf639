"""The memory that a process may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.linux import memory
from policyfs.linux.memory import group_limit, usable_bytes


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": "1000", "a/b/memory.max": "max"}, 1000),
        ("0::/a/b\n", {"a/memory.max": "1000", "a/b/memory.max": "400"}, 400),
        ("0::/\n", {}, None),
        (
            "9:cpu:/x\n4:memory:/a\n0::/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/a/memory.limit_in_bytes": "77"},
            77,
        ),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_the_limit_of_a_control_group(tmp_path: Path, groups: str, files: dict[str, str], limit) -> None:
    own = tmp_path / "own"
    own.write_text(groups)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert group_limit(str(own), str(tmp_path / "fs")) == limit
    assert group_limit(str(tmp_path / "none"), str(tmp_path / "fs")) is None


def test_the_memory_of_the_machine_unless_a_control_group_has_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "group_limit", lambda: None)
    machine = usable_bytes()
    total = Path("/proc/meminfo").read_text().split()[1]  # in KiB, in the first line
    assert machine == int(total) << 10
    for limit, usable in ((machine * 2, machine), (machine // 2, machine // 2)):
        monkeypatch.setattr(memory, "group_limit", lambda limit=limit: limit)
        assert usable_bytes() == usable
