"""The programs that use a library: services of a compose file, and systemd's services of this machine."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from policyfs.cli.common.processes import look
from policyfs.cli.setup.access import Access
from policyfs.cli.setup.unit_rights import rights_of
from policyfs.cli.site.compose_document import ComposeFile
from policyfs.cli.site.own_units import is_own
from policyfs.cli.site.site_document import Target, is_path
from policyfs.linux.reach import reaches
from policyfs.linux.running import processes
from policyfs.linux.services import is_enabled, services

_KNOWN: Final = re.compile(
    r"(jellyfin|plex|emby|navidrome|syncthing|immich|photoprism|minidlna|mpd|nextcloud|airsonic|komga)"
)
"""Names of programs that usually use a library of media; the user is asked about their services."""
_NO_LIBRARY: Final = ("/dev", "/etc", "/proc", "/run", "/sys", "/var/run")


_OPTIONS: Final = {"posix": "true", "trail_keep_age": "90d"}
"""Options of a mount in which a program finds owners and modes as in the library (docs/posix.md)."""


@dataclass(slots=True)
class User:
    """A program that uses the library, and its place in a site file. name: of the app. unit: its systemd
    service, or empty. container: its service in the compose file, or empty.

    image: of the container, or empty. targets: by the path at which it finds its files. shares: paths in the
    library, True if it can write. bound: the targets that its unit binds itself. narrowed: its access if the
    user has answered that it may do less.
    """

    name: str
    unit: str = ""
    container: str = ""
    image: str = ""
    targets: dict[str, Target] = field(default_factory=dict)
    shares: dict[str, bool] = field(default_factory=dict)
    bound: list[str] = field(default_factory=list)
    narrowed: Access | None = None

    def access(self) -> Access:
        """Return the access that it gets: what it has now, or less."""
        return replace(self.narrowed or Access(self.name, dict(self.shares)), app=self.name)


def likely_library(compose: ComposeFile) -> str:
    """Return the directory that most volumes of a compose file share, the deepest if several; or ""."""
    here = os.path.dirname(os.path.realpath(compose.path))
    users: Counter[str] = Counter()
    for name in compose.services:
        for volume in compose.volumes(name):
            source = volume.source or ""
            own = f"{source}/".startswith((f"{here}/", *(f"{one}/" for one in _NO_LIBRARY)))
            while not own and os.path.isdir(source) and source.count("/") > 1:
                users[source] += 1
                source = os.path.dirname(source)
    return max(users, key=lambda path: (users[path], path.count("/"), path), default="")


def of_compose(compose: ComposeFile, store: str) -> Iterator[User | str]:
    """Yield the services with volumes in the library; a text for each that `init` cannot give a mount.

    store: without symlinks.
    """
    for name in compose.services:
        its = [one for one in compose.volumes(name) if one.source and reaches(one.source, store)]
        if not its:
            continue
        service = compose.services[name]
        image = str(service.get("image") or "") if isinstance(service, dict) else ""
        user = User(_app_name(name), container=name, image=image)
        for volume in its:
            source = str(volume.source)
            if not f"{source}/".startswith(f"{store.rstrip('/')}/"):
                yield f"{name} has {source}, and so more than the library: give it another volume first"
                break
            if not os.path.isdir(source):
                yield f"{name} has the volume {source}, which is no directory: give it one first"
                break
            path = _within(source, store)
            if not (is_path(path) and is_path(volume.target)):
                yield f"{name} has {source} at {volume.target}, which no site file can name: rename it first"
                break
            user.targets[volume.target] = Target(path=path, read_only=volume.read_only)
            user.shares[path] = user.shares.get(path, False) or not volume.read_only
        else:
            yield user


def of_others(compose: ComposeFile, store: str, users: Sequence[User]) -> Iterator[str]:
    """Yield a text for each directory of a compose file, outside of its own, that is absent, or that users of
    the library share, or have on another disk: it is another library."""
    own = [os.path.dirname(os.path.realpath(compose.path)), *_NO_LIBRARY, store]
    near = {os.stat(one).st_dev for one in (store, "/")}
    names: dict[str, list[str]] = {}
    for name in compose.services:
        for volume in compose.volumes(name):
            source = volume.source or ""
            if source and not any(f"{source}/".startswith(f"{one}/") for one in own):
                names.setdefault(source, []).append(name)
    served = {user.container for user in users}
    for source, having in names.items():
        if not os.path.lexists(source):
            yield f"{', '.join(having)}: {source} is not there: a typing error, or a disk that is absent?"
        elif os.path.isdir(source) and not reaches(source, store) and served & {*having}:
            is_other = len({*having}) > 1 or os.stat(source).st_dev not in near
            told = f"{', '.join(having)}: {source} is no part of this library: `policyfs init` it, too"
            yield from [told] * is_other


def _app_name(name: str) -> str:
    return plain_name(name) or "app"


def plain_name(name: str) -> str:
    """Return a name of letters, digits, dots, dashes and underscores like another one, perhaps empty."""
    spelt = unicodedata.normalize("NFC", name).casefold()
    for letter, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ø", "o"), ("ł", "l")):
        spelt = spelt.replace(letter, letters)
    plain = "".join(one for one in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(one))
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("._-")[:40].rstrip("._-")


def _within(path: str, store: str) -> str:
    """Return the path in the library of a path of the machine."""
    return os.path.normpath(os.path.join("/", os.path.relpath(path, store)))


def likely_units() -> list[str]:
    """Return systemd's services of this machine with names of programs for media that do not run as root:
    those that run now, or at the next start. The mounts of other libraries are not among them."""
    there = {one.name: one for one in services()}
    found = {name for name, one in there.items() if one.user not in {"", "root"} and is_enabled(name)}
    # Of this machine alone: a container has units of its own.
    found |= {one.service for one in look(lambda: list(processes())) if one.uid} & there.keys()
    return sorted(name for name in found if _KNOWN.search(name) and "@." not in name and not is_own(name))


def is_there(unit: str) -> bool:
    """Return True if systemd has a unit, or the template of an instance."""
    return any(one.name in {unit, re.sub(r"@.*", "@.service", unit)} for one in services())


def of_unit(unit: str, store: str) -> User:
    """Return a service of systemd as a user of the library, which it finds at the library's own path, and
    where its unit binds it."""
    found = rights_of(unit, store)
    read_only = found.read_only or not any(found.shares.values())
    targets = {} if found.hidden else {store: Target(path="/", read_only=read_only)}
    for target, source, read_only in found.binds:
        if f"{source}/".startswith(f"{store}/"):
            targets[target] = Target(path=_within(source, store), read_only=read_only)
    user = User(_app_name(unit.removesuffix(".service")), unit, targets=targets, shares=found.shares)
    user.bound = [target for target in targets if target in {one.target for one in found.binds}]
    return user


def site_text(name: str, store: str, policy: str, users: Sequence[User]) -> str:
    """Return the text of a site file with a mount for each user."""
    lines = [
        "apiVersion: policyfs/v1", "kind: Site", f"name: {name}", f"store: {_text(store)}",
        f"policy: {_text(policy)}", "mounts:",
    ]  # fmt: skip
    for user in users:
        lines += mount_lines(user)
    return "\n".join(lines) + "\n"


def mount_lines(user: User) -> Iterator[str]:
    """Yield the lines of a user's mount in a site file."""
    yield f"  - app: {user.name}"
    yield f"    {'service' if user.unit else 'container'}: {_text(user.unit or user.container)}"
    yield "    targets:"
    yield from (target_line(target, found) for target, found in user.targets.items())
    yield f"    options: {{{', '.join(f'{key}: {value}' for key, value in _OPTIONS.items())}}}"


def target_line(target: str, found: Target) -> str:
    """Return the line of a target in a site file."""
    path = _text(found.path)
    return f"      {_text(target)}: {f'{{path: {path}, read_only: true}}' if found.read_only else path}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
