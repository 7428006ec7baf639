"""The apps that may own files of a store: the apps in the policies of the store's running mounts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import PurePath
from typing import NamedTuple

from policyfs.cli.common.live_mounts import all_status
from policyfs.daemon.control.control import Json
from policyfs.domain import OWNER_NONE
from policyfs.errors import PolicyfsError
from policyfs.policy.errors import did_you_mean, listed, quote


class KnownApps(NamedTuple):
    """The apps in the policies of a store's mounts. mounts: the mountpoints of these mounts.

    silent: the mounts, of any store, whose policy could not be read.
    """

    names: frozenset[str]
    mounts: tuple[str, ...]
    silent: tuple[str, ...]


def known_apps(store: str) -> KnownApps:
    """Ask the running mounts of a store for the apps in their policies. store: an absolute path.

    A mount counts if its store is this store, or lies above or below this store. Raises PolicyfsError if this
    user may not look for mounts.
    """
    from policyfs.cli.policy.explain_live import engine_of  # imports the whole engine

    silent: list[str] = []
    names: set[str] = set()
    mounts: list[str] = []
    for status in all_status(silent):
        if not _overlaps(store, status):
            continue
        try:
            names |= {app.name for app in engine_of(status).policy.apps}
            mounts.append(str(status["mountpoint"]))
        except PolicyfsError:
            silent.append(str(status["mountpoint"]))
    return KnownApps(frozenset(names), tuple(mounts), tuple(silent))


def _overlaps(store: str, status: Json) -> bool:
    one, other = PurePath(store), PurePath(os.path.realpath(str(status["store"])))
    return one.is_relative_to(other) or other.is_relative_to(one)


def check_owner(owner: str, known: KnownApps) -> None:
    """Raise PolicyfsError if no policy of the store's mounts has an app with the name *owner*.

    If a mount does not answer, or no mount is running, print a warning instead.
    """
    if owner == OWNER_NONE or owner in known.names:
        return
    if known.silent or not known.mounts:
        why = f"cannot ask {', '.join(known.silent)}" if known.silent else "no mount of the store is running"
        _warn(f"{why}, so policyfs does not know whether a policy has the app {quote(owner)}")
        return
    raise PolicyfsError(
        f"no policy of a mount of this store has the app {quote(owner)}:"
        f" {did_you_mean(owner, known.names)}apps: {listed(known.names)}."
        " Use --force to set this owner anyway, for a policy that will have the app"
    )


def warn_of_unknown(owners: Iterable[str], known: KnownApps) -> None:
    """Print a warning about owners that are not apps of any policy of the store's mounts.

    No rule matches such owners. Print nothing if some policies are not known.
    """
    unknown = set(owners) - known.names - {OWNER_NONE}
    if unknown and known.mounts and not known.silent:
        _warn(f"no policy of a mount of this store has these owners: {listed(unknown)}")


def _warn(text: str) -> None:
    print(f"policyfs: warning: {text}", file=sys.stderr)
