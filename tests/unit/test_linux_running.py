"""Processes with their services and containers."""

from __future__ import annotations

import os

import pytest

from policyfs.linux.running import place_of, processes, session_of, unit_of

_ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("group", "service", "container"),
    [
        ("/system.slice/jellyfin.service", "jellyfin.service", ""),
        ("/system.slice/system-a.slice/a@b.service/sub", "a@b.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service", "sync.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "", ""),
        ("/user.slice/user-1000.slice/session-2.scope", "", ""),
        (f"/system.slice/docker-{_ID}.scope", "", "docker 0123456789ab"),
        (f"/docker/{_ID}", "", "docker 0123456789ab"),
        (f"/machine.slice/libpod-{_ID}.scope/container", "", "podman 0123456789ab"),
        (f"/user.slice/user-1000.slice/user@1000.service/libpod-{_ID}.scope", "", "podman 0123456789ab"),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{_ID}.scope", "", "containerd 0123456789ab"),
        (f"/kubepods/burstable/pod1/{_ID}", "", "kubernetes 0123456789ab"),
        ("/lxc.payload.media/system.slice/a.service", "", "lxc media"),
        ("/machine.slice/machine-media.scope/payload", "", "machine media"),
        ("/", "", ""),
    ],
)
def test_the_place_of_a_process(group: str, service: str, container: str) -> None:
    assert place_of(f"0::{group}\n") == (service, container)


@pytest.mark.parametrize(
    ("group", "unit", "session"),
    [
        ("/system.slice/jellyfin.service/sub/b.service", "jellyfin.service", None),
        ("/system.slice/run-u5.scope", "run-u5.scope", None),
        ("/init.scope", "", None),
        ("/", "", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service", "", 1000),
        ("/user.slice/user-0.slice/session-2.scope", "", 0),
    ],
)
def test_the_unit_and_the_session_of_a_process(group: str, unit: str, session: int | None) -> None:
    assert (unit_of(f"0::{group}\n"), session_of(f"0::{group}\n")) == (unit, session)


def test_of_several_hierarchies_any_tells() -> None:
    assert place_of(f"12:cpu:/docker/{_ID}\n1:name=systemd:/\n0::/\n") == ("", "docker 0123456789ab")


def test_this_process_is_found() -> None:
    assert os.geteuid() in {one.uid for one in processes()}
