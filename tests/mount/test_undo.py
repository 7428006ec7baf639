"""`require: {keep: AGE}` and `policyfs undo`: what an app removes or overwrites comes back, byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.mount.test_takeover import kill_daemon
from tests.support.machine.images import STORE_KINDS, file_system
from tests.support.machine.processes import start_as, tool_as
from tests.support.models.trees import inventory
from tests.support.mount.daemons import Mount, policyfs
from tests.support.samples import jpegs

SYNC, EDITOR = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: undo}}
apps:
  sync: {{uid: {SYNC}}}
  editor: {{uid: {EDITOR}}}
rules:
  - {{id: all, allow: [all], who: {{app: [sync, editor]}}, paths: "/**"}}
  - {{id: safe, require: {{keep: 30d}}, who: {{app: sync}}, paths: "/DCIM/***"}}
"""


def library(store: Path, number: int) -> Path:
    """Make photos of the editor's user: with modes, times, attributes, hard links, symlinks."""
    top = store / "DCIM"
    for at in range(number):
        directory = top / f"roll {at // 500}"
        if at % 500 == 0:
            directory.mkdir(parents=True)
        photo = directory / f"IMG_{at:05}.jpg"
        photo.write_bytes(hashlib.sha256(b"%d" % at).digest() * (1 + at % 90))
        os.setxattr(photo, "user.rating", b"%d" % (at % 6))
        os.chmod(photo, (0o644, 0o640, 0o600)[at % 3])
        if at % 100 == 7:
            os.link(photo, directory / f"best {at}.jpg")
        if at % 100 == 8:
            os.symlink(photo.name, directory / f"link {at}.jpg")
    for at, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.chown(path, EDITOR, EDITOR, follow_symlinks=False)
        os.utime(path, ns=(10**18 + at, 10**18 + 7 * at + 123_456_789), follow_symlinks=False)
    os.chown(top, EDITOR, EDITOR)
    os.chmod(store, 0o777)
    os.utime(top, ns=(10**18, 10**18 + 5))
    return top


def tree(store: Path) -> dict[bytes, tuple[object, ...]]:
    """What the library is: inventory(), with owners and the times of directories, the top's too."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, entry in {**inventory(store / "DCIM"), b".": None}.items():
        info = os.lstat(os.path.join(os.fsencode(store / "DCIM"), name))
        inode = None if stat.S_ISDIR(info.st_mode) else info.st_ino  # a directory may be made again
        found[name] = entry, info.st_mode, info.st_mtime_ns, info.st_uid, info.st_gid, inode
    return found


def undo(store: Path, *options: str, app: str = "sync", code: int = 0) -> str:
    said = policyfs("undo", str(store), "--app", app, "--since", "2h", *options)
    assert said.returncode == code, said
    return said.stdout + said.stderr


def differing(before: dict, after: dict) -> list[str]:
    names = sorted(before.keys() | after.keys())
    return [f"{name}: {before.get(name)} now {after.get(name)}" for name in names
            if before.get(name) != after.get(name)]  # fmt: skip


SCRIPT = (
    'for f in roll*/*1.jpg; do echo encrypted > "$f"; done;'
    ' for f in roll*/*3.jpg; do echo more >> "$f"; done;'
    ' for f in roll*/*5.jpg; do echo new > "$f.tmp"; mv "$f.tmp" "$f"; done;'
    ' for f in roll*/*6.jpg; do : > "$f"; chmod 600 "$f"; touch "$f"; done;'
    " mv 'roll 0' gone; find . -name '*2.jpg' -delete; rm -rf gone"
)


@pytest.fixture
def mount(mounts, empty_store: Path) -> Mount:
    library(empty_store, 300)
    return mounts.start(POLICY, empty_store, "--app", "sync")


def test_a_library_that_an_app_deletes_and_overwrites_comes_back(mount, empty_store: Path) -> None:
    """After `policyfs undo`, every byte, time, mode, owner, attribute and hard link is as before."""
    before = tree(empty_store)
    run_as(SYNC, mount, f"cd DCIM; {SCRIPT}")
    assert not (empty_store / "DCIM/roll 0").exists()
    told = undo(empty_store)
    after = tree(empty_store)
    assert differing(before, after) == [], told
    run_as(SYNC, mount, "cd 'DCIM/roll 0'; test $(ls | wc -l) = 306; test $(wc -c < IMG_00011.jpg) = 384")


def test_records_alone_fill_an_apps_share(mounts, empty_store: Path) -> None:
    """An app that changes modes for ever is refused, and so does not fill the disk."""
    library(empty_store, 3)
    mount = mounts.start(POLICY, empty_store, "--app", "sync", "--keep-size", "4K")
    photo = "DCIM/roll 0/IMG_00001.jpg"
    modes = "$(seq 600 607) $(seq 610 617) $(seq 620 627)"
    script = f"for mode in {modes}; do chmod $mode '{photo}' || exit 1; done"
    said = tool_as(SYNC, "sh", "-c", f"cd '{os.fspath(mount)}'; {script}")
    assert b"Disk quota exceeded" in said.stderr
    assert mount.status()["kept"]["bytes"] < 8 << 10


MAPPED = """
import mmap, sys
for name in sys.argv[1:]:
    with open(name, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = 88
"""
EXCHANGE = """
import ctypes
ctypes.CDLL(None).renameat2(-100, b"IMG_00001.jpg", -100, b"IMG_00002.jpg", 2)
"""
LOSSES = {
    "encrypt in place": 'for f in roll*/IMG*; do echo x | dd of="$f" conv=notrunc status=none; done',
    "encrypt into new files": 'for f in roll*/IMG*; do cp "$f" "$f.locked"; rm "$f"; done; rm -f *.locked',
    "rename and overwrite": 'for f in roll*/IMG*; do mv "$f" "$f.locked"; echo encrypted > "$f.locked"; done',
    "truncate": 'for f in roll*/IMG*; do truncate -s 0 "$f"; done',
    "save pattern": 'for f in roll*/IMG*; do echo new > roll/.t; mv -f roll/.t "$f"; rm "$f"; done',
    "delete": "find . -mindepth 1 -delete",
    "move and delete": "mkdir a; mv roll* a/b; mv a c; rm -rf c",
    "rsync": "mkdir /tmp/$$; rsync -a --delete /tmp/$$/ ./; rmdir /tmp/$$",
    "attributes": "chmod 700 roll*/IMG*; touch roll*/IMG*; setfattr -x user.rating roll*/IMG*",
    "exchange": f"cd roll*; python3 -c '{EXCHANGE}'",
    "mapped": f"python3 -c '{MAPPED}' roll*/IMG*",
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "options",
    ["--app sync"] + [
        pytest.param(options, marks=pytest.mark.soak)
        for options in ("", "--posix", "--app sync --no-passthrough")
    ],
)  # fmt: skip
def test_each_kind_of_loss_is_taken_back(mounts, empty_store: Path, loss: str, options: str) -> None:
    library(empty_store, 12)
    (empty_store / "DCIM/roll 0").rename(empty_store / "DCIM/roll")
    for path in (empty_store / "DCIM", *(empty_store / "DCIM").rglob("*")):
        if not path.is_symlink():
            os.chown(path, SYNC, SYNC)
    mount = mounts.start(POLICY, empty_store, *options.split())
    before = tree(empty_store)
    run_as(SYNC, mount, f"cd DCIM && {{ {LOSSES[loss]}; }}")
    assert differing(before, tree(empty_store))
    undo(empty_store)
    left = {name for name in tree(empty_store) if name.endswith(b".locked") or name == b"a"}
    after = tree(empty_store)
    names = {b".", b"roll"} if left else set()  # what the app has made stays, and the directory's time
    assert differing(*({n: e for n, e in t.items() if n not in left | names} for t in (before, after))) == []


def run_as(uid: int, mount: Mount, script: str) -> None:
    """Run a script in a mount. Deleting 10,000 photos takes a loaded machine minutes."""
    said = tool_as(uid, "sh", "-c", f"cd '{os.fspath(mount)}' && {script}", deadline_s=600)
    assert (said.returncode, said.stderr) == (0, b""), script


@pytest.fixture
def shared(mounts, empty_store: Path) -> Mount:
    library(empty_store, 20)
    return mounts.start(POLICY, empty_store)


def test_what_others_have_changed_since_stays(shared, empty_store: Path) -> None:
    """Four photos that an app has lost, and others have written, replaced, made anew or removed since."""
    top = empty_store / "DCIM/roll 0"
    run_as(SYNC, shared, "cd 'DCIM/roll 0'; echo a > IMG_00001.jpg; rm IMG_00002.jpg; echo c > IMG_00003.jpg")
    run_as(SYNC, shared, "cd 'DCIM/roll 0'; mv IMG_00004.jpg x.jpg; echo d > IMG_00005.jpg")
    run_as(EDITOR, shared, "cd 'DCIM/roll 0'; echo mine >> IMG_00001.jpg; echo mine > IMG_00002.jpg")
    run_as(EDITOR, shared, "cd 'DCIM/roll 0'; rm IMG_00003.jpg; mv x.jpg y.jpg")
    told = undo(empty_store, code=1)
    assert told.count("left: ") == 4, told
    assert (top / "IMG_00001.jpg").read_text() == "a\nmine\n"
    assert (top / "IMG_00002.jpg").read_text() == "mine\n"
    assert not (top / "IMG_00003.jpg").exists()
    assert not (top / "IMG_00004.jpg").exists()
    assert (top / "y.jpg").exists()
    assert (top / "IMG_00005.jpg").read_bytes() == hashlib.sha256(b"5").digest() * 6
    undo(empty_store, "--conflicts", "beside", "--paths", "/DCIM/roll 0/IMG_00002.jpg")
    (beside,) = top.glob("IMG_00002 (before*")
    assert beside.read_bytes() == hashlib.sha256(b"2").digest() * 3
    assert (top / "IMG_00002.jpg").read_text() == "mine\n"


def test_an_undo_is_planned_without_a_change_and_undone(mount, empty_store: Path) -> None:
    before = tree(empty_store)
    run_as(SYNC, mount, "cd 'DCIM/roll 0'; rm *1.jpg; echo more >> IMG_00002.jpg")
    lost = tree(empty_store)
    told = undo(empty_store, "--dry-run")
    assert "comes back" in told
    assert differing(lost, tree(empty_store)) == []
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []
    said = policyfs("undo", str(empty_store), "--last", "--since", "2h")
    assert said.returncode == 0, said
    assert differing(lost, tree(empty_store)) == []


def test_no_mount_shows_what_is_kept(shared, empty_store: Path) -> None:
    """Not by name, in a listing, or by an open, and no app can make the name."""
    run_as(SYNC, shared, "rm 'DCIM/roll 0/IMG_00001.jpg'")
    kept = empty_store / ".policyfs-kept"
    assert kept.stat().st_mode & 0o7777 == 0o700
    script = "exec 2>&1; ls -A; stat .policyfs-kept; cat .policyfs-kept/*/*/*/records; mkdir .policyfs-kept"
    for uid in (SYNC, EDITOR):
        said = tool_as(uid, "sh", "-c", f"cd '{os.fspath(shared)}'; {script}").stdout.decode()
        assert said.splitlines()[0] == "DCIM"
        assert said.count("No such file or directory") == 2
        assert "Permission denied" in said


def test_what_cannot_be_kept_is_refused_or_said(mounts, empty_store: Path) -> None:
    library(empty_store, 20)
    lenient = POLICY.replace("keep: 30d}", "keep: 30d}, on_unkept: record")
    photo = "DCIM/roll 0/IMG_00011.jpg"
    for policy, code in ((POLICY, 2), (lenient, 0)):
        mount = mounts.start(policy, empty_store, "--app", "sync", "--keep-max-file", "100")
        said = tool_as(SYNC, "sh", "-c", f"cd '{os.fspath(mount)}'; echo lost >> '{photo}'")
        assert said.returncode == code, said
        assert bool(code) == (b"lost" not in (empty_store / photo).read_bytes())
        mount.stop()
        notes = [event.get("note") or "" for event in mount.events(operation="open")]
        assert any("cannot be kept" in note for note in notes), mount.events(operation="open")
    told = undo(empty_store, code=1)
    assert "its bytes were not kept" in told


def test_what_is_kept_is_listed_shown_restored_and_dropped(mount, empty_store: Path) -> None:
    run_as(SYNC, mount, "cd 'DCIM/roll 0'; rm IMG_00001.jpg; echo more >> IMG_00002.jpg")
    said = policyfs("kept", "list", str(empty_store), "--json")
    first, second = map(json.loads, said.stdout.splitlines())
    assert (first["what"], second["what"]) == ("removed", "overwritten")
    with mount.as_environment():
        told = policyfs("status", mount.mountpoint).stdout
    assert re.search(r"\n  kept +2 files, [\d,]+ bytes, for undo; the oldest of 2\S+\n", told), told
    assert "IMG_00001" in policyfs("kept", "show", str(empty_store), first["id"]).stdout
    copy = empty_store.parent / "copy"
    assert policyfs("kept", "restore", str(empty_store), second["id"], "--to", str(copy)).returncode == 0
    assert copy.read_bytes() == hashlib.sha256(b"2").digest() * 3
    assert policyfs("kept", "restore", str(empty_store), first["id"]).returncode == 0
    assert (empty_store / "DCIM/roll 0/IMG_00001.jpg").exists()
    assert policyfs("kept", "drop", str(empty_store), "--paths", "/DCIM/***").stdout == "2 dropped\n"
    assert policyfs("kept", "list", str(empty_store)).stdout == "nothing is kept\n"


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", STORE_KINDS)
def test_a_library_comes_back_on_each_file_system(mounts, arena: Path, kind: str) -> None:
    """ext4 with 10,000 photos; xfs and btrfs, where the overwritten ones are clones; tmpfs."""
    with file_system(kind, arena, memory=False) as store:
        store.chmod(0o700)
        library(store, 10_000 if kind == "ext4" else 300)
        mount = mounts.start(POLICY, store, "--app", "sync")
        before = tree(store)
        run_as(SYNC, mount, f"cd DCIM; {SCRIPT}; cd ..; rm -rf DCIM/*")
        undo(store)
        assert differing(before, tree(store)) == []
        mount.stop()


APPENDS = "exec 3>>'{}'; echo one >&3; echo open; read line; echo two >&3; exec 3>&-; echo closed"


@contextlib.contextmanager
def appending(photo: Path, script: str = APPENDS) -> Iterator[subprocess.Popen[bytes]]:
    """The app, which has a photo open for writing until go_on()."""
    words = ["setpriv", f"--reuid={SYNC}", f"--regid={SYNC}", "--clear-groups", "sh", "-c"]
    with subprocess.Popen([*words, script.format(photo)], stdin=PIPE, stdout=PIPE) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"open\n"
        yield app


def go_on(app: subprocess.Popen[bytes]) -> None:
    assert app.communicate(b"\n", 60)[0] == b"closed\n"


def test_what_an_app_has_open_at_a_take_over_is_taken_back(mounts, empty_store: Path) -> None:
    """It writes on through the handle that the next daemon has inherited, and closes it."""
    library(empty_store, 20)
    before, photo = tree(empty_store), "DCIM/roll 0/IMG_00001.jpg"
    mount = mounts.start(POLICY, empty_store, "--app", "sync", "--keeper")
    with appending(mount / photo) as app:
        kill_daemon(mount)
        assert "the app has it open" in undo(empty_store, code=1)
        go_on(app)
    assert (empty_store / photo).read_bytes().endswith(b"one\ntwo\n")
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []


def test_a_file_that_its_app_has_open_again_is_left(mount, empty_store: Path) -> None:
    """Also before it writes: its bytes were kept at the first open."""
    photo = mount / "DCIM/roll 0/IMG_00001.jpg"
    run_as(SYNC, mount, "echo more >> 'DCIM/roll 0/IMG_00001.jpg'")
    undo(empty_store, "--dry-run")
    with appending(photo, "exec 3>>'{}'; echo open; read line; exec 3>&-; echo closed") as app:
        assert "the app has it open" in undo(empty_store, "--dry-run", code=1)
        go_on(app)
    undo(empty_store, "--dry-run")


def test_a_file_that_a_program_has_locked_is_left(mount, empty_store: Path) -> None:
    """A reader's lock, too: it relies on bytes that do not change."""
    before, photo = tree(empty_store), "DCIM/roll 0/IMG_00001.jpg"
    run_as(SYNC, mount, f"echo more >> '{photo}'")
    with appending(
        mount / photo, "exec 3<'{}'; flock -s 3; echo open; read line; exec 3<&-; echo closed"
    ) as app:
        assert "a program has locked the file" in undo(empty_store, code=1)
        go_on(app)
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []


def test_a_reload_without_keep_leaves_what_is_kept(mount, empty_store: Path) -> None:
    """An open file, too: how the app leaves it is on record. From then on nothing is kept."""
    before, photo = tree(empty_store), "DCIM/roll 0/IMG_00001.jpg"
    run_as(SYNC, mount, "rm 'DCIM/roll 0/IMG_00002.jpg'")
    with appending(mount / photo) as app:
        mount.policy.write_text("".join(line for line in POLICY.splitlines(True) if "id: safe" not in line))
        assert mount.reload().returncode == 0
        go_on(app)
    assert mount.status()["kept"]["files"] == 2
    run_as(SYNC, mount, "rm 'DCIM/roll 0/IMG_00003.jpg'")
    assert policyfs("kept", "list", str(empty_store)).stdout.count("IMG_0000") == 2
    undo(empty_store)
    after = tree(empty_store)
    lost = b"roll 0/IMG_00003.jpg"
    assert lost not in after
    times = {lost, b"roll 0"}
    assert differing(*({n: e for n, e in t.items() if n not in times} for t in (before, after))) == []


DEEP = """python3 -c '
import os
levels, loses = 900, {0}
for at in range(levels):
    loses or os.mkdir("d")
    os.chdir("d")
os.unlink("f") if loses else os.close(os.open("f", os.O_CREAT | os.O_WRONLY))
for at in range(levels * loses):
    os.chdir("..")
    os.rmdir("d")
'"""
PROGRAMS = {
    "ACLs": (
        "mkdir a; echo > a/f; : > a/g; setfacl -m u:10011:rw a/f; setfacl -m u:10011:rwx -dm u:10011:rwx a",
        "setfacl -b a/f; setfacl -m u:10012:rw a/g; setfacl -k a; setfacl -m u:10012:r a; chmod 600 a/f",
    ),
    "exiftool": ("cp ../plain.jpg a.jpg", "exiftool -q -overwrite_original -Artist=x a.jpg"),
    "exiftool in place": (
        "cp ../plain.jpg a.jpg", "exiftool -q -overwrite_original_in_place -Artist=x a.jpg",
    ),
    "SQLite": (
        "sqlite3 a.db 'create table t(x); insert into t values (zeroblob(50000))'",
        ("sqlite3 a.db 'delete from t; vacuum';"
        " sqlite3 a.db 'pragma journal_mode=wal; drop table t' >/dev/null"),
    ),
    "git clean": (
        ("git init -q .; echo a > a; git add a; mkdir -p b/c; echo x > b/c/y;"
        " echo '*.o' > .gitignore; echo o > b.o"),
        "git clean -fdxq; test ! -e b; test ! -e b.o; git rm -qf a",
    ),
    "long names": (
        'n=$(printf "%0255d"); mkdir "$n"; echo x > "$n/$n"; ln -s x "$n/l"; echo y > "é$(printf "%0253d")"',
        'n=$(printf "%0255d"); echo z > "$n/$n"; mv "$n/$n" b; rm -rf b "$n" é*',
    ),
    "deep path": (DEEP.format(0), DEEP.format(1)),
}  # fmt: skip


_BY_NIGHT = {"exiftool in place", "deep path"}


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.soak] * (one in _BY_NIGHT)) for one in PROGRAMS]
)
def test_what_programs_lose_is_taken_back(mounts, empty_store: Path, name: str) -> None:
    top, (make, lose) = empty_store / "DCIM/top", PROGRAMS[name]
    top.mkdir(parents=True)
    (top.parent / "plain.jpg").write_bytes(jpegs.plain())
    for path in (empty_store, top.parent, top):
        path.chmod(0o777)
    os.chown(top, SYNC, SYNC)
    said = tool_as(SYNC, "sh", "-c", f"export HOME=/nonexistent; cd '{top}' && {make}")
    assert (said.returncode, said.stderr) == (0, b""), said
    options = ("--posix",) if name == "ACLs" else ("--app", "sync")
    mount = mounts.start(POLICY, empty_store, *options)
    before, rights = tree(empty_store), acls(top)
    run_as(SYNC, mount, f"export HOME=/nonexistent; cd DCIM/top && {lose}")
    assert differing(before, tree(empty_store)) or rights != acls(top)
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []
    assert acls(top) == rights


def acls(top: Path) -> bytes:
    return subprocess.run(["getfacl", "-RPpn", top], check=True, stdout=PIPE).stdout


def test_a_disk_that_becomes_full_refuses_the_change_whole(mounts, arena: Path) -> None:
    """The photo has more bytes than the disk has free: its copy ends in ENOSPC, and leaves nothing behind."""
    with file_system("tmpfs", arena) as store:
        library(store, 3)
        photo, rest = store / "DCIM/roll 0/IMG_00001.jpg", store / "rest"
        photo.write_bytes(b"x" * (20 << 20))
        mount = mounts.start(POLICY, store, "--app", "sync", "--keep-size", "60M")
        with rest.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 34 << 20)
        before, free = tree(store), os.statvfs(store).f_bavail
        script = "echo lost > 'DCIM/roll 0/IMG_00001.jpg'"
        said = tool_as(SYNC, "sh", "-c", f"cd '{os.fspath(mount)}'; {script}")
        assert b"Disk quota exceeded" in said.stderr
        assert differing(before, tree(store)) == []
        assert free - os.statvfs(store).f_bavail <= 4, "pages: the directories and the record"
        assert policyfs("kept", "list", str(store)).stdout == "nothing is kept\n"
        rest.unlink()
        run_as(SYNC, mount, script)
        undo(store)
        assert differing(before, tree(store)) == []
        mount.stop()


CHECKED = POLICY + '  - {id: kinds, require: {content: ["image/*"]}, who: {app: sync}, paths: "/DCIM/***"}\n'


def test_a_view_that_checks_kinds_keeps_too(mounts, empty_store: Path) -> None:
    """Photos are overwritten by others, and by bytes that are refused, replaced and removed."""
    top = empty_store / "DCIM/roll 0"
    library(empty_store, 4)
    for at in range(4):
        (top / f"IMG_0000{at}.jpg").write_bytes(jpegs.plain(at))
        os.chown(top / f"IMG_0000{at}.jpg", SYNC, SYNC)
    (empty_store / "DCIM/new.jpg").write_bytes(jpegs.plain(9, 64))
    os.chown(top, SYNC, SYNC)
    before = tree(empty_store)
    mount = mounts.start(CHECKED, empty_store, "--app", "sync")
    script = "cd 'DCIM/roll 0'; cat ../new.jpg > IMG_00000.jpg; cp ../new.jpg t.jpg; mv t.jpg IMG_00001.jpg"
    run_as(SYNC, mount, f"{script}; rm IMG_00002.jpg")
    tool_as(SYNC, "sh", "-c", f"cd '{mount / 'DCIM/roll 0'}'; echo encrypted > IMG_00003.jpg")
    assert mount.events(decision="deny")
    assert len(differing(before, tree(empty_store))) >= 3
    undo(empty_store)
    assert differing(before, tree(empty_store)) == []


@pytest.mark.soak
def test_a_daemon_that_is_killed_at_any_time_loses_nothing(mounts, empty_store: Path) -> None:
    """Without a keeper: at each kill some requests of the app fail. Nothing is lost, and nothing twice."""
    library(empty_store, 300)
    before = tree(empty_store)
    mount = mounts.start(POLICY, empty_store, "--app", "sync", "--no-keeper")
    for at in range(12):
        child = start_as(SYNC, tear, os.fspath(mount), at)
        time.sleep(0.05 + 0.03 * at)
        os.kill(mount.pid, signal.SIGKILL)
        child.result()
        mount.start_after_kill()
    undo(empty_store, "--conflicts", "replace", code=0)
    assert differing(before, tree(empty_store)) == []


def tear(channel: object, mountpoint: str, seed: int) -> None:
    """Delete, replace and overwrite photos until no daemon answers."""
    del channel
    chance = random.Random(seed)
    top = Path(mountpoint, "DCIM")
    with contextlib.suppress(OSError):
        while photos := sorted(top.rglob("*.jpg")):
            for photo in chance.sample(photos, min(20, len(photos))):
                what = chance.randrange(3)
                if what == 0:
                    photo.unlink()
                elif what == 1:
                    (photo.parent / "tmp").write_bytes(b"new")
                    (photo.parent / "tmp").rename(photo)
                elif not photo.is_symlink():
                    photo.write_bytes(b"encrypted")
