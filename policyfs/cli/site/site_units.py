"""`policyfs unit` and `policyfs compose`: files that give systemd services and containers the mounts of a
site.

A site is a list of mounts in a file (docs/mount-sets.md).
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML

from policyfs.cli.common.mountpoint_way import check_way
from policyfs.cli.common.output import replacing
from policyfs.cli.common.target_places import VARIABLE, variable_of
from policyfs.cli.mounts.mount import MOUNTS
from policyfs.cli.site.compose_document import read_compose
from policyfs.cli.site.own_units import MADE_BY, UNITS, is_own, maker, remove_misplaced
from policyfs.cli.site.site_document import MountDoc, Site, label, read_site
from policyfs.cli.site.site_targets import binds_of
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.linux.interpreter import own_program
from policyfs.linux.private_files import make_private
from policyfs.linux.reach import reaches
from policyfs.linux.services import UNIT_DIRECTORIES
from policyfs.trail.lines.table import shown, word, words

_ELSEWHERE: Final = {
    "env_file": "variables of another file", "build": "volumes and users of an image that is built",
}  # fmt: skip
_RIGHTS: Final = {
    "privileged": "all devices of the host, so also the disk of the store",
    "devices": "devices of the host, perhaps the disk of the store",
    "device_cgroup_rules": "devices of the host, perhaps the disk of the store",
    "cap_add": "more rights of root", "security_opt": "perhaps fewer limits",
    "pid": "perhaps the processes of the host", "userns_mode": "perhaps the users of the host",
}  # fmt: skip
_HOST: Final = ("/dev", "/proc", "/sys")
_SOCKETS: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")

_ENGINES: Final = "Before=docker.service podman.service podman-restart.service\n"
_ENGINES_WAIT_S: Final = 90
_UNLESS_IN_ORDER: Final = """/bin/sh -c '[ "$$SERVICE_RESULT" = success ] || exec "$$@"' sh"""
"""Runs a command after the end of a daemon, unless it has ended in order and left nothing to do."""
_CHECKED: Final = "*:0/5"
"""The times of a look at a site: every five minutes (systemd.time(7))."""

CONFINED: Final = """\
Restart=on-failure
RestartSec=2
OOMPolicy=continue
LimitNOFILE=65536
RuntimeDirectory=policyfs
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
StateDirectory=policyfs
StateDirectoryMode=0700
LogsDirectory=policyfs
LogsDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SETFCAP CAP_LEASE CAP_KILL CAP_SYS_PTRACE
CapabilityBoundingSet=CAP_SYS_CHROOT CAP_SETPCAP
AmbientCapabilities=
SystemCallFilter=@system-service @mount fsopen fsconfig fsmount move_mount seccomp landlock_create_ruleset landlock_restrict_self
SystemCallFilter=fanotify_init fanotify_mark name_to_handle_at open_by_handle_at pidfd_getfd
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=net
IPAddressDeny=any
DevicePolicy=closed
DeviceAllow=/dev/fuse rw
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
"""  # noqa: E501
"""Settings for each systemd unit that mounts. A daemon whose mount was taken away ends as failed, and is
started again. If the kernel kills a daemon or worker for its memory, another one follows (OOMPolicy=).

INVARIANT: no setting gives the daemon a mount namespace of its own (ProtectSystem=, PrivateTmp=, and so on;
with newer systemd PrivateNetwork=, too): nobody else would see the mount. The daemon leaves the network
itself, and gives up more rights once it serves (CAP_SYS_CHROOT and CAP_SETPCAP are for the start).
"""


def add_unit(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a unit for each mount of SITE, and drop-ins for the services that use them. Remove those of"
        " mounts and services that SITE does not name any more."
    )
    add = parser.add_argument
    add("--to", default=UNITS, metavar="DIR", help=f"write into DIR ({UNITS})")
    add("--policyfs", metavar="PROGRAM", help="the program in the units")
    add("site", metavar="SITE.yaml")


def add_compose(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print a compose file with the volumes of SITE, to be merged over COMPOSE.yaml."
    parser.add_argument("site", metavar="SITE.yaml")
    parser.add_argument("compose", nargs="?", metavar="COMPOSE.yaml", help="check the volumes against it")


def run_unit(args: argparse.Namespace) -> int:
    """Write the systemd unit files for a site file (a list of mounts), and print their paths. Remove those of
    mounts and services that the site file does not name any more.

    Do not overwrite or remove files made by other programs.
    """
    site, program = read_site(args.site), args.policyfs or own_program()
    if not program.isprintable():
        raise UsageError("--policyfs has characters that unit files cannot hold")
    stale = write_units(site, Path(args.to), program)
    if args.to == UNITS:
        # The unit of the mountpoints ran at boot. A restart of it would end the mounts, which require it.
        stop = "".join(f"systemctl stop {name} && " for name in stale)
        places = words(program, "up", "--places", site.file)
        print(f"now: {stop}{places} && systemctl daemon-reload && systemctl enable --now {word(site.target)}")
    return EXIT_OK


def write_units(site: Site, directory: Path, program: str) -> list[str]:
    """Write the unit files of a site file (a list of mounts), and remove old ones. Print their paths. Return
    the names of the services that were removed. Raises PolicyfsError."""
    remove_misplaced(directory)
    for service in (service for mount in site.mounts for service in mount.service):
        if is_own(service, (str(directory), *UNIT_DIRECTORIES)):
            raise PolicyfsError(
                f"{site.file}: {service} is a mount of policyfs itself: remove it from the site"
            )
    files = {directory / name: text for name, text in units(site, program)}
    for path in files:
        _check_own(path, site)
    for mount in site.mounts:
        check_way(mount.at)
    for path, text in files.items():
        _write(path, text)
        print(shown(str(path)))
    return remove_stale(directory, files, site)


def _write(path: Path, text: str) -> None:
    """Write a file in one step: if this fails, the file is as before. Raises PolicyfsError."""
    try:
        make_private(path.parent, 0o755)
        with replacing(str(path)) as fd, open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, 0o644)
    except OSError as error:  # the error of a full disk names no file
        raise PolicyfsError(f"cannot write {path}: {error.strerror}") from error


def _check_own(path: Path, site: Site) -> None:
    """Raise PolicyfsError if a file exists and is not made by `policyfs unit` of this site file."""
    made_of = maker(path) if path.exists() else os.path.realpath(site.file)
    if not made_of:
        raise PolicyfsError(f"{path} was not made by `policyfs unit`: move it, or use --to DIR")
    if made_of != os.path.realpath(site.file):
        raise PolicyfsError(
            f"{path} belongs to another site file, {made_of}: give one of the two sites another name. If that"
            " site file does not exist any more, remove its units first"
        )


def remove_stale(directory: Path, files: Collection[Path], site: Site) -> list[str]:
    """Remove the files of this site that are none of *files*, and links to them that enable them. Return the
    names of the services among them. Raises PolicyfsError."""
    services = []
    for path in (*directory.glob("policyfs-*"), *directory.glob("*.d/policyfs-*.conf")):
        if path in files or not path.is_file() or maker(path) != os.path.realpath(site.file):
            continue
        try:
            for one in (path, *directory.glob(f"*.wants/{path.name}")):
                one.unlink()
            print(f"removed {shown(str(path))}")
            if path.suffix == ".service":
                services.append(path.name)
            elif not os.listdir(path.parent):
                path.parent.rmdir()
        except OSError as error:
            raise PolicyfsError(f"cannot remove {path}: {error.strerror}") from error
    return services


def units(site: Site, program: str = "policyfs") -> Iterator[tuple[str, str]]:
    """Yield names and texts of systemd unit files. There is one unit for each mount, one unit for all mounts,
    and a drop-in (additional settings) for each service."""
    made_by = MADE_BY.format(file=site.file)
    names = [site.unit(mount) for mount in site.mounts]
    wants = "".join(f"Wants={name}\nAfter={name}\n" for name in (_places_name(site), *names))
    about = (
        f"[Unit]\nDescription=policyfs mounts of {site.name}\n{wants}"
        f"Wants={_check_name(site)}.timer\n{_ENGINES}"
        f"# Container engines do not wait longer for an absent store.\nJobTimeoutSec={_ENGINES_WAIT_S}\n"
    )
    yield site.target, f"{made_by}{about}\n[Install]\nWantedBy=multi-user.target\n"
    yield _places_name(site), made_by + _places_unit(site, program)
    for suffix, text in _check_units(site, program):
        yield f"{_check_name(site)}.{suffix}", made_by + text
    used: dict[str, list[tuple[MountDoc, str]]] = {}
    for mount, name in zip(site.mounts, names, strict=True):
        yield name, made_by + _mount_unit(site, mount, program)
        for service in mount.service:
            used.setdefault(service, []).append((mount, name))
    for service, mounts in used.items():
        yield f"{service}.d/policyfs-{site.name}.conf", made_by + _drop_in(site, mounts)


def _places_name(site: Site) -> str:
    return f"policyfs-{site.name}-places.service"


def _check_name(site: Site) -> str:
    return f"policyfs-check-{site.name}"  # behind the site's name are the names of mounts


def _check_units(site: Site, program: str) -> Iterator[tuple[str, str]]:
    """Yield the suffixes and texts of the units that look, now and then, at all mounts and past them."""
    command = " ".join(map(_word, [program, "status", "--check", site.file]))
    about = f"[Unit]\nDescription=policyfs check of {site.name}\n"
    yield "service", f"{about}\n[Service]\nType=oneshot\nExecStart={command}\n"
    yield "timer", f"{about}PartOf={site.target}\n\n[Timer]\nOnCalendar={_CHECKED}\n"


def _places_unit(site: Site, program: str) -> str:
    command = " ".join(map(_word, [program, "up", "--places", site.file]))
    return (
        f"[Unit]\nDescription=policyfs mountpoints of {site.name}\n{_ENGINES}\n"
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n{CONFINED}"
        "CapabilityBoundingSet=CAP_LINUX_IMMUTABLE\n"
    )


def _store_units(store: str) -> str:
    """Return the mount units that may have the store. Not required: without it the mount waits."""
    names = store.strip("/").split("/")
    paths = ["/".join(names[:number]) for number in range(1, len(names) + 1)]
    units_ = " ".join(f"{_escaped(path)}.mount" for path in paths if path)
    return f"Wants={units_}\nAfter={units_}\n" if units_ else ""


def _escaped(path: str) -> str:
    """Return a path as the name of a unit (systemd-escape(1), --path)."""
    kept = "".join(
        char if char.isascii() and (char.isalnum() or char in ":_.") else _hexadecimal(char)
        for char in path.replace("/", "\0")
    )
    return f"\\x2e{kept[1:]}" if kept.startswith(".") else kept


def _hexadecimal(char: str) -> str:
    return "-" if char == "\0" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def _mount_unit(site: Site, mount: MountDoc, program: str) -> str:
    words = site.command(mount)
    command = " ".join(map(_word, [program, words[0], "--foreground", *words[1:]]))
    at, run = _word(mount.at), _word(program)
    return (
        f"[Unit]\nDescription=policyfs mount of {label(mount)} ({site.name})\n"
        f"{_store_units(site.store)}Requires={_places_name(site)}\nAfter={_places_name(site)}\n"
        f"PartOf={site.target}\nStartLimitIntervalSec=0\n\n"
        "# Started means that the mount answers. The start waits for the store.\n"
        f"[Service]\nType=notify\nNotifyAccess=exec\nTimeoutStartSec=infinity\n"
        f"Environment={MOUNTS}={len(site.mounts)}\n{_targets_lines(mount, run)}"
        f"ExecStart={command}\nExecReload={run} reload {at}\n"
        f"ExecStopPost=-{_UNLESS_IN_ORDER} {run} umount --dead {at}\n"
        f"{CONFINED}\n[Install]\nWantedBy={site.target}\n"
    )


def _targets_lines(mount: MountDoc, run: str) -> str:
    if not mount.targets:
        return ""
    binds = f"Environment={VARIABLE}={_path(variable_of(binds_of(mount)))}\n"
    # Before the mount ends: an engine starts no container on a bind that is dead.
    return f"{binds}ExecStop=-{run} umount --targets {_word(mount.at)}\n"


def _drop_in(site: Site, mounts: list[tuple[MountDoc, str]]) -> str:
    needs = "".join(f"Requires={unit}\nAfter={unit}\nPartOf={unit}\n" for _, unit in mounts)

    # INVARIANT: no source is in a mount: systemd follows symlinks, also those that an app has made.
    def bound(mount: MountDoc) -> Iterator[str]:
        if mount.path is not None:
            yield f"BindPaths={_path(mount.at)}:{_path(mount.path)}\n"
        for target, one in mount.targets.items():
            key = "BindReadOnlyPaths" if one.read_only else "BindPaths"
            yield f"{key}={_path(site.target_place(mount, target))}:{_path(target)}\n"

    paths = "".join(line for mount, _ in mounts for line in bound(mount))
    return (
        f"[Unit]\n{needs}\n[Service]\n{paths}"
        "# The app must not unmount the mount with fusermount3.\nNoNewPrivileges=yes\n"
    )


def _path(path: str) -> str:
    """Return a path as a value in a unit file (systemd.syntax(7))."""
    plain = path.replace("%", "%%")
    return f'"{plain}"' if any(char in " :;" for char in plain) else plain


def _word(text: str) -> str:
    """Return a word of a command line in a unit file, with special characters quoted (systemd.service(5))."""
    return _path(text.replace("$", "$$"))


def run_compose(args: argparse.Namespace) -> int:
    """Check the user's compose file, if one is named. Print a compose file for the mounts of a site."""
    site = read_site(args.site)
    if args.compose is not None:
        _check(site, args.compose)
    print(compose_file(site), end="")
    return EXIT_OK


def compose_file(site: Site, *, is_old: bool = False) -> str:
    """Return a compose file (for Docker or Podman) that gives each container of a site file (a list of
    mounts) its mounts.

    is_old: True for docker-compose 1, which creates no source of such a volume, and does not know
    create_host_path.

    A container gets the directory above its mount, with later mounts in it, or a bind for each target, on
    which the next is mounted: so a mount that was made again appears in a running container. Compose merges
    volumes by their targets: those of the user's file at the same targets go. A container with targets keeps
    its setuid programs: these cannot unmount there.
    """
    volumes: dict[str, list[dict[str, object]]] = {}
    for mount in site.mounts:
        for container in mount.container:
            for source, target, read_only in _sources(site, mount):
                volumes.setdefault(container, []).append({
                    "type": "bind", "source": source.replace("$", "$$"), "target": target.replace("$", "$$"),
                    **({"read_only": True} if read_only else {}),
                    "bind": {**({} if is_old else {"create_host_path": False}), "propagation": "rslave"},
                })  # fmt: skip
    fixed = {container for mount in site.mounts if mount.path for container in mount.container}
    services: dict[str, dict[str, object]] = {name: {"volumes": its} for name, its in volumes.items()}
    for container in fixed:
        services[container]["security_opt"] = ["no-new-privileges:true"]
    out = io.StringIO()
    out.write(f"# Made by `policyfs compose` of {site.file}, to be merged over your compose file:\n")
    out.write("#   docker compose -f compose.yaml -f this-file.yaml up\n")
    if is_old:  # its schema refuses the key, and the engine then refuses a volume without a directory
        out.write("# For docker-compose 1. A later Compose may give containers empty directories while the\n")
        out.write("# mounts are down: before you use it, add `create_host_path: false` below each `bind:`.\n")
    else:
        out.write("# (docker-compose 1, of Debian 12: remove the lines with create_host_path.)\n")
    YAML().dump({"services": services}, out)
    out.write("# Or as options of `docker run` and `podman run`:\n")
    for container, its in volumes.items():
        mounts = [
            f"--mount type=bind,src={volume['source']},dst={volume['target']},bind-propagation=rslave"
            f"{',readonly' if volume.get('read_only') else ''}"
            for volume in its
        ]
        option = " --security-opt no-new-privileges" if container in fixed else ""
        out.write(f"# {container}: {' '.join(mounts)}{option}\n")
    return out.getvalue()


def _sources(site: Site, mount: MountDoc) -> Iterator[tuple[str, str, bool]]:
    """Yield for each volume of a container the source, the target, and True if it is read-only."""
    if mount.path is not None:
        yield os.path.dirname(mount.at), os.path.dirname(mount.path), False
    for target, one in mount.targets.items():
        yield site.target_place(mount, target), target, one.read_only


def _check(site: Site, path: str) -> None:
    """Raise PolicyfsError if a compose file lacks a container, reaches the store, or covers a mount."""
    found, store = read_compose(path), os.path.realpath(site.store)
    for mount in site.mounts:
        for container in mount.container:
            if container not in found.services:
                raise PolicyfsError(
                    f"{path} has no service {container}; its services are {', '.join(found.services)}"
                )
    for told in (*found.unread, *unchecked(found.tree)):
        print(f"policyfs: warning: {shown(path)}: {told}", file=sys.stderr)
    for name in found.services:
        replaced = {one for mount in site.mounts if name in mount.container for one in mount.targets}
        volumes = [volume for volume in found.volumes(name) if volume.target not in replaced]
        sources = [volume.source for volume in volumes if volume.source is not None]
        for told in dangers(name, sources):
            print(f"policyfs: warning: {shown(path)}: {told}", file=sys.stderr)
        for source in sources:
            if reaches(source, store):
                raise PolicyfsError(
                    f"{path}: the volume {source} gives the service {name} direct access to the store"
                    f" {site.store}, without a policy: remove this volume"
                )
        for mount in (mount for mount in site.mounts if name in mount.container):
            for volume, at in itertools.product(volumes, mount.places):
                above = volume.target == os.path.dirname(at) and volume.source != os.path.dirname(mount.at)
                if above or f"{volume.target}/".startswith(f"{at}/"):
                    raise PolicyfsError(
                        f"{path}: the volume at {shown(volume.target)} of the service {name} is in the way of"
                        f" its mount at {at}: remove this volume, or give the mount another path"
                    )


def unchecked(compose: Mapping[str, object]) -> Iterator[str]:
    """Yield a text for each part of a compose file that `policyfs compose` does not check."""
    services = compose.get("services")
    for name, service in services.items() if isinstance(services, Mapping) else ():
        for key, what in (_ELSEWHERE | _RIGHTS).items():
            if isinstance(service, Mapping) and service.get(key):
                yield f"the service {shown(str(name))} has {key}: it gives {what}, which is not checked"


def dangers(name: str, sources: Iterable[str]) -> Iterator[str]:
    """Yield a text for each volume of a service that gives rights over the machine. sources: paths of the
    host, absolute and without symlinks."""
    for source in sources:
        above = source.rstrip("/") + "/"
        has_engine = any(f"/run/{engine}".startswith(above) for engine in _SOCKETS)
        gives = f"the volume {shown(source)} gives the service {shown(name)}"
        if has_engine or os.path.basename(source) in _SOCKETS:
            yield f"{gives} the socket of a container engine, and so all rights of root, past every policy"
        elif any(f"{source}/".startswith(f"{host}/") for host in _HOST):
            yield f"{gives} devices or kernel files of the host, perhaps also the store"
