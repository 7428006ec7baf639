"""`policyfs unit` and `policyfs compose`: files that give systemd services and containers the mounts of a
site.

A site is a list of mounts in a file (docs/mount-sets.md).
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from policyfs.cli.site_document import MountDoc, Site, label, read_site
from policyfs.errors import EXIT_OK, PolicyfsError

_MADE_BY: Final = "# Made by `policyfs unit` of {file}. Change that file, and make this one again.\n"
_DIRECTORY: Final = "/etc/systemd/system"

CONFINED: Final = """\
Restart=on-failure
RestartSec=2
TimeoutStartSec=90
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
SystemCallFilter=fanotify_init fanotify_mark name_to_handle_at open_by_handle_at
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
"""  # noqa: E501 - as in packaging/systemd, which a test compares
"""Settings for each systemd unit that mounts. The comments of the units in packaging/systemd explain them."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `unit` and `compose` to the command line."""
    unit = subparsers.add_parser(
        "unit",
        help="write systemd units for a site",
        description="Write a unit for each mount of SITE, and drop-ins for the services that use them.",
    )
    unit.add_argument("--to", default=_DIRECTORY, metavar="DIR", help=f"write into DIR ({_DIRECTORY})")
    unit.add_argument("--policyfs", default="policyfs", metavar="PROGRAM", help="the program in the units")
    unit.add_argument("site", metavar="SITE.yaml")
    unit.set_defaults(run=run_unit)
    compose = subparsers.add_parser(
        "compose",
        help="print the volumes of a site for a compose file",
        description="Print a compose file with the volumes of SITE, to be merged over COMPOSE.yaml.",
    )
    compose.add_argument("site", metavar="SITE.yaml")
    compose.add_argument("compose", nargs="?", metavar="COMPOSE.yaml", help="check the volumes against it")
    compose.set_defaults(run=run_compose)


def run_unit(args: argparse.Namespace) -> int:
    """Write the systemd unit files for a site file (a list of mounts), and print their paths.

    Do not overwrite files made by other programs.
    """
    site, directory = read_site(args.site), Path(args.to)
    files = dict(units(site, args.policyfs))
    try:
        foreign = [name for name in files if _foreign(directory / name)]
        if foreign:
            raise PolicyfsError(
                f"{directory / foreign[0]} was not made by `policyfs unit`: move it, or use --to DIR"
            )
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.write_text(text, encoding="utf-8")
            new.replace(path)
            print(path)
    except OSError as error:
        raise PolicyfsError(f"cannot write {error.filename}: {error.strerror}") from error
    if args.to == _DIRECTORY:
        print(f"now: systemctl daemon-reload && systemctl enable --now policyfs-{site.name}.target")
    return EXIT_OK


def _foreign(path: Path) -> bool:
    return path.exists() and not path.read_text("utf-8", "replace").startswith(_MADE_BY.partition(" of ")[0])


def units(site: Site, program: str = "policyfs") -> Iterator[tuple[str, str]]:
    """Yield names and texts of systemd unit files.

    There is one unit for each mount, one unit for all mounts, and a drop-in (additional settings) for each
    service.
    """
    made_by = _MADE_BY.format(file=site.file)
    names = [_unit_name(site, mount) for mount in site.mounts]
    wants = "".join(f"Wants={name}\nAfter={name}\n" for name in names)
    about = f"[Unit]\nDescription=policyfs mounts of {site.name}\n{wants}"
    yield f"policyfs-{site.name}.target", f"{made_by}{about}\n[Install]\nWantedBy=multi-user.target\n"
    for mount, name in zip(site.mounts, names, strict=True):
        yield name, made_by + _mount_unit(site, mount, program)
        for service in mount.service:
            yield f"{service}.d/policyfs-{site.name}.conf", made_by + _drop_in(mount, name)


def _unit_name(site: Site, mount: MountDoc) -> str:
    return f"policyfs-{site.name}-{label(mount)}.service"


def _mount_unit(site: Site, mount: MountDoc, program: str) -> str:
    words = site.command(mount)
    command = " ".join(map(_word, [program, words[0], "--foreground", *words[1:]]))
    at, run = _word(mount.at), _word(program)
    return (
        f"[Unit]\nDescription=policyfs mount of {label(mount)} ({site.name})\n"
        "Documentation=man:policyfs(1) man:policyfs-policy(5)\n"
        f"After=local-fs.target\nBefore=multi-user.target\nPartOf=policyfs-{site.name}.target\n"
        f"RequiresMountsFor={_path(site.store)}\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nType=simple\nExecStartPre=mkdir -p {at}\nExecStart={command}\n"
        f"ExecStartPost={run} status --wait 60 {at}\nExecReload={run} reload {at}\n"
        f"ExecStopPost=-{run} umount {at}\nExecStopPost=-umount -l -q {at}\n"
        f"{CONFINED}\n[Install]\nWantedBy=policyfs-{site.name}.target\n"
    )


def _drop_in(mount: MountDoc, unit: str) -> str:
    """Return the drop-in (additional settings) of a systemd service that uses a mount.

    The drop-in puts the mount at the path at which the service expects its files. unit: the name of the
    mount's unit.
    """
    paths = f"{_path(mount.at)}:{_path(mount.path or '')}"
    return (
        f"[Unit]\nRequires={unit}\nAfter={unit}\nPartOf={unit}\n\n"
        f"[Service]\nBindPaths={paths}\n# fusermount3 must not take the mount away for the app.\n"
        "NoNewPrivileges=yes\n"
    )


def _path(path: str) -> str:
    """Return a path as a value in a unit file (systemd.syntax(7)).

    A path with a space, colon or semicolon is in quotes.
    """
    plain = path.replace("%", "%%")
    return f'"{plain}"' if any(char in " :;" for char in plain) else plain


def _word(text: str) -> str:
    """Return a word of a command line in a unit file, with special characters quoted (systemd.service(5))."""
    return _path(text.replace("$", "$$"))


def run_compose(args: argparse.Namespace) -> int:
    """Check the user's compose file, if one is named. Print a compose file for the mounts of the site file.
    """
    site = read_site(args.site)
    if args.compose is not None:
        _check(site, args.compose)
    print(compose_file(site), end="")
    return EXIT_OK


def compose_file(site: Site) -> str:
    """Return a compose file (for Docker or Podman) that gives each container of a site file (a list of
    mounts) its own mount.
    """
    services: dict[str, dict[str, object]] = {}
    for mount in site.mounts:
        for container in mount.container:
            services[container] = {
                "volumes": [{
                    "type": "bind", "source": mount.at.replace("$", "$$"),
                    "target": (mount.path or "").replace("$", "$$"), "bind": {"create_host_path": False},
                }],
                "security_opt": ["no-new-privileges:true"],
            }  # fmt: skip
    out = io.StringIO()
    out.write(f"# Made by `policyfs compose` of {site.file}, to be merged over your compose file:\n")
    out.write("#   docker compose -f compose.yaml -f this-file.yaml up\n")
    yaml = YAML()
    yaml.dump({"services": services}, out)
    return out.getvalue()


def _check(site: Site, path: str) -> None:
    """Raise PolicyfsError if the compose file at a path lacks a container of the site.

    Raise it also if a service has a volume by which it reaches the store itself.
    """
    try:
        found = YAML(typ="safe").load(Path(path).read_bytes())
    except (OSError, YAMLError) as error:
        raise PolicyfsError(f"cannot read {path}: {error}") from error
    services = found.get("services") if isinstance(found, dict) else None
    if not isinstance(services, dict):
        raise PolicyfsError(f"{path} is not a compose file: it has no services")
    for mount in site.mounts:
        for container in mount.container:
            if container not in services:
                raise PolicyfsError(
                    f"{path} has no service {container}; it has {', '.join(map(str, services))}"
                )
    for name, service in services.items():
        for source in _sources(service, os.path.dirname(os.path.abspath(path))):
            if _reaches(source, site.store):
                raise PolicyfsError(
                    f"{path}: the volume {source} gives the service {name} direct access to the store"
                    f" {site.store}, without a policy: remove this volume"
                )


def _sources(service: object, base: str) -> Iterator[str]:
    volumes = service.get("volumes") if isinstance(service, dict) else None
    for volume in volumes if isinstance(volumes, list) else ():
        source = volume.get("source") if isinstance(volume, dict) else str(volume).partition(":")[0]
        if isinstance(source, str) and source.startswith(("/", ".", "~")):
            yield os.path.realpath(os.path.join(base, os.path.expanduser(source)))


def _reaches(source: str, store: str) -> bool:
    real = os.path.realpath(store)
    return source == real or real.startswith(source.rstrip("/") + "/") or source.startswith(f"{real}/")
