"""Hostile apps under a rule with `keep`: nothing is lost unsaid, and no undo takes away what others did."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from policyfs.store.kept import undo as undo_steps
from policyfs.store.kept.plan import Conflict
from tests.mount.test_undo import EDITOR, EXCHANGE, POLICY, SYNC, differing, library, run_as, tree, undo
from tests.support.machine.processes import start_as, tool_as
from tests.support.mount.daemons import Mount, policyfs

TOP = "DCIM/roll 0"


@pytest.fixture
def shared(mounts, empty_store: Path) -> Mount:
    library(empty_store, 12)
    return mounts.start(POLICY, empty_store)


def swap(one: str, other: str) -> str:
    return f"python3 -c '{EXCHANGE}'".replace("IMG_00001.jpg", one).replace("IMG_00002.jpg", other)


@pytest.mark.parametrize("names", [("new.jpg", "IMG_00001.jpg"), ("IMG_00001.jpg", "new.jpg")])
@pytest.mark.parametrize("then", ["true", "rm new.jpg", "rm IMG_00001.jpg", "rm new.jpg IMG_00001.jpg"])
def test_an_exchange_with_an_own_file_is_taken_back(
    shared, empty_store: Path, names: tuple[str, str], then: str
) -> None:
    before = tree(empty_store)
    run_as(SYNC, shared, f"cd '{TOP}'; echo new > new.jpg; {swap(*names)}; {then}")
    undo(empty_store)
    own = empty_store / TOP / "new.jpg"
    assert not own.exists() or own.read_text() == "new\n"
    own.unlink(missing_ok=True)
    after = tree(empty_store)
    assert differing(*({n: e for n, e in t.items() if n != b"roll 0"} for t in (before, after))) == []


def test_an_exchange_moves_no_file_of_others(shared, empty_store: Path) -> None:
    run_as(SYNC, shared, f"cd '{TOP}'; {swap('IMG_00001.jpg', 'IMG_00002.jpg')}")
    run_as(EDITOR, shared, f"cd '{TOP}'; rm IMG_00001.jpg; echo mine > IMG_00001.jpg")
    undo(empty_store, code=1)
    assert (empty_store / TOP / "IMG_00001.jpg").read_text() == "mine\n"


def test_attributes_of_others_stay(shared, empty_store: Path) -> None:
    photo = f"{TOP}/IMG_00001.jpg"
    run_as(SYNC, shared, f"setfattr -n user.rating -v 8 '{photo}'; setfattr -n user.x -v 8 '{photo}'")
    run_as(EDITOR, shared, f"setfattr -n user.rating -v 9 '{photo}'")
    undo(empty_store, code=1)
    assert os.getxattr(empty_store / photo, "user.rating") == b"9"
    assert "user.x" not in os.listxattr(empty_store / photo)


def test_a_time_that_the_app_sets_hides_no_change_of_others(shared, empty_store: Path) -> None:
    """The editor has the file open, and writes after the app, which then sets the old time, and writes."""
    os.chmod(empty_store / TOP / "IMG_00011.jpg", 0o666)
    os.chown(empty_store / TOP / "IMG_00011.jpg", SYNC, SYNC)
    fifos = [empty_store.parent / name for name in ("open", "go", "done")]
    for fifo in fifos:
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    os.chmod(empty_store.parent, 0o755)
    told, go, done = map(os.fspath, fifos)
    writer = f"import os; f = os.open('IMG_00011.jpg', os.O_RDWR); open({told!r}, 'w').close(); "
    writer += f"open({go!r}).read(); os.pwrite(f, b'mine', 20); os.close(f); open({done!r}, 'w').close()"
    at = f"cd '{os.fspath(shared)}/{TOP}'"
    first = "import os; f = open('IMG_00011.jpg', 'r+b'); f.write(b'one'); f.close()"
    then = "import os; s = os.stat('IMG_00011.jpg'); os.utime('IMG_00011.jpg', ns=(%d, %d)); " + first
    editor = start_as(EDITOR, _sh, f'{at}; python3 -c "{writer}"')
    open(told).close()
    run_as(SYNC, shared, f'{at}; python3 -c "{first}"')
    left = os.stat(empty_store / TOP / "IMG_00011.jpg").st_mtime_ns
    open(go, "w").close()
    open(done).close()
    assert editor.result() == 0
    run_as(SYNC, shared, f'{at}; python3 -c "{then % (left, left)}"')
    kept = [path.read_bytes() for path in (empty_store / ".policyfs-kept").rglob("*-??????")]
    assert any(b"mine" in data for data in kept), kept


def _sh(channel: object, script: str) -> int:
    del channel
    return subprocess.run(["sh", "-c", script], check=False).returncode


def test_a_file_is_not_led_out_of_where_it_is_kept(shared, empty_store: Path) -> None:
    """By a link, or a rename of a directory above."""
    before = tree(empty_store)
    (empty_store / "other").mkdir()
    (empty_store / "other").chmod(0o777)
    link = f"ln '{TOP}/IMG_00001.jpg' other/l; echo x > other/l"
    for do in (link, f"{link}; mv -T DCIM other/d", f"cd DCIM; mv -T 'roll 0' ../other/d; {link}"):
        tool_as(SYNC, "sh", "-c", f"cd '{os.fspath(shared)}'; {do}")
    if (empty_store / ".policyfs-kept").exists():
        undo(empty_store)
    assert differing(before, tree(empty_store)) == []


def test_what_is_kept_does_not_grow(mounts, empty_store: Path) -> None:
    library(empty_store, 3)
    mount = mounts.start(POLICY, empty_store, "--app", "sync", "--keep-size", "4M")
    grow = "exec 3>>IMG_00000.jpg; rm IMG_00000.jpg; head -c 20000000 /dev/zero >&3; exec 3>&-"
    script = f"{grow}; rm IMG_00001.jpg"
    said = tool_as(SYNC, "sh", "-c", f"cd '{os.fspath(mount)}/{TOP}'; {script}")
    assert b"quota" in said.stderr


def test_names_of_255_bytes(shared, empty_store: Path) -> None:
    long = "a." + "x" * 253
    other = "\u00e9" * 127 + "a"
    run_as(EDITOR, shared, f"cd '{TOP}'; echo one > {long}; echo two > {other}")
    run_as(SYNC, shared, f"cd '{TOP}'; rm {long} {other}")
    run_as(EDITOR, shared, f"cd '{TOP}'; echo three > {long}; echo four > {other}")
    undo(empty_store, "--conflicts", "beside")
    names = sorted((empty_store / TOP).glob("*before*"))
    assert [n.read_text() for n in names] == ["one\n", "two\n"]


@pytest.mark.parametrize(
    "loss",
    [
        "python3 -c 'import os; os.open(\"IMG_00011.jpg\", os.O_RDONLY | os.O_TRUNC)'",
        "for n in 1 2; do echo $n > n; mv n IMG_00011.jpg; done; mv IMG_00011.jpg IMG_00005.jpg",
        "for n in 1 2 3; do echo $n > n; mv n IMG_00011.jpg; done",
        "exec 3<>IMG_00011.jpg; rm IMG_00011.jpg; echo garbage >&3; exec 3>&-",
        "exec 3<>IMG_00011.jpg; echo n > n; mv n IMG_00011.jpg; echo garbage >&3; exec 3>&-",
    ],
    ids=["O_RDONLY|O_TRUNC", "saved twice, moved", "saved", "removed while open", "replaced while open"],
)
def test_a_devious_loss_is_taken_back(shared, empty_store: Path, loss: str) -> None:
    for name in ("IMG_00005.jpg", "IMG_00011.jpg"):
        os.chown(empty_store / TOP / name, SYNC, SYNC)
    before = tree(empty_store)
    run_as(SYNC, shared, f"cd '{TOP}'; {loss}")
    assert differing(before, tree(empty_store))
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []


def test_what_was_dropped_is_not_passed_over(shared, empty_store: Path) -> None:
    """Overwritten bytes that are kept no more: an undo names the file."""
    os.chown(empty_store / TOP / "IMG_00011.jpg", SYNC, SYNC)
    run_as(SYNC, shared, f"echo lost > '{TOP}/IMG_00011.jpg'")
    assert policyfs("kept", "drop", empty_store, "--app", "sync").returncode == 0
    assert "what was kept of it is gone" in undo(empty_store, code=1)


def test_old_versions_replace_no_file_elsewhere(shared, empty_store: Path) -> None:
    run_as(SYNC, shared, f"cd '{TOP}'; rm IMG_00001.jpg IMG_00002.jpg")
    there = empty_store.parent / "to" / TOP / "IMG_00001.jpg"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    told = undo(empty_store, "--to", os.fspath(empty_store.parent / "to"), code=1)
    assert told.count("left: ") == 1, told
    assert there.read_text() == "mine"
    assert there.with_name("IMG_00002.jpg").stat().st_size == 96


def test_a_kept_directory_that_is_moved_away_is_made_again(shared, empty_store: Path) -> None:
    for number in (1, 2):
        run_as(SYNC, shared, f"rm '{TOP}/IMG_0000{number}.jpg'")
        if number == 1:
            (empty_store / ".policyfs-kept").rename(empty_store.parent / "away")
    undo(empty_store)
    assert (empty_store / TOP / "IMG_00002.jpg").exists()
    run_as(SYNC, shared, f"rm '{TOP}/IMG_00002.jpg'")
    (empty_store / ".policyfs-kept").rename(empty_store.parent / "other")
    (empty_store / ".policyfs-kept").write_text("")
    said = tool_as(SYNC, "sh", "-c", f"rm '{os.fspath(shared)}/{TOP}/IMG_00003.jpg'")
    assert b"Disk quota exceeded" in said.stderr
    assert (empty_store / TOP / "IMG_00003.jpg").exists()


@pytest.mark.parametrize("swapped", ["DCIM", TOP])
@pytest.mark.parametrize("loss", ["rm IMG_00001.jpg", "echo x > IMG_00011.jpg", "chmod 600 IMG_00011.jpg"])
def test_an_undo_follows_no_symlink_out_of_the_store(
    shared, empty_store: Path, monkeypatch, loss: str, swapped: str
) -> None:
    """The directory is swapped for a symlink after the plan. When it is back, another undo takes all back."""
    os.chown(empty_store / TOP / "IMG_00011.jpg", SYNC, SYNC)
    before, outside = tree(empty_store), empty_store.parent / "outside"
    (outside / "roll 0").mkdir(parents=True)
    for name in ("IMG_00011.jpg", "roll 0/IMG_00011.jpg"):
        (outside / name).write_text("outside")
    run_as(SYNC, shared, f"cd '{TOP}'; {loss}")
    there = {path: path.lstat() for path in [outside, *outside.rglob("*")]}
    real, away = undo_steps.Undo.carry_out, empty_store / "away"

    def swap(*arguments: Any) -> list[Conflict]:
        (empty_store / swapped).rename(away)
        (empty_store / swapped).symlink_to(outside)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(undo_steps.Undo, "carry_out", swap)
        undo(empty_store, code=1)
    assert {path: path.lstat() for path in [outside, *outside.rglob("*")]} == there
    (empty_store / swapped).unlink()
    away.rename(empty_store / swapped)
    undo(empty_store)
    after = tree(empty_store)
    assert differing(*({n: e for n, e in t.items() if n != b"."} for t in (before, after))) == []


LINKS = """
import ctypes, os, stat
fd = os.open("IMG_00011.jpg", os.O_RDONLY)
os.unlink("IMG_00011.jpg")
for path in ("again", "/proc/self/fd/%d" % fd, "../again"):
    try:
        os.link("/proc/self/fd/%d" % fd, path, follow_symlinks=True)
        print("linked", path)
    except OSError as error:
        print(error.errno)
number = os.fstat(fd).st_ino
for top, _, names in os.walk("/proc/self/cwd/../.."):
    for name in names:
        if os.lstat(os.path.join(top, name)).st_ino == number:
            print("found", name)
print(os.readlink("/proc/self/fd/%d" % fd))
"""


def test_a_handle_leads_to_nothing_that_is_kept(shared, empty_store: Path) -> None:
    """Of a file that the app has open: no link, no number, no path."""
    os.chown(empty_store / TOP / "IMG_00011.jpg", SYNC, SYNC)
    before = tree(empty_store)
    said = tool_as(SYNC, "python3", "-c", f"import os; os.chdir('{shared / TOP}'){LINKS}")
    assert said.returncode == 0, said
    told = said.stdout.decode()
    assert "linked" not in told and "found" not in told and ".policyfs-kept" not in told, told
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []


FORGED = (
    '"op": "unlink", "path": "/../../{out}", "kept": "{kept}", "before": {state}',
    '"op": "unlink", "path": "/.policyfs-kept/x", "kept": "../../{kept}", "before": {state}',
    '"op": "unlink", "path": "/x", "kept": "{kept}", "before": [1, 2]',
    '"op": "unlink", "path": "/x", "kept": "{kept}", "before": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]',
    '"op": "write", "path": "/DCIM/../../{out}", "kept": "{kept}", "before": {state}',
    '"op": "rename", "path": "/../{out}", "new": "/DCIM", "moved": [{inode}, 0], "before": {state}',
    '"op": "attr", "path": "/DCIM", "asked": {{"mode": "x"}}, "before": {state}',
    '"op": "rmdir", "path": "//", "before": {state}, "xattrs": {{"user.x": 1}}',
    '"op": "nothing", "path": 7',
    '"op": "unlink", "path": "/\\udc00\\u0000", "kept": "{kept}", "before": {state}',
)


def test_forged_records_lead_nowhere(shared, empty_store: Path) -> None:
    """As if the disk had been written to elsewhere. The rest is taken back."""
    run_as(SYNC, shared, f"rm '{TOP}/IMG_00001.jpg' '{TOP}/IMG_00002.jpg'")
    (records,) = (empty_store / ".policyfs-kept").rglob("sync/*/records")
    kept = min(path.name for path in records.parent.iterdir() if path != records)
    number = (empty_store / "DCIM").stat().st_ino
    state = f'[{number}, 0, "file", 33188, 0, 0, 1, 1, 1]'
    with records.open("a") as file:
        for forged in FORGED:
            line = forged.format(out="out", kept=kept, state=state, inode=number)
            head = f'"time_ns": {time.time_ns()}, "until_s": {int(time.time()) + 10**6}'
            file.write(f"{{{head}, {line}}}\n")
    assert policyfs("kept", "list", empty_store).returncode == 0
    assert "left" in undo(empty_store, code=1)
    assert (empty_store / TOP / "IMG_00002.jpg").exists()
    assert not list(empty_store.parent.rglob("out"))
