"""Guards of ways in that are no write, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import policyfs.policy.rules.profile as profile_module
from policyfs.domain import Op
from policyfs.fs.checked.moved_file import Named, Settled
from policyfs.fs.namespace.rename import Renamer
from policyfs.fs.namespace.xattr import AttributeBans
from policyfs.policy.decide import Engine
from policyfs.policy.rules.profile import Profile
from tests.attack.guards import put


def writers_only() -> None:
    """Content requirements wait for an allow of write: who may only create is asked nothing."""
    put(profile_module, "_FILL", int(Op.WRITE))


def dry_run_of_content() -> None:
    """Under --monitor, content requirements are for those who have a right to write, and for nobody else."""
    made = Profile.__init__

    def strict(self: Profile, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **(options | {"lenient": False}))

    put(Profile, "__init__", strict)


def attributes_anywhere() -> None:
    """Extended attributes are set where nothing may be told, and come with what is moved there."""
    put(AttributeBans, "check", lambda self, *arguments: None)
    put(Settled, "_brings_attributes", lambda self: False)


def moved_for_the_mover() -> None:
    """What is moved is looked at only for the app that moves it."""

    def asks_more(self: Engine, old: Any, new: Any) -> bool:
        del self, old, new
        return False

    put(Engine, "asks_more", asks_more)


def other_names() -> None:
    """What moves to where more is asked may have another name where it was."""
    put(Named, "holds", lambda self: True)
    put(Renamer, "_lets_in", lambda self, who, old, new: False)


WAYS_IN: Final[dict[str, Callable[[], None]]] = {
    "writers-only": writers_only,
    "dry-run-of-content": dry_run_of_content,
    "attributes-anywhere": attributes_anywhere,
    "moved-for-the-mover": moved_for_the_mover,
    "other-names": other_names,
}
