"""The programs that use a library: services of a compose file, and systemd's services of this machine."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policyfs.cli.common.processes import look
from policyfs.cli.policy.init.draft import RETENTION
from policyfs.cli.policy.init.wishes import Level, Wish
from policyfs.cli.site.compose_document import ComposeFile
from policyfs.cli.site.own_units import is_own
from policyfs.linux.reach import reaches
from policyfs.linux.running import processes
from policyfs.linux.services import services
from policyfs.policy.lint.rights import like_backup

_KNOWN: Final = re.compile(
    r"(jellyfin|plex|emby|navidrome|syncthing|immich|photoprism|minidlna|mpd|nextcloud|airsonic|komga)"
)
"""Names of programs that usually use a library of media; the user is asked about their services."""
_DATA: Final = frozenset({"data", "library", "libraries", "media", "mnt", "share", "srv", "storage"})
"""Directories at the top of a container that images leave free for volumes."""
_MARKS: Final = "*/.immich"
"""Files below a volume that a program writes anew at each start, and does not start if it cannot (Immich)."""
_LINK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALL, _OTHER = "library", "whole-library"
"""The name of a container's mount, beside the links; the other one if a link has this name."""
_MAX_LINKS: Final = 50
_NO_LIBRARY: Final = ("/dev", "/etc", "/proc", "/run", "/sys", "/var/run")


@dataclass(slots=True)
class User:
    """A program that uses the library, and its place in a site file. name: of the app. unit: its systemd
    service, or empty. container: its service in the compose file, or empty.

    path, directories: the keys of the site file. moved: old and new paths in the container, if they differ:
    then it also has the directory above its mount at each old path, so that it writes nowhere else.
    tops: directories at the top of the library that it has; read_only: True if it cannot write now. marks:
    files of the library that it must be able to write anew. kept: the other volumes of the container.
    """

    name: str
    unit: str = ""
    container: str = ""
    path: str = ""
    directories: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    tops: list[str] = field(default_factory=list)
    read_only: bool = False
    marks: list[str] = field(default_factory=list)
    kept: list[object] = field(default_factory=list)

    def wish(self) -> Wish:
        """Return the access to propose: a sync job or backup may read and change all files; others may read
        them, and add files if they can write now."""
        level = Level.EDIT if like_backup(self.name) else Level.READ if self.read_only else Level.ADD
        return Wish(self.name, None, shares=dict.fromkeys(self.tops, level))


def likely_library(compose: ComposeFile) -> str:
    """Return the directory that most services of a compose file share, the deepest if several; or ""."""
    here = os.path.dirname(os.path.realpath(compose.path))
    users: Counter[str] = Counter()
    for name in compose.services:
        found = set()
        for volume in compose.volumes(name):
            source = volume.source or ""
            own = f"{source}/".startswith((f"{here}/", *(f"{one}/" for one in _NO_LIBRARY)))
            while not own and os.path.isdir(source) and source.count("/") > 1:
                found.add(source)
                source = os.path.dirname(source)
        users.update(found)
    return max(users, key=lambda path: (users[path], path.count("/")), default="")


def of_compose(compose: ComposeFile, store: str, tops: Sequence[str]) -> Iterator[User | str]:
    """Yield the services with volumes in the library; a text for each that `init` cannot give a mount.

    store: without symlinks. tops: the directories at its top.
    """
    for name in compose.services:
        volumes = list(compose.volumes(name))
        its = [one for one in volumes if one.source is not None and reaches(one.source, store)]
        if not its:
            continue
        if above := [one.source for one in its if not f"{one.source}/".startswith(f"{store}/")]:
            yield f"{name} has {above[0]}, and so more than the library: give it another volume first"
            continue
        user = User(re.sub(r"[^a-z0-9._-]", "-", name.lower())[:40].lstrip("._-") or "app", container=name)
        user.read_only = all(one.read_only for one in its)
        for path in (str(one.source) for one in its if not one.read_only):
            user.marks += [f"/{_below(str(found), store)}" for found in sorted(Path(path).glob(_MARKS))]
        user.kept = [one.text for one in volumes if one not in its]
        within = [(one.target, _below(str(one.source), store)) for one in its]
        user.tops = _tops((sub for _, sub in within), tops)
        if not user.tops:
            yield f"{name} has no directory of the library that is there now"
            continue
        _place(user, store, within)
        yield user


def _below(path: str, store: str) -> str:
    sub = os.path.relpath(path, store)
    return "" if sub == "." else sub


def _tops(subs: Iterable[str], tops: Sequence[str]) -> list[str]:
    found = {sub.partition("/")[0] for sub in subs}
    return [top for top in tops if "" in found or top in found]


def _place(user: User, store: str, within: Sequence[tuple[str, str]]) -> None:
    """Choose the path of a container's mount. The container gets the directory above it, and in it links.

    within: pairs of a path in the container and a path in the library. The paths stay as they are if they are
    beside each other, in a directory without files of the image; or if there is one, with few directories.
    """
    above = {os.path.dirname(target) for target, _ in within}
    names = {os.path.basename(target): f"/{sub}".rstrip("/") for target, sub in within}
    one = above.pop() if len(above) == 1 else ""
    if one.strip("/").partition("/")[0] in _DATA and all(map(_LINK.fullmatch, names)):
        whole = next((name for name, sub in names.items() if not sub), None)
        user.path = f"{one}/{whole or (_OTHER if _ALL in names else _ALL)}"
        user.directories = {name: sub for name, sub in names.items() if sub}
        if list(names.values()).count("") <= 1:
            return
    (target, sub), links = within[0], _links(os.path.join(store, within[0][1]))
    if len(within) == 1 and 0 < len(links) <= _MAX_LINKS and all(map(_LINK.fullmatch, links)):
        user.path = f"{target}/{_OTHER if _ALL in links else _ALL}"
        user.directories = {name: os.path.join("/", sub, name) for name in links}
        return
    user.path, user.directories = f"{target}/{_ALL}", {}
    for place, sub in within:
        name = os.path.basename(sub)
        if sub and _LINK.fullmatch(name) and name not in {_ALL, *user.directories}:
            user.directories[name] = f"/{sub}"
        user.moved[place] = f"{place}/{name if name in user.directories else f'{_ALL}/{sub}'}"


def _links(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as listed:
            names = [entry.name for entry in listed if entry.is_dir(follow_symlinks=False)]
    except OSError:  # one file, or a directory that is not there yet
        return []
    return sorted(name for name in names if name != "lost+found" and not name.startswith("."))


def likely_units() -> list[str]:
    """Return systemd's services of this machine with names of programs for media: those that do not run as
    root, running or not. The mounts of other libraries are not among them."""
    found = {one.name for one in services() if one.user not in {"", "root"}}
    found |= {one.service for one in look(lambda: list(processes())) if one.uid}
    return sorted(name for name in found if _KNOWN.search(name) and "@." not in name and not is_own(name))


def of_unit(unit: str, store: str, tops: Sequence[str]) -> User:
    """Return a service of systemd as a user of the library, which it finds at the library's own path. Nobody
    knows whether it needs to write."""
    name = re.sub(r"[^a-z0-9._-]", "-", unit.removesuffix(".service").lower())[:40].lstrip("._-")
    return User(name or "app", unit=unit, path=store, tops=list(tops), read_only=True)


def site_text(name: str, store: str, policy: str, users: Sequence[User]) -> str:
    """Return the text of a site file with a mount for each user."""
    option, _, value = RETENTION.removeprefix("--").partition(" ")
    lines = [
        "apiVersion: policyfs/v1", "kind: Site", f"name: {name}", f"store: {json.dumps(store)}",
        f"policy: {json.dumps(policy)}", "mounts:",
    ]  # fmt: skip
    for user in users:
        key = "service" if user.unit else "container"
        lines += [
            f"  - app: {user.name}",
            f"    {key}: {json.dumps(user.unit or user.container)}",
            f"    path: {json.dumps(user.path)}",
        ]
        if user.directories:
            lines.append(f"    directories: {json.dumps(user.directories, ensure_ascii=False)}")
        lines.append(f"    options: {{{option.replace('-', '_')}: {value}}}")
    return "\n".join(lines) + "\n"
