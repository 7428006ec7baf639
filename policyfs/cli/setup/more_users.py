"""`policyfs init` once more: programs and volumes that came later join a site, and all else stays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.policy_files import TEST_SUFFIX
from policyfs.cli.setup.access import Access, app_lines, rules_of
from policyfs.cli.setup.access_tests import cases_of
from policyfs.cli.setup.library_users import User, mount_lines, target_line
from policyfs.cli.site.site_document import Site, Target, read_site, site_of
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.text.parse import SourceText

_APP: Final = "  - app: {}"


class Change(NamedTuple):
    """New texts of a site's files. users: those that are new, or have new targets. files: texts by path."""

    users: list[User]
    files: dict[str, str]


def find_site(directory: str, store: str) -> Site | None:
    """Return the site of a library in a directory of site files, or None. Raises PolicyfsError."""
    for path in sorted(Path(directory).glob("*.site.yaml")):
        site = read_site(str(path))
        if os.path.realpath(site.store) == store:
            return site
    return None


def change_of(site: Site, users: Sequence[User]) -> Change:
    """Return what has to be added to the files of a site for its users. Raises PolicyfsError if a file has
    another form than `init` gives it: then the user has to write the lines."""
    texts = {"site": _read(site.file), "policy": _read(site.policy)}
    tests = str(Path(site.policy).with_suffix(TEST_SUFFIX))
    cases: list[str] = []
    found = []
    apps = {mount.app for mount in site.mounts}
    for user in users:
        its = [mount for mount in site.mounts if (user.unit or user.container) in mount.users]
        if any(not mount.targets for mount in its):  # as older versions made them: they have all
            continue
        have = {target: one for mount in its for target, one in mount.targets.items()}
        more = {target: one for target, one in user.targets.items() if target not in have}
        if not more:
            continue
        found.append(user)
        lines: Sequence[str]
        if its:
            user.name = str(its[0].app)
            texts["site"] = _after(texts["site"], [_APP.format(user.name), "    targets:"], _targets(more))
        else:
            while user.name in apps:
                user.name += "-2"
            apps.add(user.name)
            texts["site"] = _after(texts["site"], ["mounts:"], list(mount_lines(user)))
            lines = list(app_lines(user.access()))
            texts["policy"] = _after(texts["policy"], ["apps:"], lines)
        access = user.access()
        if its:  # a new volume is as the others that it has
            keeps = f"  - id: {user.name}.own\n" in texts["policy"]
            access = Access(user.name, _shares(more), keep_others=keeps)
        lines = list(rules_of(access))
        if its:
            lines, number = _renamed(lines, user.name, texts["policy"])
            cases += _renamed_cases(access, number)
        else:
            cases += cases_of(access)
        texts["policy"] = _after(texts["policy"], ["rules:"], lines)
    files = {site.file: texts["site"], site.policy: texts["policy"]} if found else {}
    if found:
        _check(site, files, found)
        if os.path.exists(tests):
            files[tests] = _after(_read(tests), ["tests:"], cases)
    return Change(found, files)


def _shares(targets: Mapping[str, Target]) -> dict[str, bool]:
    shares: dict[str, bool] = {}
    for one in targets.values():
        shares[one.path] = shares.get(one.path, False) or not one.read_only
    return shares


def _targets(targets: Mapping[str, Target]) -> list[str]:
    return [target_line(target, one) for target, one in targets.items()]


def _renamed(lines: Sequence[str], app: str, policy: str) -> tuple[list[str], int]:
    """Give the rules of a program ids that the policy does not have yet. Return also their number."""
    number = 2
    while re.search(rf"^  - id: {re.escape(app)}\.\w+-{number}$", policy, re.MULTILINE):
        number += 1
    return [f"{line}-{number}" if line.startswith("  - id: ") else line for line in lines], number


def _renamed_cases(access: Access, number: int) -> Iterator[str]:
    for line in cases_of(access):
        if "sees-nothing-else" in line:
            return
        yield f"{line}-{number}" if line.startswith("  - id: ") else line


def _after(text: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    """Insert lines after the first line that is the last of *heads*, looked for after those before it."""
    every = text.split("\n")
    at = -1
    for head in heads:
        try:
            at = next(number for number in range(at + 1, len(every)) if every[number].rstrip() == head)
        except StopIteration:
            told = "\n".join(lines)
            raise PolicyfsError(f"no line is {head!r}; nothing was written. Add by hand:\n{told}") from None
    return "\n".join([*every[: at + 1], *lines, *every[at + 1 :]])


def _check(site: Site, files: Mapping[str, str], users: Sequence[User]) -> None:
    """Raise PolicyfsError if the new texts do not say what they should, and keep all else."""
    new = site_of(site.file, files[site.file].encode())
    before = load_policy([SourceText(site.policy, _read(site.policy).encode())]).policy
    policy = load_policy([SourceText(site.policy, files[site.policy].encode())]).policy
    kept = {rule.id for rule in before.rules} <= {rule.id for rule in policy.rules}
    for user in users:
        have = {
            target: one
            for mount in new.mounts
            if (user.unit or user.container) in mount.users
            for target, one in mount.targets.items()
        }
        kept = kept and all(target in have for target in user.targets)
    if not kept:
        both = f"{site.file} or {site.policy}"
        raise PolicyfsError(f"{both} has another form than `init` writes: change it by hand")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PolicyfsError(f"cannot read {path}: {error}; it must be one file of text") from error
