"""The site file: it lists one store, one policy, and the store's mounts. It is read as strictly as a
policy."""

from __future__ import annotations

import itertools
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from policyfs.cli.common.quantities import age, count, number, segment_size, size
from policyfs.cli.common.target_places import WHOLE, place_in, place_name, private_places
from policyfs.errors import PolicyfsError
from policyfs.policy.errors import PolicyError, quote
from policyfs.policy.text.companions import Head, Reader, sound
from policyfs.policy.text.document import Strict
from policyfs.policy.text.nodes import Mapping, Node, Scalar
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.shape import Part
from policyfs.policy.text.values import AppGid, Name, Text, Texts, Truth, _one_of, _several, refuse

KIND: Final = "Site"
_CHOSEN: Final = ("at", "uid", "gid", "any_uid")
"""The keys of an app mount that policyfs chooses itself for services and containers."""
_LONGEST_NAME: Final = 255  # NAME_MAX


def _absolute(value: str) -> str:
    if not value.isprintable() or any(char in "\"'\\" for char in value):
        refuse(
            f"{quote(value)} has characters that unit files cannot hold", "use a path without quotes and \\"
        )
    if not value.startswith("/") or "//" in value or {".", ".."} & set(value.split("/")):
        refuse(
            f"{quote(value)} is not an absolute path",
            "write it from the root, without . and .., such as /srv/media",
        )
    return value.rstrip("/") or "/"


def is_path(value: str) -> bool:
    """Return True if a site file can have this path."""
    try:
        return _absolute(value) == value
    except ValueError:
        return False


def _unit(value: str) -> str:
    if not value.endswith(".service") or "/" in value or not value.isprintable() or " " in value:
        refuse(f"{quote(value)} is not a service", "write the name of the unit, such as jellyfin.service")
    return value


def _as_option(parse: Callable[[str], int]) -> AfterValidator:
    """Return a validator that accepts the texts that an option of `policyfs mount` accepts."""

    def checked(value: str) -> str:
        try:
            parse(value)
        except ArgumentTypeError as error:
            message, _, help_ = str(error).partition("; ")
            refuse(message, help_)
        return value

    return AfterValidator(checked)


Size = Annotated[Text, _as_option(size)]
AbsolutePath = Annotated[Text, AfterValidator(_absolute)]
Services = Annotated[tuple[Annotated[Text, AfterValidator(_unit)], ...], BeforeValidator(_several)]
Gids = Annotated[tuple[AppGid, ...], BeforeValidator(_several)]
ModesWord = Annotated[str, BeforeValidator(_one_of({"store": None, "policy": None}))]


class OptionsDoc(Strict):
    """The key ``options`` of a site file: options of `policyfs mount`, with _ in place of -."""

    monitor: Truth = False
    posix: Truth = False
    idmap: Truth = False
    modes: ModesWord | None = None
    no_xattrs: Truth = False
    read_only: Truth = False
    no_passthrough: Truth = False
    no_avc: Truth = False
    watch: Truth = False
    inotify: Truth = False
    keeper: Truth | None = None
    copy_max: Size | None = None
    copies_max: Size | None = None
    nodes_max: Annotated[Text, _as_option(count)] | None = None
    trail_segment: Annotated[Text, _as_option(segment_size)] | None = None
    trail_keep: Annotated[Text, _as_option(number)] | None = None
    trail_keep_age: Annotated[Text, _as_option(age)] | None = None
    trail_keep_size: Size | None = None
    keep_max_file: Size | None = None
    keep_size: Size | None = None
    quarantine_max: Size | None = None
    quarantine_files: Annotated[Text, _as_option(number)] | None = None

    def words(self) -> list[str]:
        """Return these options as words of a command line, such as ``--posix``."""
        found = []
        for name in OptionsDoc.model_fields:
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is True:
                found.append(option)
            elif name == "keeper" and value is False:
                found.append("--no-keeper")
            elif isinstance(value, str):
                found += [option, value]
        return found


class Target(Strict):
    """A directory of a mount that services and containers find at a path of their own. path: in the mount."""

    path: AbsolutePath
    read_only: Truth = False


def _target(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class MountDoc(Strict):
    """One item of the list ``mounts`` in a site file: an app mount, or the shared mount.

    at: the mountpoint, which read_site() chooses for a mount of services or containers. path: the path at
    which these find their files. directories: paths in the mount that containers find beside it, by name.
    targets: in place of both, directories of the mount, each by the path at which they find it.
    """

    app: Name | None = None
    shared: Truth = False
    at: AbsolutePath = ""
    any_uid: Truth = False
    uid: AppGid | None = None
    gid: Gids = ()
    options: OptionsDoc = OptionsDoc()
    service: Services = ()
    container: Texts = ()
    path: AbsolutePath | None = None
    directories: dict[Name, AbsolutePath] = {}  # noqa: RUF012 - never changed
    targets: dict[AbsolutePath, Annotated[Target, BeforeValidator(_target)]] = {}  # noqa: RUF012 - likewise
    description: Text = ""

    @property
    def users(self) -> tuple[str, ...]:
        """The services and containers that use the mount."""
        return (*self.service, *self.container)

    def found_at(self, user: str) -> list[str]:
        """Return the paths at which a service or container gets the mount, or directories of it."""
        if self.path is None:
            return list(self.targets)
        return [os.path.dirname(self.path) if user in self.container else self.path]

    @property
    def places(self) -> list[str]:
        """The paths at which containers find the mount and its directories. Not those of targets."""
        if self.path is None:
            return []
        path = self.path
        return [path, *(os.path.join(os.path.dirname(path), name) for name in self.directories)]


class _Top(Head):
    name: Name
    description: Text = ""
    store: AbsolutePath
    policy: AbsolutePath
    trail: AbsolutePath | None = None
    past: Texts = ()
    writer: Text | None = None
    mounts: list[object]

    def placed(self, mount: MountDoc) -> MountDoc:
        """Return a mount with its mountpoint, and read-only if another machine alone writes in the store."""
        mount = _placed(self.name, mount)
        if self.writer in {None, os.uname().nodename}:
            return mount
        only_read = mount.options.model_copy(update={"read_only": True, "inotify": False})
        return mount.model_copy(update={"options": only_read})


class Site(NamedTuple):
    """The contents of a site file: a store, a policy, and mounts. file: the absolute path of the site file.
    past: units, containers and users that are meant to reach the store past the mounts.
    """

    file: str
    name: str
    store: str
    policy: str
    trail: str | None
    mounts: tuple[MountDoc, ...]
    past: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The unit of systemd that has all mounts."""
        return f"policyfs-{self.name}.target"

    def unit(self, mount: MountDoc) -> str:
        """Return the name of a mount's unit of systemd."""
        return f"policyfs-{self.name}-{label(mount)}.service"

    def target_place(self, mount: MountDoc, target: str) -> str:
        """Return the path of the bind of one of a mount's targets, which services and containers bind."""
        return place_in(os.path.dirname(mount.at), target)

    def command(self, mount: MountDoc) -> list[str]:
        """Return the words after `policyfs` in the command that makes a mount of the site file.

        --foreground is left out.
        """
        words = ["mount", "--policy", self.policy]
        words += [] if self.trail is None else ["--trail", self.trail]
        words += [] if mount.app is None else ["--app", mount.app]
        # Only its services and containers reach their mount, and PID 1 must see it to give it to them.
        words += ["--any-uid"] if mount.any_uid or (mount.users and not mount.shared) else []
        words += [] if mount.uid is None else ["--uid", str(mount.uid)]
        words += [word for gid in mount.gid for word in ("--gid", str(gid))]
        return [*words, *mount.options.words(), self.store, mount.at]


def label(mount: MountDoc) -> str:
    """Return the name of a mount within its site file: the name of its app, or ``shared``."""
    return mount.app or "shared"


def read_site(path: str) -> Site:
    """Read a site file. Raises PolicyErrors with all faults, or PolicyfsError if the file cannot be read."""
    try:
        return site_of(path, Path(path).read_bytes())
    except OSError as error:
        raise PolicyfsError(f"cannot read the site file {path}: {error.strerror}") from error


def site_of(path: str, data: bytes) -> Site:
    """Return the site of the bytes of a site file. Raises as read_site() does."""
    text = SourceText(path, data)
    absolute = str(Path(path).absolute())
    if not absolute.isprintable():
        raise PolicyfsError(
            f"the path of the site file, {quote(absolute)}, has characters that unit files cannot hold:"
            " rename the file or directory"
        )
    errors: list[PolicyError] = []
    file = _READER.read(text, errors)
    if file is not None:
        _check(file.items, errors)
    sound(errors, "the site has errors")
    if file is None or file.top.doc is None:
        raise PolicyfsError(f"cannot read the site file {path}")
    top = file.top.doc
    mounts = tuple(top.placed(part.doc) for part in file.items if part.doc is not None)
    return Site(absolute, top.name, top.store, top.policy, top.trail, mounts, top.past)


def _placed(site: str, mount: MountDoc) -> MountDoc:
    """Return a mount with its mountpoint.

    A mount of services or containers has a directory of its own. It holds nothing but the mountpoint, so that
    a container can have the directory. The directory is in /run, and so absent at boot: no program finds an
    empty mountpoint before a placeholder is there.
    """
    if mount.at:
        return mount
    name = os.path.basename(mount.path or WHOLE)
    return mount.model_copy(update={"at": f"{private_places()}/{site}/{label(mount)}/{name}"})


def _subject(node: Node, number: int) -> str:
    found = node.get("app") if isinstance(node, Mapping) else None
    return f"mount of {quote(found.raw)}" if isinstance(found, Scalar) else f"mount number {number}"


_READER: Final = Reader(KIND, _Top, MountDoc, "mounts", _subject)


def _check(parts: Sequence[Part[MountDoc]], errors: list[PolicyError]) -> None:
    """Add errors for keys that contradict each other, and for mounts that share a name or a place."""
    places: dict[str, str] = {}
    names: set[str] = set()
    paths: dict[tuple[str, str], str] = {}
    for part in parts:
        doc = part.doc
        if doc is None or not part.sound:
            continue
        if (doc.app is None) != doc.shared:
            errors.append(part.error((), "needs either app or shared: true", "write app: gallery"))
        if doc.shared and (doc.any_uid or doc.uid is not None or doc.gid):
            errors.append(part.error((), "a shared mount admits everybody", "remove any_uid, uid and gid"))
        _check_users(part, doc, errors)
        other = next((at for at in places if doc.at and _overlap(at, doc.at)), None)
        if other is not None:
            help_ = "give each mount its own directory, outside the directories of other mounts"
            errors.append(
                part.error(
                    ("at",), f"this directory overlaps with the directory of the {places[other]}", help_
                )
            )
        if label(doc) in names:
            errors.append(part.error((), "two mounts have this name", "write only one mount for each app"))
        for user, place in [(one, place) for one in doc.users for place in doc.found_at(one)]:
            other = paths.setdefault((user, place), part.subject)
            if other != part.subject:
                help_ = "give each mount of a service a path of its own, and each of a container a directory"
                key = "targets" if doc.targets else "path"
                errors.append(part.error((key,), f"{user} has the {other} at {place}", help_))
        if doc.at:
            places.setdefault(doc.at, part.subject)
        names.add(label(doc))


def _check_users(part: Part[MountDoc], doc: MountDoc, errors: list[PolicyError]) -> None:
    """Add errors for the keys about a mount's place, and about the services and containers that use it."""
    if doc.targets:
        _check_targets(part, doc, errors)
    elif bool(doc.users) != (doc.path is not None):
        wrong = "service and container need path" if doc.users else "path needs service or container"
        help_ = "write service (or container), and path: the path at which the service finds its files"
        errors.append(part.error((), wrong, help_))
    elif not doc.users and not doc.at:
        help_ = "write at: the directory of the mount; or service (or container), and path"
        errors.append(part.error((), "needs at, service or container", help_))
    elif doc.users and not doc.shared and (given := [key for key in _CHOSEN if key in doc.model_fields_set]):
        wrong = "only its services and containers reach this mount, with any uid"
        errors.append(part.key_error(given[0], wrong, f"remove {' and '.join(given)}"))
    elif doc.at and doc.container:
        help_ = "remove at, or the container; write a mount of its own for the container"
        errors.append(part.error(("at",), "a container would reach all directories beside this one", help_))
    elif doc.path is not None and os.path.dirname(doc.path) == "/" and doc.container:
        help_ = "write a path of two names, such as /data/media: the container gets the directory /data"
        errors.append(part.error(("path",), "a container cannot have its own root from outside", help_))
    elif doc.directories and not doc.container:
        help_ = "for a service make a symlink on the machine: ln -s media/DCIM /data/photos"
        errors.append(part.error(("directories",), "only containers get them", help_))
    elif os.path.basename(doc.path or "") in doc.directories:
        help_ = "write path, and other names: with path: /data/media the name photos stands for /data/photos"
        errors.append(part.error(("directories",), "these are names beside path", help_))
    elif doc.path == "/":
        errors.append(part.error(("path",), "a service cannot have a mount as its root", "write /media"))


def _check_targets(part: Part[MountDoc], doc: MountDoc, errors: list[PolicyError]) -> None:
    others = [key for key in ("path", "directories", *_CHOSEN) if key in doc.model_fields_set]
    long = [one for one in doc.targets if len(place_name(one)) > _LONGEST_NAME]
    pairs = itertools.permutations(doc.targets, 2) if doc.service else ()
    inner = next((one for one, other in pairs if one.startswith(f"{other}/")), None)
    if others:
        wrong = "targets say where the service or container finds what"
        errors.append(part.key_error(others[0], wrong, f"remove {' and '.join(others)}"))
    elif doc.shared or not doc.users:
        help_ = "write app, and service or container; write a mount of its own for others"
        errors.append(part.key_error("targets", "only services and containers of an app have targets", help_))
    elif "/" in doc.targets:
        errors.append(part.error(("targets",), "a service cannot have a mount as its root", "write /media"))
    elif long:
        errors.append(part.error(("targets",), f"{quote(long[0])} is too long", "choose a shorter path"))
    elif inner is not None:
        # systemd would look up its name in a directory that the app can change
        wrong = f"{quote(inner)} is inside another target"
        errors.append(part.error(("targets",), wrong, "give a service targets beside each other"))


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
