"""Differences between a site file (a list of mounts, docs/mount-sets.md) and its running mounts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import trail_root
from policyfs.cli.mounts import mount as mount_command
from policyfs.cli.mounts.start import options_of
from policyfs.cli.site.site_document import MountDoc, Site
from policyfs.daemon.control import control
from policyfs.linux.code_digest import code_digest

_APART: Final = frozenset({"store", "mountpoint", "policy", "trail", "app", "foreground", "log"})
"""Options that _changes() skips when it compares the options by name. They are compared in another way, or
they change nothing in a running mount."""


OTHER_CODE: Final = "it runs other code than is installed"


def changes(site: Site, mount: MountDoc, status: control.Json) -> tuple[str, ...]:
    """Return a text for each difference between a running mount and its entry in the site file, or the
    installed code."""
    return tuple(_changes(site, mount, status))


def arguments_of(site: Site, mount: MountDoc) -> argparse.Namespace:
    """Return the arguments of the command `policyfs mount` that makes a mount, parsed."""
    parser = argparse.ArgumentParser()
    mount_command.add_mount(parser)
    return parser.parse_args(site.command(mount)[1:])


def _changes(site: Site, mount: MountDoc, status: control.Json) -> Iterator[str]:
    given = status.get("options")
    if not isinstance(given, dict):  # a daemon of an earlier version, which does not report its options
        return
    policy, trail = _text(status, "policy", "file"), os.path.dirname(_text(status, "trail", "directory"))
    yield from _change("policy", policy, site.policy)
    yield from _change("trail", trail, str(Path(trail_root(site.trail)).absolute()))
    wanted = options_of(arguments_of(site, mount))
    for name in sorted(wanted.keys() - _APART):
        yield from _change(name, given.get(name), wanted[name])
    if status.get("code") != code_digest():
        yield OTHER_CODE


def _text(status: control.Json, part: str, name: str) -> str:
    found = status.get(part)
    return str(found.get(name, "")) if isinstance(found, dict) else ""


def _change(name: str, now: object, wanted: object) -> Iterator[str]:
    if (now or None) != (wanted or None):
        yield f"{name} is {_shown(now)}, but the site file says {_shown(wanted)}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    words = {True: "true", False: "false", None: "not set"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
