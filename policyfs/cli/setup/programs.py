"""Profiles of known programs, and the questions by which a user gives a program less than it has now."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Final, NamedTuple

from pydantic import BaseModel
from ruamel.yaml import YAML

from policyfs.cli.setup.access import Access
from policyfs.cli.setup.questions import Questions

CLEANED: Final = frozenset({"ass", "sbv", "srt", "ssa", "xmp"})
"""Endings of sidecars that policyfs reads and cleans, so that nobody need have them as they are."""
_VARIABLE: Final = re.compile(r"\$(?:\{[^}]*\}|\w+)")


class Asked(BaseModel, frozen=True, extra="forbid"):
    """The texts of a question. reason: what the program does now; its subject is the name of the app. effect:
    what is lost. not_asked: why there is no question; the other two are empty."""

    reason: str = ""
    effect: str = ""
    not_asked: str = ""


class Profile(BaseModel, frozen=True, extra="forbid"):
    """A row of programs.yaml, which says what the fields mean."""

    program: str
    images: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    reads: str
    writes: str
    sidecars: tuple[str, ...] = ()
    places: Asked
    others: Asked
    brake: str = ""
    source: tuple[str, ...]
    version: str
    unverified: str = ""


class Question(NamedTuple):
    """A question about an app, to be answered with yes or no. effect: one line, why it is asked and what is
    lost. text: the question. proposed: the answer that leaves all as before. apply: returns the access after
    a yes."""

    effect: str
    text: str
    proposed: str
    apply: Callable[[Access], Access]


@functools.cache
def profiles() -> tuple[Profile, ...]:
    """Return the known programs."""
    text = files(__package__).joinpath("programs.yaml").read_text("utf-8")
    return tuple(Profile.model_validate(row) for row in YAML(typ="safe", pure=True).load(text))


def profile_of(image: str, unit: str) -> Profile | None:
    """Return the profile of a program, by the image of its container or by its systemd unit, or None.

    A registry, a tag, a digest and the name of a template's instance do not matter. An image of the same name
    by another author is not known.
    """
    found = _repository(image)
    unit = re.sub(r"@.*(?=\.service$)", "@", unit)
    for one in profiles():
        if unit in one.units or any(_is(found, known) for known in one.images):
            return one
    return None


def _repository(image: str) -> str:
    """Return the name of an image without its registry, tag and digest. Variables count as empty."""
    parts = _VARIABLE.sub("", image.partition("@")[0]).lstrip("/").split("/")
    if len(parts) > 1 and (re.search(r"[.:]", parts[0]) or parts[0] == "localhost"):
        del parts[0]
    parts[-1] = parts[-1].partition(":")[0]
    return "/".join(parts).removeprefix("library/")


def _is(repository: str, known: str) -> bool:
    return repository == known or ("/" in known and repository.endswith(f"/{known}"))


def own_paths(profile: Profile, targets: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths in the library at which a program keeps files of its own. targets: a dictionary from
    paths at which the program finds files to paths in the library."""
    for target, path in targets.items():
        for own in profile.own:
            if f"{target}/".startswith(f"{own}/"):
                yield path
            elif own.startswith(f"{target.rstrip('/')}/"):
                yield os.path.join(path, os.path.relpath(own, target))


def asked(questions: Questions, access: Access, image: str, unit: str, targets: Mapping[str, str]) -> Access:
    """Ask what a known program may lose, and return its access afterwards; of others the same access.

    image, unit: of its container and its systemd unit, or empty. targets: as in own_paths.
    """
    profile = profile_of(image, unit)
    if profile is None:
        return access
    own = tuple(own_paths(profile, targets))
    return narrowed(profile, replace(access, own=own), functools.partial(_is_yes, questions))


def _is_yes(questions: Questions, question: Question) -> bool:
    questions.say(question.effect)
    answer = ""
    while answer not in {"y", "yes", "n", "no"}:
        answer = questions.ask(question.text, question.proposed).lower()
    return answer in {"y", "yes"}


def narrowed(profile: Profile, access: Access, ask: Callable[[Question], bool]) -> Access:
    """Return the access of a known program after the user's answers. ask: returns True for a yes."""
    for make in (_others, _places, _texts, _brake):
        question = make(profile, access)
        if question is not None and ask(question):
            access = question.apply(access)
    return access


def _others(profile: Profile, access: Access) -> Question | None:
    if profile.others.not_asked or not replace(access, keep_others=True).adds:
        return None
    return Question(
        f"{access.app} {profile.others.reason}. After a yes {profile.others.effect}.",
        "Keep it from changing and deleting what is there now, and what others make",
        "no",
        lambda before: replace(before, keep_others=True),
    )


def _places(profile: Profile, access: Access) -> Question | None:
    hidden = replace(access, hide_places=True)
    if profile.places.not_asked or not (hidden.adds or hidden.reads):
        return None
    more = ""
    if hidden.adds and not access.adds:
        more = "; it keeps what others made, or it would write photos back without their places"
    return Question(
        f"{access.app} {profile.places.reason}. After a yes {profile.places.effect}; it cannot open what"
        f" policyfs cannot clean, such as archives{more}.",
        "Hide from it where photos and films of others were taken",
        "no",
        lambda before: replace(before, hide_places=True),
    )


def _brake(profile: Profile, access: Access) -> Question | None:
    if not profile.brake or set(access.changes) <= set(access.own):
        return None
    return Question(
        f"{access.app} {profile.brake}. After a yes it can change no more files then, until you let it go on"
        " (policyfs brake), and what it deletes or overwrites takes room for 30 days (policyfs undo).",
        "Stop it if it changes or deletes more than 200 files within 10 minutes, and keep what it loses",
        "no",
        lambda before: replace(before, brake=True),
    )


def _texts(profile: Profile, access: Access) -> Question | None:
    """Ask if the program, from which places are hidden, reads its texts as they are."""
    texts = tuple(ending for ending in profile.sidecars if ending not in CLEANED)
    if not access.hide_places or not texts:
        return None
    names = ", ".join(f".{ending}" for ending in texts)
    return Question(
        f"{access.app} also reads texts ({names}), which may name a place. After a no it cannot open them.",
        "Let it read these texts as they are, except those with coordinates",
        "yes",
        lambda before: replace(before, raw_texts=texts),
    )
