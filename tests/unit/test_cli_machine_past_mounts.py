"""The names of what reaches a store past its mounts: of control groups, and of the engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from policyfs.cli.machine import past_mounts, running_containers
from policyfs.cli.machine.past_mounts import check_past, others_past, past
from policyfs.cli.machine.running_containers import Container
from policyfs.errors import PolicyfsError
from policyfs.linux.reach import Look, Reach

ID = "0123456789abcdef" * 4


def found_as(
    monkeypatch: pytest.MonkeyPatch, groups: str, *, uid: int = 0, given: bool = True, namespace: str = ""
) -> list[str]:
    """The names that one way of a process gets. Engines have a container `tv` in this process's namespace."""
    way = Reach(7, uid, "sh", f"0::{groups}\n", namespace, "mount" if given else "file", "/x", given)
    monkeypatch.setattr(past_mounts, "look", lambda function, timeout_s: function())
    monkeypatch.setattr(past_mounts, "_looked", lambda store, own: (Look([way], []), []))
    container = Container("tv", "docker", "", (), (), os.getpid())
    return [one.name for one in past("/srv/media", lambda: [container]).found]


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        ("/system.slice/restic.service", "restic.service"),
        ("/system.slice/player.service/libpod-payload-1", "player.service"),
        (f"/system.slice/docker-{ID}.scope", "docker 0123456789ab"),
        ("/system.slice/srv-x.mount", "srv-x.mount"),
        ("/lxc.payload.web/system.slice/restic.service", "lxc web"),
        ("/", "user root"),
        # A user chooses the names below.
        ("/user.slice/user-54321.slice/user@54321.service/app.slice/restic.service", "user 54321"),
        (f"/user.slice/user-54321.slice/user@54321.service/user.slice/libpod-{ID}.scope", "user 54321"),
        ("/user.slice/user-54321.slice/session-1.scope/system.slice/restic.service", "user 54321"),
    ],
)
def test_names(monkeypatch: pytest.MonkeyPatch, groups: str, name: str) -> None:
    assert found_as(monkeypatch, groups) == [name]


def test_the_engine_knows_the_name_by_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.readlink("/proc/self/ns/mnt")
    for groups in (f"/system.slice/docker-{ID}.scope", f"/docker/{ID}", "/"):
        assert found_as(monkeypatch, groups, namespace=own) == ["tv"]


def test_only_a_service_or_a_user_counts_for_an_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_as(monkeypatch, "/user.slice/user-0.slice/session-1.scope", given=False) == []
    assert found_as(monkeypatch, "/init.scope", given=False) == []
    assert found_as(monkeypatch, "/system.slice/smbd.service", given=False) == ["smbd.service"]
    assert found_as(monkeypatch, "/", given=False, uid=54321) == ["user 54321"]


def test_what_is_known_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found_as(monkeypatch, "/system.slice/restic.service")
    [told] = others_past("/srv/media", ["tv"])
    assert told.startswith("restic.service has /srv/media, or a part of it, at /x (pid 7, sh): past policyfs")
    assert told.endswith("write past: [restic.service] in the site")
    assert list(others_past("/srv/media", ["restic.service"])) == []

    def failing(function: Callable[[], object], timeout_s: float) -> object:
        raise PolicyfsError("no time")

    monkeypatch.setattr(past_mounts, "look", failing)
    assert list(others_past("/srv/media", [])) == ["what else reaches the library is not known: no time"]


def test_doctor_tells_what_it_could_not_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(unseen: Sequence[int]) -> list[tuple[str, str]]:
        looked: tuple[Look, list[str]] = (Look([], list(unseen)), [])
        monkeypatch.setattr(past_mounts, "look", lambda function, timeout_s: looked)
        monkeypatch.setattr(running_containers, "running", lambda *, stopped: [])
        return [(one.state.value, one.what) for one in check_past("/srv/media")]

    assert told([]) == [("ok", "no program was given the store past policyfs, or has it open")]
    assert told([0, 1000]) == [("off", "2 processes could not be looked at")]
