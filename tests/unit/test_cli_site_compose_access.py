"""Parts of a compose file that are not checked are named."""

from __future__ import annotations

import pytest

from policyfs.cli.site.compose_access import dangers, unchecked


@pytest.mark.parametrize(
    "key",
    ["extends", "volumes_from", "secrets", "configs", "env_file", "build", "privileged", "devices",
     "cap_add", "pid"],
)  # fmt: skip
def test_a_key_that_is_not_checked_is_named(key: str) -> None:
    (told,) = unchecked({"services": {"player": {key: ["x"]}, "other": {key: None}, "odd": 3}})
    assert told.startswith(f"the service player has {key}: ")


def test_other_files_are_named() -> None:
    assert len(list(unchecked({"include": ["more.yaml"], "services": {}}))) == 1
    assert not list(unchecked({"services": {"player": {"image": "x", "volumes": ["/a:/b"]}}}))
    assert not list(unchecked({"services": 3}))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/run/docker.sock", "socket of a container engine"), ("/run/user/0/podman/podman.sock", "socket"),
        ("/run", "socket"), ("/dev", "devices or kernel files"), ("/dev/sda", "devices"),
        ("/proc", "kernel files"),
        ("/proc/1", "kernel files"), ("/sys/fs", "kernel files"), ("/srv/media", ""), ("/devices", ""),
    ],
)  # fmt: skip
def test_a_volume_with_rights_over_the_machine_is_named(source: str, told: str) -> None:
    found = " ".join(dangers("player", [source]))
    assert told in found
    assert bool(found) == bool(told)
