"""Programs that reach the stores of running mounts past the policy, less those that a site names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.cli.machine.past_mounts import Past, Seen, past, unseen_text
from policyfs.cli.site.own_units import is_own, known_sites
from policyfs.errors import PolicyfsError
from policyfs.linux.service_manager import is_journal
from policyfs.trail.lines.table import shown, word

if TYPE_CHECKING:
    from policyfs.cli.site.site_document import Site

_STDOUT: Final = 1


class Told(NamedTuple):
    """Texts on what reaches one store. unmeant: on what no site names; meant: on the others."""

    store: str
    unmeant: list[str]
    meant: list[str]


def told_of(stores: Iterable[str], files: Iterable[str] = ()) -> Iterator[Told]:
    """Look at each store. files: site files, besides those that are known on this machine. Sites are read
    only if something is found."""
    known: tuple[list[Site], list[str]] | None = None
    for store in stores:
        try:
            seen = past(store)
        except (OSError, PolicyfsError) as error:
            yield Told(store, [f"it is not known what reaches it: {error}"], [])
            continue
        if seen.found and known is None:
            known = _read(files)
        yield _told(store, seen, *(known or ([], [])))


def _told(store: str, seen: Seen, sites: list[Site], wrong: list[str]) -> Told:
    its = [site for site in sites if os.path.realpath(site.store) == os.path.realpath(store)]
    meant = {name for site in its for name in site.past}
    others = [one for one in seen.found if one.name not in meant and not is_own(one.name)]
    unmeant = [*(wrong if others else ()), *(_text(one, its) for one in others)]
    if any(seen.unseen):  # those of root only have more rights than this command, as outside of a container
        unmeant.append(f"{unseen_text(seen)}: run this command as root, with CAP_SYS_PTRACE")
    return Told(store, unmeant, [one.text for one in seen.found if one.name in meant])


def print_told(told: Iterable[Told]) -> bool:
    """Print what reaches stores; if output goes to the journal, as a notice. Return True if nothing does that
    is not meant to."""
    well = True
    journal = is_journal(_STDOUT)
    for one in told:
        for text in one.unmeant:
            well = False
            if journal:
                _notice(one.store, text)
            else:
                print(f"{shown(one.store)}: PAST THE POLICY: {text}")
        for text in () if journal else one.meant:
            print(f"{shown(one.store)}: past the policy, as its site says: {text}")
    return well


def _notice(store: str, text: str) -> None:
    from policyfs.daemon.log import Notice, configure  # only here: the import takes 40 ms

    log = configure(sys.stdout, as_json=False, of_journal=True)
    Notice.PAST_POLICY.tell(log, store=store, reason=text)


def _text(one: Past, its: Iterable[Site]) -> str:
    file = next((word(site.file) for site in its), "its site file")
    return f"{one.text}: {one.remedy}; if this is meant to be, write {one.line} in {file}"


def _read(files: Iterable[str]) -> tuple[list[Site], list[str]]:
    """Return the sites of files, and of this machine, and the errors of those that cannot be read."""
    from policyfs.cli.site.site_document import read_site

    found: list[Site] = []
    wrong: list[str] = []
    try:
        known = known_sites()
    except PolicyfsError as error:
        known, wrong = [], [str(error)]
    for file in sorted({*map(os.path.realpath, files), *known}):
        try:
            found.append(read_site(file))
        except PolicyfsError as error:
            wrong.append(f"it is not known what is meant to reach it: {error}")
    return found, wrong
