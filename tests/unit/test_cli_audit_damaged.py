"""Each command that reads a trail tells each damage that it can see, with an exit code of its own."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.main import main
from policyfs.domain import Audit
from policyfs.errors import EXIT_INCOMPLETE, EXIT_REFUSED
from policyfs.journal.files.compression import compress
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.files.retention import Retention
from policyfs.journal.files.segments import SegmentDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.trail.chain import chain
from tests.support.mount.audited import DIGEST, POLICY
from tests.support.mount.tampering import lines_of, seal_file
from tests.support.mount.trail import (
    MOUNT_ID,
    Clock,
    a_denial,
    a_journal,
    an_event,
    segments,
)

EVENTS = 40


def write(root: Path, events: int = EVENTS, **options: Any) -> Path:
    """Record events in some six sealed segments, and return the directory of the chain."""
    clock = Clock()
    with a_journal(
        root / "trail", clock, sync_ns=0, segment_bytes=4000, keys=KeyStore(root / "keys"), **options
    ) as journal:
        text = policy_text(DIGEST, [("home.yaml", POLICY)])
        journal.tell("mount", {"policy": DIGEST}, policy=text, previous="")
        for number in range(events):
            make = a_denial if number % 4 == 3 else an_event
            event = make(b"/DCIM/%d.jpg" % number, time_ns=clock.now_ns, policy_digest=DIGEST)
            journal.record(event, Audit.REQUIRED)
            journal.flush()
            clock.forward(3600)
    return root / "trail" / MOUNT_ID


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    assert len(segments(write(root))) > 4
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    monkeypatch.setattr("policyfs.cli.audit.command._YOUNG", 700)
    shutil.copytree(whole / "trail", tmp_path / "trail")
    shutil.copytree(whole / "keys", tmp_path / "keys")
    (tmp_path / "home.yaml").write_bytes(POLICY)
    return tmp_path


COMMANDS = {
    "search": "audit search --trail {trail}",
    "search --json": "audit search --json --trail {trail}",
    "search QUERY": "audit search op:open --trail {trail}",
    "search --last QUERY": "audit search --last 3 op:open --trail {trail}",
    "summary": "audit summary --trail {trail}",
    "timeline": "audit timeline /DCIM/1.jpg --trail {trail}",
    "export": "audit export --trail {trail}",
    "report": "audit report --html {root}/page.html --trail {trail}",
    "show ID": "audit show 01234567:99999 --trail {trail}",
    "show --policy": "audit show --policy --trail {trail}",
    "replay": "policy replay --policy {root}/home.yaml {trail}",
    "learn": "policy learn {trail}",
}


def run(command: str, root: Path, trail: str = "trail") -> int:
    words = COMMANDS[command].format(trail=root / trail, root=root).split()
    return main([word.replace("+", " ") for word in words])


def packed(suffix: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        path = segments(directory)[1]
        path.with_name(path.name + suffix).write_bytes(pack(path.read_bytes()))
        path.unlink()
        return f"{path.name}{suffix} is compressed: unpack it"

    return damage


def removed(number: int) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        paths = segments(directory)
        paths[number].unlink()
        return f"segment {range(len(paths))[number] + 1} is missing"

    return damage


def emptied(number: int) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        path = segments(directory)[number]
        path.write_bytes(b"")
        return f"{path.name} is empty"

    return damage


def renamed(directory: Path) -> str:
    path = segments(directory)[1]
    path.rename(path.with_name(f"{path.name}.old"))
    return f"{path.name}.old is not a file of the trail: give it its old name"


def renumbered(directory: Path) -> str:
    second, third = segments(directory)[2:4]
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)
    return "is not in its place"


def changed(old: bytes, new: bytes, told: str) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        path = segments(directory)[1]
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        return told

    return damage


def cut_out(directory: Path) -> str:
    path = segments(directory)[1]
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:3] + lines[6:]))
    return f"lines are missing before line 4 of {path.name}"


def cut_out_with_new_digests(directory: Path) -> str:
    path = segments(directory)[1]
    head, lines = json.loads(lines_of(path)[0])["previous"], lines_of(path)
    made = []
    for line in lines[:3] + lines[6:]:
        sealed, head = chain.seal(head, line[: -chain.TAIL_BYTES - 1])
        made.append(sealed)
    path.write_bytes(b"".join(made))
    return f"lines are missing before line 4 of {path.name}"


def shortened(number: int) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        path = segments(directory)[number]
        path.write_bytes(b"".join(lines_of(path)[:-1]))
        return "missing"

    return damage


def linked(directory: Path) -> str:
    path = segments(directory)[1]
    path.rename(directory.parent / "elsewhere")
    path.symlink_to(directory.parent / "elsewhere")
    return f"{path.name} cannot be read"


def garbled(directory: Path) -> str:
    path = segments(directory)[1]
    with SegmentDirectory.at(directory) as place:
        assert compress(place.fd, path.name, least=1)
    path = path.with_name(path.name + ".zst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "is empty"


def stranger(directory: Path) -> str:
    (directory / "note\x1b.txt").write_text("x")
    return r"note\x1b.txt is not a file of the trail"


def all_packed(directory: Path) -> str:
    for path in segments(directory):
        path.with_name(path.name + ".xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    return "is compressed: unpack it (unxz)"


def moved(directory: Path) -> str:
    directory.rename(directory.parent.parent / "moved")
    directory.symlink_to(directory.parent.parent / "moved")
    return "it is a symbolic link: name its target with --trail"


DAMAGES: dict[str, Callable[[Path], str]] = {
    "gzip": packed(".gz", gzip.compress),
    "xz": packed(".xz", lzma.compress),
    "first removed": removed(0),
    "one removed": removed(2),
    "last removed": removed(-1),
    "renamed": renamed,
    "exchanged": renumbered,
    "emptied": emptied(1),
    "last emptied": emptied(-1),
    "bit": changed(b"/DCIM/", b"/DCHM/", "was changed"),
    "bit of the form": changed(b'"path":', b'"path";', "of 00000002-"),
    "bit of the header": changed(b'"boot_id":"', b'"boot_id":"0', "was changed"),
    "decision": changed(b'"decision":"allow"', b'"decision":"deny"', "was changed"),
    "lines": cut_out,
    "lines with new digests": cut_out_with_new_digests,
    "end": shortened(1),
    "end of all": shortened(-1),
    "symlink": linked,
    "garbled": garbled,
    "other file": stranger,
    "all packed": all_packed,
    "chain is a symlink": moved,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_whole_trail_has_no_hole(root: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    for name in ("daemon.log", "daemon.log.1", "daemon.log.2.gz"):
        (root / "trail" / MOUNT_ID / name).touch()
    (root / "trail" / MOUNT_ID / "quarantine").mkdir()
    assert run(command, root) in (0, 1)
    assert "not whole" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_tells_a_damage(
    root: Path, capsys: pytest.CaptureFixture[str], command: str, damage: str
) -> None:
    told = DAMAGES[damage](root / "trail" / MOUNT_ID)
    for _ in range(1 + (command == "summary")):  # with new indexes, and with stored ones
        assert run(command, root) == EXIT_INCOMPLETE
        out, err = capsys.readouterr()
        assert told in err
        assert "\x1b" not in err
        if command == "search --json":
            assert any(json.loads(line).get("type") == "hole" for line in out.splitlines())


def test_a_hole_outside_of_the_period_is_not_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments(root / "trail" / MOUNT_ID)[1].unlink()  # of 2026-03-01, 16 to 23 h
    for period, code in (
        ("--since=2026-03-02T12:00Z", 0),
        ("--since=2026-03-01T20:00Z", EXIT_INCOMPLETE),
        ("--until=2026-03-01T12:00Z", 0),
        ("--until=2026-03-01T20:00Z", EXIT_INCOMPLETE),
    ):
        for action in ("search", "summary", "export"):
            assert main(["audit", action, "op:open", period, "--trail", str(root / "trail")]) == code
            assert ("segment 2 is missing" in capsys.readouterr().err) == bool(code)


def test_the_lines_told_are_bounded(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        (root / "trail" / MOUNT_ID / f"other-{number}").touch()
    assert run("summary", root) == EXIT_INCOMPLETE
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 11
    assert told[-1] == "policyfs: and 20 more: see policyfs audit verify"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_whole_chain_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    (tmp_path / "home.yaml").write_bytes(POLICY)
    shutil.rmtree(write(tmp_path))
    assert run(command, tmp_path) == EXIT_INCOMPLETE
    told = rf"{MOUNT_ID}, records 1 to \d+: the whole directory is missing"
    assert re.search(told, capsys.readouterr().err)


def test_the_end_is_known_without_its_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    newest = segments(write(tmp_path))[-1]
    newest.unlink()
    seal_file(newest).unlink()
    assert run("search", tmp_path) == EXIT_INCOMPLETE
    assert re.search(r"records \d+ to \d+: the end of the trail is missing", capsys.readouterr().err)
    assert main(["audit", "search", "--trail", str(tmp_path / "trail" / MOUNT_ID)]) == EXIT_INCOMPLETE


@pytest.mark.parametrize("keep", [2, Retention(size=9000), Retention(age_s=20 * 3600)])
def test_what_rotation_removed_is_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep: object
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    (tmp_path / "home.yaml").write_bytes(POLICY)
    (tmp_path / "trail" / MOUNT_ID).mkdir(parents=True, mode=0o700)
    directory = write(tmp_path, 100, keep=keep)
    numbers = [int(path.name[:8]) for path in segments(directory)]
    assert numbers[0] != 1
    for command in COMMANDS:
        assert run(command, tmp_path) in (0, 1), command
    assert "not whole" not in capsys.readouterr().err
    segments(directory)[0].unlink()
    assert run("summary", tmp_path) == EXIT_INCOMPLETE
    assert f"segment {numbers[0]} is missing" in capsys.readouterr().err


def test_a_writer_beside_the_reader_makes_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    done = threading.Event()
    with a_journal(
        tmp_path / "trail", segment_bytes=20_000, keep=4, sync_ns=0, keys=KeyStore(tmp_path / "keys")
    ) as journal:

        def record() -> None:
            while not done.is_set():
                journal.record(an_event(b"/DCIM/a.jpg"), Audit.REQUIRED)
                journal.flush()

        journal.record(an_event(b"/DCIM/a.jpg"), Audit.REQUIRED)
        writer = threading.Thread(target=record)
        writer.start()
        try:
            for command in ("search", "search QUERY", "search --last QUERY", "summary") * 4:
                assert run(command, tmp_path) in (0, 1), capsys.readouterr().err
        finally:
            done.set()
            writer.join()
    assert "not whole" not in capsys.readouterr().err


def test_a_segment_in_the_trail_root_hides_no_chain(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = segments(root / "trail" / MOUNT_ID)[1]
    (root / "trail" / target.name).symlink_to(target)
    for command in ("search", "summary"):
        assert run(command, root) == EXIT_INCOMPLETE
        out, err = capsys.readouterr()
        assert "/DCIM/1.jpg" in out or "events" in out
        assert "symbolic link" in err
    assert main(["audit", "verify", "--trail", str(root / "trail")]) == EXIT_REFUSED
    assert f"{MOUNT_ID}: whole" in capsys.readouterr().out


def test_verify_tells_a_chain_behind_a_symlink(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved(root / "trail" / MOUNT_ID)
    assert main(["audit", "verify", "--trail", str(root / "trail")]) == EXIT_REFUSED
    assert "it is a symbolic link: name its target with --trail" in capsys.readouterr().err


def test_verify_proves_the_lines_before_an_emptied_segment(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emptied(1)(root / "trail" / MOUNT_ID)
    assert main(["audit", "verify", "--trail", str(root / "trail")]) == EXIT_REFUSED
    assert "proven: the lines to seq 1" in capsys.readouterr().out
