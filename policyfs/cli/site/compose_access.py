"""Keys and volumes of a compose file by which a service may reach a store past its mount.

`policyfs compose` checks the volumes that the file itself lists. It does not read other files or images, and
it cannot know what a service with rights over the machine does. So it names these parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policyfs.trail.lines.table import shown

_ELSEWHERE: Final = {
    "extends": "volumes of another file or service", "volumes_from": "volumes of another container",
    "env_file": "variables of another file", "build": "volumes and users of an image that is built",
    "secrets": "files of the host", "configs": "files of the host",
}  # fmt: skip
_RIGHTS: Final = {
    "privileged": "all devices of the host, so also the disk of the store",
    "devices": "devices of the host, perhaps the disk of the store",
    "device_cgroup_rules": "devices of the host, perhaps the disk of the store",
    "cap_add": "more rights of root", "security_opt": "perhaps fewer limits",
    "pid": "perhaps the processes of the host", "userns_mode": "perhaps the users of the host",
}  # fmt: skip
_HOST: Final = ("/dev", "/proc", "/sys")
_ENGINES: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")


def unchecked(compose: Mapping[object, object]) -> Iterator[str]:
    """Yield a text for each part of a compose file that `policyfs compose` does not check."""
    if compose.get("include"):
        yield "include adds services of other files, which policyfs does not read"
    services = compose.get("services")
    for name, service in services.items() if isinstance(services, Mapping) else ():
        for key, what in (_ELSEWHERE | _RIGHTS).items():
            if isinstance(service, Mapping) and service.get(key):
                yield f"the service {shown(str(name))} has {key}: it gives {what}, which is not checked"


def dangers(name: str, sources: Iterable[str]) -> Iterator[str]:
    """Yield a text for each volume of a service that gives rights over the machine.

    sources: paths of the host, absolute and without symlinks.
    """
    for source in sources:
        above = source.rstrip("/") + "/"
        has_engine = any(f"/run/{engine}".startswith(above) for engine in _ENGINES)
        gives = f"the volume {shown(source)} gives the service {shown(name)}"
        if has_engine or os.path.basename(source) in _ENGINES:
            yield f"{gives} the socket of a container engine, and so all rights of root, past every policy"
        elif any(f"{source}/".startswith(f"{host}/") for host in _HOST):
            yield f"{gives} devices or kernel files of the host, perhaps also the store"
