"""`modes: policy`: owner, group and mode as the policy allows the asking app, and what access(2) answers."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from policyfs.domain import FileType, Need, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, code_of, tool_as
from tests.support.models import policy_cases as cases
from tests.support.models.policy_text import text_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

OWNER, READER, PLAIN, STRANGER = 10010, 10011, 10012, 10013
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  owner: {{uid: {OWNER}, modes: policy}}
  reader: {{uid: {READER}, modes: policy}}
  plain: {{uid: {PLAIN}}}
rules:
  - {{id: all, allow: [all], who: {{app: owner}}, paths: "/***"}}
  - {{id: read, allow: [see, read], who: {{app: [reader, plain]}}, paths: "/***"}}
  - {{id: pictures, allow: [write], who: {{app: reader}}, paths: "/Pictures/***", when: {{type: image/*}}}}
  - {{id: names, deny: [read], who: {{app: reader}}, paths: "/Music/*"}}
"""


class Seen(NamedTuple):
    """What a process is told of a path: owner, group, permission bits, and what access(2) grants."""

    uid: int
    gid: int
    bits: int
    granted: int


def look(path: str | Path) -> Seen | None:
    """Ask for a path's attributes, then with access(2); None if it is not there."""
    try:
        told = os.lstat(path)
    except FileNotFoundError:
        return None
    granted = sum(bit for bit in (os.R_OK, os.W_OK, os.X_OK) if os.access(path, bit))
    return Seen(told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode), granted)


def look_in_listing(directory: Path) -> dict[str, tuple[int, int]]:
    """List a directory, then ask for the attributes of each name: owner and permission bits."""
    found = {}
    for entry in os.scandir(directory):
        told = entry.stat(follow_symlinks=False)
        found[entry.name] = (told.st_uid, stat.S_IMODE(told.st_mode))
    return found


def open_kinds(directory: Path) -> dict[str, tuple[int, int]]:
    """Make things, and ask for the owner and bits of each that the very reply to making it told."""
    found = {}
    fd = os.open(directory / "file", os.O_CREAT | os.O_RDWR, 0o640)
    (directory / "dir").mkdir(mode=0o711)
    os.symlink("file", directory / "link")
    for name, told in (
        ("file", os.fstat(fd)), ("dir", os.stat(directory / "dir")), ("link", os.lstat(directory / "link")),
    ):  # fmt: skip
        found[name] = (told.st_uid, stat.S_IMODE(told.st_mode))
    os.close(fd)
    return found


@pytest.fixture
def shared(mounts: Mounts, store: Path) -> Mount:
    (store / "Documents/run.sh").write_text("#!/bin/sh\necho ran\n")
    (store / "Documents/run.sh").chmod(0o700)
    return mounts.start(POLICY, store)


def test_each_app_of_a_shared_mount_is_shown_its_own_rights(shared: Mount) -> None:
    photo, note = shared / "DCIM/Camera/a.jpg", shared / "Documents/notes.txt"
    for _ in range(2):  # in turns, so that what the kernel keeps of one would be told the other
        assert call_as(OWNER, look, photo) == Seen(OWNER, OWNER, 0o660, 6)
        assert call_as(READER, look, photo) == Seen(0, READER, 0o440, 4)
        assert call_as(PLAIN, look, photo) == Seen(0, 0, 0o644, 4)
        assert call_as(READER, look, note, gid=77) == Seen(0, 77, 0o440, 4)
    assert call_as(STRANGER, look, photo) is None
    assert call_as(READER, look, shared / "DCIM") == Seen(0, READER, 0o770, 7)
    assert call_as(PLAIN, look, shared / "DCIM") == Seen(0, 0, 0o755, 7)
    assert call_as(READER, look, shared / "Music/song.mp3") == Seen(0, READER, 0, 0)


def test_a_program_is_run_by_whoever_may_read_it(shared: Mount) -> None:
    program = shared / "Documents/run.sh"
    for uid, bits in ((OWNER, 0o770), (READER, 0o550), (OWNER, 0o770)):
        seen = call_as(uid, look, program)
        assert seen is not None
        assert seen.bits == bits
        assert tool_as(uid, program).stdout == b"ran\n"


def test_a_right_that_hangs_on_a_kind_is_shown_without_a_look_at_the_file(shared: Mount) -> None:
    before = shared.status()["sniffer"]
    (shared.store / "Pictures/words.txt").write_text("no picture")
    for name in ("drawing.png", "words.txt"):
        told = call_as(READER, os.stat, shared / "Pictures" / name)
        assert stat.S_IMODE(told.st_mode) == 0o660
    assert shared.status()["sniffer"] == before
    assert call_as(READER, os.access, shared / "Pictures/words.txt", os.W_OK) is False
    assert call_as(READER, os.access, shared / "Pictures/drawing.png", os.W_OK) is True


def test_chmod_and_chown_do_what_they_did(shared: Mount) -> None:
    stored, name = shared.store / "Documents/notes.txt", shared / "Documents/notes.txt"
    call_as(OWNER, os.chmod, name, 0o640)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o640
    assert call_as(OWNER, look, name) == Seen(OWNER, OWNER, 0o660, 6)
    assert call_as(OWNER, code_of, os.chown, name, OWNER, -1) == "EPERM"
    assert call_as(READER, code_of, os.chmod, name, 0o666) == "EACCES"
    assert call_as(READER, code_of, os.chown, name, READER, -1) == "EACCES"
    assert (stored.stat().st_uid, stat.S_IMODE(stored.stat().st_mode)) == (0, 0o640)


def test_listings_and_new_files_tell_the_same(mounts: Mounts, store: Path) -> None:
    for options in ((), ("--app", "owner"), ("--app", "owner", "--any-uid")):
        mount = mounts.start(POLICY, store, *options)
        for _ in range(2):
            found = call_as(OWNER, look_in_listing, mount / "Documents")
            bits = 0o666 if "--any-uid" in options else 0o660
            assert found == {"notes.txt": (OWNER, bits)}
        made = mount / "Pictures/made"
        call_as(OWNER, made.mkdir)
        told = call_as(OWNER, open_kinds, made)
        directory = 0o777 if bits == 0o666 else 0o770
        assert told == {
            "file": (OWNER, bits), "dir": (OWNER, directory), "link": (OWNER, 0o777)
        }  # fmt: skip
        stored = store / "Pictures/made"
        assert stat.S_IMODE((stored / "file").stat().st_mode) == 0o640
        assert stat.S_IMODE((stored / "dir").stat().st_mode) == 0o711
        tool_as(OWNER, "rm", "-r", made, check=True)


def test_another_policy_shows_other_modes_at_once(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "reader")
    photo = mount / "DCIM/Camera/a.jpg"
    for allowed, bits in (("[see, read]", 0o440), ("[see, read, write]", 0o660), ("[see, read]", 0o440)):
        mount.policy.write_text(POLICY.replace("allow: [see, read]", f"allow: {allowed}"))
        assert mount.reload().returncode == 0
        assert call_as(READER, look, photo) == Seen(0, READER, bits, bits >> 6)
    mount.policy.write_text(POLICY.replace(", modes: policy", ""))
    assert mount.reload().returncode == 0
    assert call_as(READER, look, photo) == Seen(0, 0, 0o644, 4)


def test_nobody_writes_what_is_mounted_read_only(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--read-only")
    assert call_as(OWNER, look, mount / "Documents/notes.txt") == Seen(OWNER, OWNER, 0o440, 4)
    assert call_as(OWNER, look, mount / "Documents") == Seen(OWNER, OWNER, 0o550, 5)


BACKUP = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{backup: {{uid: {OWNER}}}, share: {{uid: {READER}}}, kept: {{uid: {PLAIN}, modes: store}}}}
rules:
  - {{id: all, allow: [see, read]}}
  - {{id: write, allow: [write], who: {{app: [share, kept]}}}}
"""


def test_a_mount_shows_them_to_everyone_but_backups(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(BACKUP, store, "--modes", "policy")
    photo = mount / "DCIM/Camera/a.jpg"
    assert call_as(OWNER, look, photo) == Seen(0, 0, 0o644, 4)
    assert call_as(READER, look, photo) == Seen(0, READER, 0o660, 6)
    assert call_as(PLAIN, look, photo) == Seen(0, 0, 0o644, 6)
    assert call_as(STRANGER, look, photo) == Seen(0, STRANGER, 0o440, 4)
    assert mount.status()["policy"]["modes_of"] == ["share", "stranger"]


@pytest.mark.parametrize(
    ("policy", "options", "says"),
    [
        (BACKUP, ("--modes", "policy", "--posix"), "cannot be used together"),
        (POLICY, ("--posix",), "modes: policy of the app owner and --posix cannot be used together"),
        (BACKUP, ("--modes", "policy", "--app", "backup"), "like a backup"),
        (BACKUP, ("--modes", "policy", "--app", "kept"), "`modes: store` for the app kept"),
    ],
    ids=["posix", "policy-posix", "backup", "store"],
)
def test_where_they_would_be_wrong_nothing_is_mounted(
    mounts: Mounts, store: Path, policy: str, options: tuple[str, ...], says: str
) -> None:
    mount = mounts.prepare(policy, store)
    said = policyfs("mount", "--policy", mount.policy, *options, store, mount.mountpoint)
    assert said.returncode == 2
    assert says in said.stderr


def test_a_reload_under_posix_is_refused_too(mounts: Mounts, store: Path) -> None:
    store.chmod(0o755)
    mount = mounts.start(POLICY.replace(", modes: policy", ""), store, "--posix")
    mount.policy.write_text(POLICY)
    said = mount.reload()
    assert said.returncode != 0
    assert "cannot be used together" in said.stderr


# -- generated policies --------------------------------------------------------------------------

A, B, NOBODY = 7, 9, 50
FILES = ["a/a", "a/b", "b/a", "b/ab", "7/a", "7/zz", "zz", "a79", "a/A", "a/b.png", "b/run"]
EVERYTHING = ["", "a", "b", "7", *FILES]
ALL = """\
apiVersion: policyfs/v1
kind: Policy
apps: {a: {uid: "7-8", modes: policy}, b: {uid: 9, modes: policy}}
rules: [{id: all, allow: [all]}]
"""


def look_at_all(top: Path, listed: bool) -> dict[str, Seen | None]:
    """Ask for everything in the small world; first in listings, if so told."""
    if listed:
        for directory in ("", "a", "b", "7"):
            try:
                os.listdir(top / directory)
            except FileNotFoundError:
                continue
    return {name: look(top / name) for name in EVERYTHING}


def make_world(top: Path, names: list[str], contents: bytes) -> None:
    for name in names:
        (top / name).write_bytes(contents)


@pytest.fixture(scope="module")
def world(module_mounts: Mounts, module_arena: Path, media: dict[str, Path]) -> tuple[Mount, Mount]:
    """A shared mount and a's own of one store, with files of a, of b and of nobody."""
    store = module_arena / "world"
    store.mkdir(mode=0o700)
    for name in ("a", "b", "7"):
        (store / name).mkdir()
    shared = module_mounts.start(ALL, store, "--modes", "policy")
    own = module_mounts.start(ALL, store, "--app", "a", "--uid", str(A), "--modes", "policy")
    call_as(A, make_world, shared.mountpoint, ["a/a", "b/a", "7/zz", "a79"], b"words\n")
    call_as(B, make_world, shared.mountpoint, ["a/b", "7/a", "zz"], b"words\n")
    make_world(store, ["b/ab", "a/A", "b/run"], b"#!/bin/true\n")
    make_world(store, ["a/b.png"], media["drawing.png"].read_bytes())
    (store / "b/run").chmod(0o755)
    return shared, own


@pytest.mark.timeout(1800)
@settings(
    max_examples=count(4, 1500),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(policy=cases.policies(), listed=st.booleans())
def test_the_bits_are_what_access_answers(world: tuple[Mount, Mount], policy, listed: bool) -> None:
    text = text_of(policy, modes="policy")
    try:
        engine = compile_policy(parse_policy([SourceText("case.yaml", text.encode())]))
    except PolicyErrors:
        assume(False)
    for mount, uids in zip(world, ((A, B, NOBODY), (A,)), strict=True):
        mount.policy.write_text(text)
        assert mount.reload().returncode == 0
        for uid in uids:
            who = engine.principal(uid)
            for name, seen in call_as(uid, look_at_all, mount.mountpoint, listed).items():
                if seen is None:
                    continue
                ftype = FileType.REGULAR if name in FILES else FileType.DIRECTORY
                state = engine.state_of(b"/" + name.encode())
                needed = engine.needs(who, Op.SEE | Op.READ | Op.WRITE, state, ftype)
                assert seen.gid == uid
                assert seen.bits == (seen.bits >> 6) * 0o110
                assert seen.granted & ~(seen.bits >> 6) == 0, name
                if needed is Need.NOTHING:
                    assert seen.bits >> 6 == seen.granted, name
