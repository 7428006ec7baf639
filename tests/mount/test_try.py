"""`policyfs run --try`, and `policyfs try`: changes in a layer, seen, committed through the mount, or
dropped."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.mount.tries import APP, Tries

KILLS, FILES = count(2, 20), count(1200, 12_000)
"""Of a commit, which takes 500 files at a time."""
pytestmark = pytest.mark.mount


@pytest.fixture
def tries(arena: Path, empty_store: Path) -> Tries:
    made = {name: f"{name}\n" for name in ("open/b", "open/d/e", "fixed/f", "hidden/h")}
    made["open/a.txt"] = "one\ntwo\n"
    for name, text in made.items():
        file = empty_store / name
        for directory in (*reversed(file.relative_to(empty_store).parents[:-1]),):
            (empty_store / directory).mkdir(exist_ok=True)
            os.chown(empty_store / directory, APP, APP)
        file.write_text(text)
        os.chown(file, APP, APP)
    empty_store.chmod(0o700)
    return Tries(arena, empty_store)


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """What a tree has: type and mode, content, owner, links and mtime of files."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes(), status.st_nlink, status.st_mtime_ns // 10**9
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(top))] = status.st_mode, status.st_uid, content
    return found


CHANGES = """
    echo three >> open/a.txt; echo new > open/new; rm open/b; mv open/d open/moved; mkdir -p n/m
    ln -s a open/l
    ln open/new open/again; chmod 600 open/a.txt; setfattr -n user.x -v y open/new; truncate -s 1M n/holes
"""


def test_a_try_changes_nothing_until_it_is_committed(tries: Tries) -> None:
    before = tree(tries.at)
    said = tries.shell(CHANGES + "cat hidden/h; cat open/a.txt; exit 3")
    assert (said.returncode, said.stdout) == (3, "one\ntwo\nthree\n")
    assert "`policyfs try diff l` shows it" in said.stderr
    assert tree(tries.at) == before
    told = {(one["kind"], one["path"]): one.get("what") for one in tries.diff()}
    assert told == {
        ("changed", "open/a.txt"): ["content", "mode 644 -> 600", "time"], ("added", "open/new"): None,
        ("added", "open/again"): None, ("removed", "open/b"): None, ("removed", "open/d/"): None,
        ("added", "open/moved/"): None, ("added", "open/moved/e"): None, ("added", "open/l"): None,
        ("added", "n/"): None, ("added", "n/m/"): None, ("added", "n/holes"): None,
    }  # fmt: skip
    text = tries.policyfs("try", "diff").stdout
    assert "~ open/a.txt  (content, mode 644 -> 600, time)\n" in text
    assert "    +three\n" in text
    assert set(tries.commit().values()) == {""}
    found = tree(tries.at)
    assert found["open/a.txt"][2][:2] == (b"one\ntwo\nthree\n", 1)
    assert "open/b" not in found and "open/d" not in found
    assert found["open/moved/e"] == before["open/d/e"]
    assert os.getxattr(tries.at / "open/new", "user.x") == b"y"
    assert (tries.at / "n/holes").stat().st_blocks == 0
    assert tries.layers() == [], "a layer without changes is gone"


def test_a_commit_is_the_same_as_the_changes_themselves(tries: Tries) -> None:
    shutil.copytree(tries.at, tries.work / "copy", symlinks=True)
    changes = f"{CHANGES}\nfind open n -type f -exec touch -d @1000000000 {{}} +"
    tries.shell(changes)
    tries.commit()
    tried = tree(tries.at)
    shutil.rmtree(tries.at)
    shutil.copytree(tries.work / "copy", tries.at, symlinks=True)
    for path in [tries.at, *tries.at.rglob("*")]:
        os.chown(path, APP, APP, follow_symlinks=False)
    tries.policyfs("accept", str(tries.at))
    tries.shell(changes, trying=False)
    assert tried == tree(tries.at)


def test_what_the_policy_refuses_stays_with_its_reason(tries: Tries) -> None:
    tries.shell("echo x > fixed/f; echo x > fixed/new; echo x > open/x; mkdir hidden; echo x > hidden/x")
    notes = {one["path"]: one.get("note", "") for one in tries.diff()}
    assert notes == {
        "fixed/f": "refused by the rule fixed", "fixed/new": "refused by the rule fixed", "open/x": "",
        "hidden/": "refused by the rule hidden", "hidden/x": "refused by the rule hidden",
    }  # fmt: skip
    before = tree(tries.at)
    told = tries.commit()
    assert told.pop("open/x") == ""
    assert {path: bool(why) for path, why in told.items()} == {
        "fixed/f": True, "fixed/new": True, "hidden": True, "hidden/x": True,
    }  # fmt: skip
    after = tree(tries.at)
    assert after.pop("open/x")
    assert after == before
    assert {one["path"] for one in tries.diff()} == {"fixed/f", "fixed/new", "hidden/", "hidden/x"}
    assert tries.policyfs("try", "drop").returncode == 0
    assert tries.layers() == []


def test_what_others_changed_is_named_and_left(tries: Tries) -> None:
    script = "echo mine > open/a.txt; rm open/b; echo x > open/x; rm -r open/d; echo ready; read x"
    words = ("run", "--app", "app", "--policy", str(tries.policy), "--keep", "l", str(tries.at), "--")
    in_store = ("env", "-C", str(tries.at), "sh", "-c", script)
    with tries.start(*words, *in_store, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (tries.at / "open/b").write_text("others\n")  # during the command
        process.communicate("\n", timeout=60)
    for name in ("open/a.txt", "open/d/e", "open/x"):  # and after it
        (tries.at / name).write_text("others\n")
    told = tries.commit()
    assert {path for path, why in told.items() if "others have changed" in why} == {
        "open/a.txt", "open/b", "open/d", "open/x",
    }, told  # fmt: skip
    for name in ("open/a.txt", "open/b", "open/d/e", "open/x"):
        assert (tries.at / name).read_text() == "others\n"


def test_a_directory_made_anew_hides_all_that_was_in_it(tries: Tries) -> None:
    """The overlay marks only the uppermost of nested directories that are made anew."""
    for name in ("d/in/deep/gone", "d/in/other"):
        file = tries.at / "open" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("old\n")
    for path in [tries.at / "open/d", *(tries.at / "open/d").rglob("*")]:
        os.chown(path, APP, APP)
    tries.shell("rm -r open/d; mkdir -p open/d/in/deep; echo new > open/d/in/deep/new")
    told = {one["path"] for one in tries.diff() if one["kind"] == "removed"}
    assert told == {"open/d/e", "open/d/in/other", "open/d/in/deep/gone"}
    (tries.at / "open/d/in/other").write_text("others\n")
    assert {path for path, why in tries.commit().items() if "others have changed" in why} == {"open/d/in"}
    assert (tries.at / "open/d/in/other").read_text() == "others\n"
    (tries.at / "open/d/in/other").unlink()
    tries.commit()
    assert [path.name for path in sorted((tries.at / "open/d").rglob("*"))] == ["in", "deep", "new"]


def test_only_some_paths_are_committed_and_a_layer_goes_on(tries: Tries) -> None:
    tries.shell("mkdir n; echo x > n/x; echo y > n/y; echo z > open/z")
    assert tries.commit("--paths", "n/x") == {"n": "", "n/x": ""}
    assert not (tries.at / "n/y").exists()
    assert tries.shell("cat n/x n/y open/z; echo xx > n/x").stdout == "x\ny\nz\n"
    assert tries.commit() == {"n/x": "", "n/y": "", "open/z": ""}
    assert (tries.at / "n/x").read_text() == "xx\n"


def test_a_killed_commit_is_resumed(tries: Tries) -> None:
    tries.deadline_s = 600.0
    tries.shell(f"for n in $(seq {FILES}); do echo $n > open/$n; done; echo changed > open/a.txt")
    for number in range(KILLS):
        with tries.start("try", "commit", "--json") as process:
            assert process.stdout is not None
            process.stdout.readline()  # the first batch is in the store, and it is at the second
            time.sleep(number % 10 * 0.03)
            process.kill()
    assert tries.policyfs("try", "list").stdout.endswith("; a commit was interrupted: commit again\n")
    told = tries.commit()
    assert told and set(told.values()) == {""}
    assert tries.layers() == []
    assert {int(path.name): path.read_text() for path in (tries.at / "open").glob("[0-9]*")} == {
        number: f"{number}\n" for number in range(1, FILES + 1)
    }
    assert (tries.at / "open/a.txt").read_text() == "changed\n"


def test_a_layer_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tries: Tries, arena: Path) -> None:
    layers = tries.work / "layers"
    layers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "layers", layers], check=True)
    try:
        said = tries.shell(
            "echo three >> open/a.txt; cat /dev/zero > open/b; for n in $(seq 999); do >open/$n; done"
        )
        assert "the disk of the layer is full" in said.stderr, said
        committed = tries.policyfs("try", "commit")
        assert committed.returncode == 1
        assert "make room there, and commit again" in committed.stderr
        assert (tries.at / "open/a.txt").read_text() == "one\ntwo\n"
        subprocess.run(["mount", "-o", "remount,size=64m", layers], check=True)
        assert set(tries.commit().values()) == {""}
        assert (tries.at / "open/a.txt").read_text() == "one\ntwo\nthree\n"
        assert (tries.at / "open/b").stat().st_size > 1 << 20
    finally:
        subprocess.run(["umount", layers], check=True)
