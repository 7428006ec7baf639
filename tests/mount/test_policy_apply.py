"""`policyfs policy apply`: what it refuses, what it says of the mount, and that it says the truth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from policyfs.daemon.control import control
from policyfs.policy.text.parse import digest_of
from tests.support.machine.processes import call_as
from tests.support.models.applied_policies import HEAD, NARROW, TESTS, TWO, WIDE
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount, Said, policyfs
from tests.support.mount.stores import Mounts


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    return mounts.start(NARROW, store)


def apply(mount: Mount, *words: str) -> Said:
    with mount.as_environment():
        return policyfs("policy", "apply", str(mount.mountpoint), *words)


def _shown(mount: Mount) -> list[str]:
    return sorted(call_as(TWO, os.listdir, mount.mountpoint))


def _live(mount: Mount) -> tuple[str, int]:
    policy = mount.status()["policy"]
    return policy["digest"], policy["generation"]


def test_a_widening_is_refused_with_witnesses_unless_it_is_allowed(mount: Mount) -> None:
    before = _live(mount)
    mount.policy.write_text(WIDE)
    said = apply(mount)
    assert said.returncode == 1
    assert "wider: two may now see and read" in said.stdout
    assert "policyfs policy explain" in said.stdout
    assert "refused: 1 change allows more than before" in said.stdout
    stays = f"nothing is changed: policy {before[0][:16]}, generation {before[1]}, stays in force"
    assert stays in said.stdout
    assert (_live(mount), _shown(mount)) == (before, ["Documents"])

    said = apply(mount, "--dry-run", "--allow-widening")
    assert said.returncode == 0
    assert "would be put in force" in said.stdout
    assert stays in said.stdout
    assert (_live(mount), _shown(mount)) == (before, ["Documents"])

    said = apply(mount, "--allow-widening")
    assert said.returncode == 0
    assert "in force, generation 2" in said.stdout
    assert {"DCIM", "Documents", "Music"} <= set(_shown(mount))
    (record,) = mount.events(type="policy")
    assert (record["how"], record["result"]) == ("policyfs policy apply", "in force")


def test_a_check_against_another_policy_loads_nothing(mount: Mount) -> None:
    before = _live(mount)
    mount.policy.write_text(WIDE)
    expected = digest_of([WIDE.encode()])
    with mount.as_environment():
        socket = control.socket_path(str(mount.mountpoint))
    with pytest.raises(control.ControlError, match="another policy came into force after the check"):
        control.ask(socket, "reload", 30, expected=expected, live="0" * 64)
    assert (_live(mount), _shown(mount)) == (before, ["Documents"])
    control.ask(socket, "reload", 30, expected=expected, live=before[0])
    assert _live(mount) == (expected, before[1] + 1)


def test_a_narrowing_needs_no_word(mount: Mount) -> None:
    mount.policy.write_text(HEAD)
    said = apply(mount, "--json")
    assert said.returncode == 0, said
    found = json.loads(said.stdout)
    assert found["applied"]
    assert found["refused"] is None
    assert [change["direction"] for change in found["difference"]["changes"]] == ["narrower"]
    assert _shown(mount) == []


def test_an_accepted_widening_is_applied(mount: Mount, tmp_path: Path) -> None:
    mount.policy.write_text(WIDE)
    (change,) = json.loads(apply(mount, "--json").stdout)["difference"]["changes"]
    accepted = tmp_path / "accepted.yaml"
    accepted.write_text(
        "apiVersion: policyfs/v1\nkind: AcceptedChanges\naccepted:\n"
        f"  - {{change: {change['change']}, because: it is a test}}\n"
    )
    assert apply(mount, "--ack", str(accepted)).returncode == 0
    assert "Music" in _shown(mount)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (HEAD + "  - {id: some, alow: [see]}\n", 3, 'did you mean "allow"?'),
        (
            WIDE + 'invariants:\n  - {id: no, never: [see], who: {app: two}, paths: "/Music/**"}\n',
            3,
            'invariant "no" does not hold',
        ),
        (WIDE, 4, "1 of the policy's tests failed"),
    ],
    ids=["errors", "invariant", "tests"],
)
def test_nothing_that_is_not_sound_is_applied(mount: Mount, text: str, code: int, words: str) -> None:
    before = _live(mount)
    mount.policy.with_name(f"{mount.policy.stem}.test.yaml").write_text(TESTS)
    mount.policy.write_text(text)
    said = apply(mount, "--allow-widening")
    assert said.returncode == code, said
    assert words in said.stdout
    assert "nothing is changed" in said.stdout
    assert _live(mount) == before


def test_another_file_takes_the_place_of_the_mount_s(mount: Mount, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(WIDE)
    assert apply(mount, str(other)).returncode == 1
    assert mount.policy.read_text() == NARROW
    assert apply(mount, str(other), "--allow-widening").returncode == 0
    assert mount.policy.read_text() == WIDE
    assert mount.reload().returncode == 0
    assert "Music" in _shown(mount)


def test_other_mounts_of_the_file_are_named(mounts: Mounts, store: Path) -> None:
    """A narrower policy in one mount is none for an app that uses another mount of the same policy."""
    one = mounts.start(WIDE, store)
    other = mounts.start(one.policy, store)
    one.policy.write_text(NARROW)
    said = apply(one)
    assert said.returncode == 0, said
    told = f"other mounts of {one.policy} still have the old policy in force"
    assert f"{told}: run policyfs reload {other.mountpoint}\n" in said.stdout
    assert "Music" in _shown(other)
    assert other.reload().returncode == 0
    assert "Music" not in _shown(other)
    assert "other mounts" not in apply(one).stdout


def test_a_refusal_of_the_daemon_leaves_the_file(mounts: Mounts, store: Path, tmp_path: Path) -> None:
    mount = mounts.start(NARROW, store, "--app", "two")
    other = tmp_path / "other.yaml"
    other.write_text(NARROW.replace("two", "three"))
    said = apply(mount, str(other), "--allow-widening")
    assert said.returncode == 2, said
    assert "belongs to the app two, which the new policy does not have" in said.stdout
    assert mount.policy.read_text() == NARROW


def test_only_the_text_that_was_checked_is_loaded(mount: Mount) -> None:
    from policyfs.daemon.control import control

    with mount.as_environment(), pytest.raises(control.ControlError, match="were changed after the check"):
        control.ask(control.socket_path(str(mount.mountpoint)), "reload", expected="0" * 64)
    assert _live(mount)[1] == 1


def test_without_the_live_text_nothing_is_known(mount: Mount) -> None:
    kept = mount.trail_dir / "policies" / _live(mount)[0]
    for file in kept.iterdir():
        file.write_text("apiVersion: policyfs/v1\n")
    said = apply(mount)
    assert said.returncode == 1
    assert "the two policies cannot be compared" in said.stdout
    assert apply(mount, "--allow-widening").returncode == 0
    assert call_as(TWO, error, os.stat, mount / "Music") == "ENOENT"
