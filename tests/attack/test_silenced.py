"""D1: nobody gets at anything without a record of it, and records stay what they were."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from policyfs.journal.sealing.keys import KeyStore
from policyfs.store.names.aside_names import is_aside
from policyfs.trail.chain import chain
from tests.attack.guards_recording import digests_unread, signatures_unread
from tests.mount.test_trail import STRICT_CALLS, _all_of, _fill_up, _until_refused
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.mount.tampering import sealed_by

APP, NEIGHBOUR = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}, gid: {APP}}}
  neighbour: {{uid: {NEIGHBOUR}, gid: {NEIGHBOUR}}}
rules:
  - {{id: look, allow: [see], who: {{app: any}}, paths: "/***"}}
  - {{id: strict, allow: [all], who: {{app: any}}, paths: "/strict/***", audit: required}}
  - {{id: private, deny: [all], who: {{app: app}}, paths: "/private/***"}}
"""


def furnish(store: Path) -> Path:
    for name in ("strict", "private"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
        (store / name / "file").write_text("text\n")
    (store / "seen").write_text("seen\n")
    return store


# ---------------------------------------------------------------- asked for, and denied


def _stay(channel: Connection, directory: Path) -> None:
    os.chdir(directory)
    channel.send("there")
    channel.recv()


def asked(mount: Mount, neighbour: bool) -> set[tuple[str, str]]:
    """What touches no bytes, of what is denied or hidden: operation and path of each record."""
    beside = start_as(NEIGHBOUR, _stay, mount / "private") if neighbour else None
    assert beside is None or beside.receive() == "there"

    def ask() -> list[str]:
        return [
            code_of(os.stat, mount / "private"), code_of(os.stat, mount / "private/file"),
            code_of(os.open, mount / "seen", os.O_RDONLY), str(os.access(mount / "seen", os.W_OK)),
            code_of(os.chmod, mount / "seen", 0o777),
        ]  # fmt: skip

    assert call_as(APP, ask) == ["ENOENT", "ENOENT", "EACCES", "False", "EACCES"]
    if beside is not None:
        beside.send("enough")
        beside.result()
    found = {(event["operation"], event["path"]) for event in mount.events(decision="deny", app="app")}
    return {("look-up" if name in {"lookup", "stat"} else name, path) for name, path in found}


WANTED: Final = {
    ("look-up", "/private"), ("open", "/seen"), ("access", "/seen"), ("attr", "/seen"),
}  # fmt: skip


@pytest.mark.parametrize("apps", [False, True], ids=["shared", "app"])
def test_whatever_is_refused_is_on_record(mounts: Mounts, empty_store: Path, apps: bool) -> None:
    """Attack D1.1: Make requests that touch no bytes: stat, access, lookup of hidden names
    Guard: policyfs/fs/access/gate.py::Gate.refuse
    Also: tests/mount/test_denials_on_record.py::test_what_touches_no_bytes_is_recorded_too
    Without: ::test_it_is_not_where_a_refusal_is_only_an_answer
    """
    mount = mounts.start(POLICY, furnish(empty_store), *(("--app", "app") if apps else ()))
    assert asked(mount, not apps) >= WANTED


def test_it_is_not_where_a_refusal_is_only_an_answer(without, empty_store: Path) -> None:
    mount = without("refused-unrecorded", POLICY, furnish(empty_store))
    assert not asked(mount, True) & (WANTED - {("look-up", "/private")})


# ---------------------------------------------------------------- no room for a record


def on_a_small_disk(mount: Mount, disk: Path) -> Mount:
    mount.trail = disk / "trail"
    mount.environment["POLICYFS_TRAIL_DIR"] = str(mount.trail)
    return mount.start()


@pytest.mark.parametrize("apps", [False, True], ids=["shared", "app"])
def test_without_room_for_the_record_nothing_happens(
    mounts: Mounts, arena: Path, empty_store: Path, apps: bool
) -> None:
    """Attack D1.2: Fill the trail's disk, make it read-only, remove its directory; kill the daemon before a
    record, or in a line, a seal, a rotation or a new key
    Guard: policyfs/journal/writing/journal.py::Journal.record
    Also: ::test_what_a_killed_daemon_did_is_on_record,
    tests/unit/test_journal_writing_journal.py::test_a_removed_directory_refuses_access_until_it_is_back,
    tests/mount/test_trail.py::test_what_must_be_on_record_and_cannot_be_does_not_happen,
    tests/unit/test_journal_journal_full.py::test_read_only_refuses_and_names_it,
    tests/mount/test_trail.py::test_a_killed_daemon_loses_nothing_that_was_required,
    tests/faults/test_killed_trail.py::test_what_an_app_was_allowed_is_on_the_trail_of_a_killed_daemon,
    tests/faults/test_killed_steps.py::test_a_journal_killed_at_any_step_loses_nothing_and_goes_on
    Without: ::test_it_does_where_a_record_can_wait, ::test_it_is_not_where_a_record_can_wait
    """
    (arena / "disk").mkdir()
    with file_system("tmpfs", arena / "disk") as disk:
        options = ("--app", "app") if apps else ()
        mount = on_a_small_disk(mounts.prepare(POLICY, furnish(empty_store), *options), disk)
        _fill_up(disk / "ballast")
        call_as(APP, _until_refused, mount / "strict/file")
        assert call_as(APP, _all_of, mount / "strict", STRICT_CALLS) == dict.fromkeys(STRICT_CALLS, "EIO")
        assert os.listdir(empty_store / "strict") == ["file"]
        assert (empty_store / "strict/file").read_text() == "text\n"
        (disk / "ballast").unlink()
        wait_for(lambda: call_as(APP, code_of, os.listdir, mount / "strict") == "", "there is room again")
        assert mount.stop() == []


def test_it_does_where_a_record_can_wait(without, mounts_on: Mounts, arena: Path, empty_store: Path) -> None:
    (arena / "disk").mkdir()
    with file_system("tmpfs", arena / "disk") as disk:
        mount = mounts_on.prepare(POLICY, furnish(empty_store))
        mount.program = ("tests.attack.weakened", "required-is-best-effort")
        on_a_small_disk(mount, disk)
        _fill_up(disk / "ballast")
        said = call_as(APP, _all_of, mount / "strict", STRICT_CALLS)
        assert "EIO" not in said.values()
        assert sorted(os.listdir(empty_store / "strict")) != ["file"]
        (disk / "ballast").unlink()
        assert mount.stop() == []


# ---------------------------------------------------------------- killed, before it is written


def killed_after(mount: Mount) -> tuple[set[str], set[str]]:
    """An app makes directories until its daemon is killed: those that apps can see, those on record. A
    directory that was not finished has a temporary name (decision 61), which no app gets."""

    def make(_channel: Connection) -> None:
        for number in range(100_000):
            try:
                os.mkdir(mount / f"strict/{number}")
            except OSError:
                return

    maker = start_as(APP, make)
    wait_for(lambda: len(os.listdir(mount.store / "strict")) > 52, "some are made")  # and two more
    mount.expected_exit = -signal.SIGKILL
    os.kill(mount.pid, signal.SIGKILL)
    assert mount.process is not None
    mount.process.wait(20)
    mount.force_away()
    mount.control_socket.unlink()
    maker.result()
    found = [path for path in (mount.store / "strict").iterdir() if path.is_dir()]
    made = {f"/strict/{path.name}" for path in found if not is_aside(os.fsencode(path.name))}
    return made, {event["path"] for event in mount.events(operation="mkdir")}


def test_what_a_killed_daemon_did_is_on_record(mounts: Mounts, empty_store: Path) -> None:
    made, recorded = killed_after(mounts.start(POLICY, furnish(empty_store)))
    assert len(made) >= 50
    assert recorded >= made


def test_it_is_not_where_a_record_can_wait(without, empty_store: Path) -> None:
    furnish(empty_store)
    for _ in range(5):  # it may be killed right after all was written
        made, recorded = killed_after(without("required-is-best-effort", POLICY, empty_store))
        if made - recorded:
            break
        for path in made:
            (empty_store / path[1:]).rmdir()
    assert made - recorded


# ---------------------------------------------------------------- what was recorded


Tampering = Callable[[list[Path]], tuple[str, int]]
"""Changes segments of a trail; which one, and at which line, must be found."""


def _lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def _changed(segments: list[Path]) -> tuple[str, int]:
    lines = segments[1].read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if number >= 4 and b"/strict/" in line)
    lines[at] = lines[at].replace(b"/strict/", b"/strikt/")
    segments[1].write_bytes(b"".join(lines))
    return segments[1].name, at + 1


def _left_out(segments: list[Path]) -> tuple[str, int]:
    _lines(segments[1], lambda all_: all_[:6] + all_[7:])
    return segments[1].name, 7


def _swapped(segments: list[Path]) -> tuple[str, int]:
    _lines(segments[1], lambda all_: [*all_[:3], all_[4], all_[3], *all_[5:]])
    return segments[1].name, 4


def _cut(segments: list[Path]) -> tuple[str, int]:
    lines = segments[-1].read_bytes().splitlines(keepends=True)
    segments[-1].write_bytes(b"".join(lines)[:-20])
    return segments[-1].name, len(lines)


def _shortened(segments: list[Path]) -> tuple[str, int]:
    _lines(segments[1], lambda all_: all_[:-3])
    return segments[2].name, 1


def _removed(segments: list[Path]) -> tuple[str, int]:
    segments[1].unlink()
    return segments[2].name, 0


TAMPERING: Final[dict[str, Tampering]] = {
    "a line changed": _changed,
    "a line left out": _left_out,
    "lines swapped": _swapped,
    "a line cut in half": _cut,
    "a segment cut short": _shortened,
    "a segment removed": _removed,
}
FOUND_BY_DIGEST: Final = ("a line changed", "lines swapped")


@pytest.fixture(scope="module")
def trail(module_mounts: Mounts, module_arena: Path) -> Path:
    """What a mount has left, in several segments."""
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    mount = module_mounts.start(POLICY, furnish(store), "--trail-segment", "16K")

    def make() -> None:
        for number in range(150):
            os.mkdir(mount / f"strict/{number}")

    call_as(APP, make)
    assert mount.stop() == []
    return mount.trail


def tampered(trail: Path, into: Path, tampering: Tampering) -> tuple[int, str, tuple[str, int]]:
    """What `audit verify` says of a copy of the trail that was changed so, and what it must name."""
    shutil.copytree(trail, into)
    must_name = tampering(sorted(into.glob("*/*.jsonl")))
    said = policyfs("audit", "verify", "--trail", into)
    return said.returncode, said.stdout + said.stderr, must_name


@pytest.mark.parametrize("name", TAMPERING)
def test_each_change_of_the_trail_is_found_and_named(trail: Path, tmp_path: Path, name: str) -> None:
    """Attack D1.5: Change, cut, delete, reorder lines or segments
    Guard: policyfs/trail/chain/verify.py::Verifier.add, policyfs/trail/chain/damage.py::diagnose
    Also: ::test_a_trail_sealed_anew_is_found_by_a_digest_kept_elsewhere,
    tests/unit/test_trail_chain_verify.py, tests/property/test_trail_tampering.py
    Without: ::test_it_is_not_found_where_digests_are_not_compared
    """
    assert policyfs("audit", "verify", "--trail", trail).returncode == 0
    code, said, (segment, line) = tampered(trail, tmp_path / "copy", TAMPERING[name])
    assert code == 1
    assert f"{segment} line {line}:" in said if line else segment in said, said


@pytest.mark.parametrize("name", FOUND_BY_DIGEST)
def test_it_is_not_found_where_digests_are_not_compared(
    trail: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests_unread(monkeypatch.setattr)
    code, said, _ = tampered(trail, tmp_path / "copy", TAMPERING[name])
    assert code == 0, said


def _sealed_anew(segment: Path) -> None:
    """Change a line of a trail's last segment, and give each line from there on a digest that fits."""
    first, *others = segment.read_bytes().splitlines(keepends=True)
    header = chain.split(first[:-1])
    assert header is not None
    lines, head = [first], header.chain
    for raw in others:
        sealed = chain.split(raw[:-1])
        assert sealed is not None
        line, head = chain.seal(head, sealed.body.replace(b"/strict/", b"/strikt/"))
        lines.append(line)
    segment.write_bytes(b"".join(lines))


def test_a_trail_sealed_anew_is_found_by_a_digest_kept_elsewhere(trail: Path, tmp_path: Path) -> None:
    head = policyfs("audit", "verify", "--trail", trail).stdout.split("head: ")[1].strip()
    shutil.copytree(trail, tmp_path / "copy")
    newest = max((tmp_path / "copy").glob("*/*.jsonl"))
    _sealed_anew(newest)
    newest.with_suffix(".seal").unlink()  # the only one that is not on record
    assert policyfs("audit", "verify", "--trail", tmp_path / "copy").returncode == 0, "nothing else tells"
    said = policyfs("audit", "verify", "--trail", tmp_path / "copy", "--expect", head)
    assert said.returncode == 1
    assert "sealed again" in said.stdout + said.stderr


def test_a_trail_sealed_anew_is_found_by_its_seals(trail: Path, tmp_path: Path) -> None:
    """Whoever can write the files, and cannot read the key, signs with a key of his own.

    Attack D1.6: Write the files of the trail, but not read the key: make a chain anew from a changed
    line on, with digests that fit
    Guard: policyfs/journal/sealing/sealer.py::Sealer.close_segment,
    policyfs/trail/chain/seal.py::read_seal
    Also: tests/unit/test_trail_chain_seal.py,
    tests/unit/test_cli_audit_verify.py::test_a_chain_made_anew_without_any_seal_is_not_whole
    Without: ::test_it_is_not_found_where_no_signature_is_checked
    """
    code, said = _signed_by_a_stranger(trail, tmp_path)
    assert code == 1
    assert "re-sealed" in said


def test_it_is_not_found_where_no_signature_is_checked(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures_unread(monkeypatch.setattr)
    code, said = _signed_by_a_stranger(trail, tmp_path)
    assert code == 0, said


def _signed_by_a_stranger(trail: Path, into: Path) -> tuple[int, str]:
    shutil.copytree(trail, into / "copy")
    newest = max((into / "copy").glob("*/*.jsonl"))
    _sealed_anew(newest)
    stranger = KeyStore(into / "stranger").signer()
    sealed_by(stranger, newest)
    said = policyfs("audit", "verify", "--trail", into / "copy")
    return said.returncode, said.stdout + said.stderr


# ---------------------------------------------------------------- another policy for a moment


def opened_for_a_moment(mount: Mount) -> tuple[list[tuple[str, str]], str]:
    """Put a policy in force that lets the app read, and the old one again. Returns by whom and how it was
    changed, and what is kept of the text that was in force meanwhile."""
    text, opened = mount.policy.read_text(), POLICY.replace("id: private, deny", "id: private, allow")
    assert call_as(APP, code_of, os.stat, mount / "private/file") == "ENOENT"
    mount.policy.write_text(opened)
    assert mount.reload().returncode == 0
    assert call_as(APP, code_of, os.stat, mount / "private/file") == ""
    mount.policy.write_text(text)
    assert mount.reload().returncode == 0
    with mount.as_environment():
        digest = hashlib.sha256(opened.encode()).hexdigest()
        kept = policyfs("audit", "show", "--policy", digest).stdout
    return [(event["how"], event["exe"]) for event in mount.events(type="policy")], kept


def test_who_opens_all_for_a_moment_is_on_record_with_the_policy(mounts: Mounts, empty_store: Path) -> None:
    """Attack D1.3: Put another policy, mount or options in force for a moment, and the old ones again (the
    administrator may do this, but it must be on record)
    Guard: policyfs/daemon/policies/policies.py::Policies.replace,
    policyfs/journal/files/policy_texts.py::PolicyTexts.save
    Also: tests/mount/test_policy_on_trail.py,
    tests/unit/test_journal_writing_journal.py::test_no_record_that_is_kept_lacks_the_text_of_its_policy
    Without: ::test_nobody_knows_where_the_change_is_not_recorded
    """
    mount = mounts.start(POLICY, furnish(empty_store))
    changes, kept = opened_for_a_moment(mount)
    assert changes == [("policyfs reload", os.readlink("/proc/self/exe"))] * 2
    assert "id: private, allow" in kept


def test_nobody_knows_where_the_change_is_not_recorded(without, empty_store: Path) -> None:
    mount = without("policy-changes-untold", POLICY, furnish(empty_store))
    assert opened_for_a_moment(mount) == ([], "")
