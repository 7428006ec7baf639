"""`policyfs init`: from a library and the programs that use it to a policy in force, with a way back."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.common.colour import columns, wanted
from policyfs.cli.common.policy_files import TEST_SUFFIX
from policyfs.cli.common.target_places import private_places
from policyfs.cli.machine.findings import State as FindingState
from policyfs.cli.machine.past_mounts import others_past
from policyfs.cli.machine.running_containers import Container, compose_files, past_policy, running
from policyfs.cli.machine.store_checks import check_closed
from policyfs.cli.policy.cases import outcome_of
from policyfs.cli.policy.matrix_text import text_of
from policyfs.cli.running.manage import reload_lines
from policyfs.cli.setup.access import Access, policy_text
from policyfs.cli.setup.access_tests import cases_text
from policyfs.cli.setup.compose_override import compose_command, files_of, is_old_compose, place_for
from policyfs.cli.setup.library_users import (
    User,
    is_there,
    likely_library,
    likely_units,
    of_compose,
    of_others,
    of_unit,
    plain_name,
    site_text,
)
from policyfs.cli.setup.made_files import (
    LIST,
    Override,
    check_absent,
    files_in,
    has_systemd,
    own_files,
    rewrite,
    systemctl,
    undo,
    write_all,
)
from policyfs.cli.setup.more_users import change_of, find_site
from policyfs.cli.setup.programs import asked
from policyfs.cli.setup.quadlets import past_quadlets
from policyfs.cli.setup.questions import Questions
from policyfs.cli.site.as_before import told_of
from policyfs.cli.site.compose_document import ComposeFile, read_compose
from policyfs.cli.site.compose_project import NAMES
from policyfs.cli.site.own_units import UNITS, maker
from policyfs.cli.site.site import State, look, place_of, run_up
from policyfs.cli.site.site_document import Site, Target, site_of
from policyfs.cli.site.site_units import compose_file, write_units
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.linux.interpreter import own_program
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.matrix import matrix
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown, word, words

_QUESTIONS: Final = 1000
"""More than there are: an empty answer takes the proposal."""
_YES: Final = frozenset({"y", "yes"})
_FILES: Final = "files"
_WORD: Final = "as before"


def add_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Finds the services and running containers that use a library, and gives each a mount in which it may"
        " do what it may do now: writes policy, tests, site file and volumes for the containers, and mounts,"
        " after a yes. Overwrites nothing. Once more, it adds what is new."
    )
    add = parser.add_argument
    add("--compose", metavar="FILE", help="compose file (default: in this directory, or of containers)")
    add("--to", default="/etc/policyfs", metavar="DIR", help="write into DIR (/etc/policyfs)")
    add("--yes", action="store_true", help="take all proposed answers; mount")
    add("--undo", metavar=f"NAME{LIST}", help="unmount and remove all that this command has made")
    add("store", nargs="?", metavar="STORE", help="the directory with your files")


def run_init(args: argparse.Namespace) -> int:
    """Find the users of a library, show what each gets, and write and mount it after a yes; or undo it."""
    if args.undo is not None:
        return undo(args.undo)
    if os.geteuid() != 0:
        raise PolicyfsError("mounts need root: sudo policyfs init")
    questions = Questions(io.StringIO(), io.StringIO("\n" * _QUESTIONS)) if args.yes else Questions()
    containers, to = running(), os.path.realpath(args.to)
    compose = _compose(args.compose, containers, args.store, own_files(to))
    store = args.store or questions.ask(
        "Which directory is the library", likely_library(compose) if compose else ""
    )
    store = os.path.realpath(store)
    if not os.path.isdir(store):
        raise PolicyfsError(f"{store} is no directory: name the directory with your files")
    before = find_site(to, store)
    users = list(_users(questions, compose, store, containers, before.past if before else ()))
    if before is not None and not _is_undone(before, users, questions):
        return _add(before, users, compose, questions)
    name = _free_name(store, to)
    policy, tests, file, listed = (
        os.path.join(to, f"{name}{suffix}") for suffix in (".yaml", TEST_SUFFIX, ".site.yaml", LIST)
    )
    check_absent((policy, tests, file), listed)
    _ask(questions, users)
    accesses = [user.access() for user in users]
    text = site_text(name, store, policy, users)
    site = site_of(file, text.encode())
    rules = policy_text(accesses, name=name, file=word(policy), store=word(store), site=word(file))
    engine = load_policy([SourceText(policy, rules.encode())])
    files = {policy: rules, tests: cases_text(accesses, word(policy)), file: text}
    override = None
    if compose and any(user.container for user in users):
        override = Override(compose.path, place_for(compose.path, name))
        files[override.place.path] = compose_file(site, is_old=is_old_compose())
    if not any(one.adds or one.hide_places for one in accesses):  # else a table of many conditions
        print(text_of(matrix(engine.policy), columns(), colours=wanted(sys.stdout)))
    _tell(users, files, override)
    if not (answer := _answer(questions)):
        return EXIT_OK
    write_all(files, listed, override)
    outcome = outcome_of(policy, [Path(tests)])
    if outcome.failed:
        raise PolicyfsError(outcome.text())
    print(f"undo: policyfs init --undo {word(listed)}")
    _end(site, _next(users, override), only_files=answer == _FILES)
    return EXIT_OK


def _is_undone(site: Site, users: Sequence[User], questions: Questions) -> bool:
    """Undo a site that an older version has made, if the user says so. Raises PolicyfsError if the user has
    changed files of it."""
    listed = site.file.removesuffix(".site.yaml") + LIST
    old = {name for mount in site.mounts if not mount.targets for name in mount.users}
    names = [name for user in users if (name := user.unit or user.container) in old]
    if not names or not os.path.exists(listed):
        return False
    told = f"An older version has given {', '.join(names)} other paths and rights than before. Undo that"
    if questions.ask(f"{told} ({_WORD}; no)", "no").lower() != _WORD:
        return False
    if undo(listed):
        raise PolicyfsError("move the files that were kept, and call this command again")
    return True


def _add(site: Site, users: Sequence[User], compose: ComposeFile | None, questions: Questions) -> int:
    listed = site.file.removesuffix(".site.yaml") + LIST
    known = {name for mount in site.mounts for name in mount.users}
    _ask(questions, [user for user in users if not known & {user.unit, user.container}])
    change = change_of(site, users)
    if not change.users:
        print(f"nothing is new for {shown(site.file)}")
        print(told_of(site))
        return EXIT_OK
    files, override = dict(change.files), None
    site = site_of(site.file, files[site.file].encode())
    if own := [path for path in files_in(listed) if path.endswith(".yml")]:
        files[own[0]] = compose_file(site, is_old=is_old_compose())
    elif compose and any(user.container for user in change.users):
        override = Override(compose.path, place_for(compose.path, site.name))
        files[override.place.path] = compose_file(site, is_old=is_old_compose())
    _tell(change.users, files, override)
    if answer := _answer(questions):
        rewrite(files, listed, override)
        _end(site, _next(change.users, override, own), only_files=answer == _FILES, is_more=True)
    return EXIT_OK


def _ask(questions: Questions, users: Sequence[User]) -> None:
    for user in users:
        targets = {target: one.path for target, one in user.targets.items()}
        user.narrowed = asked(questions, user.access(), user.image, user.unit, targets)


def _answer(questions: Questions) -> str:
    answer = questions.ask("Write this and mount (yes; files: only write; no)", "yes").lower()
    if answer in {*_YES, _FILES}:
        return answer
    print("nothing was written")
    return ""


def _end(site: Site, left: Iterable[str], *, only_files: bool, is_more: bool = False) -> None:
    """Mount, and print what is left to do. is_more: True if mounts of the site may be up."""
    if only_files:
        print(f"next: policyfs up {word(site.file)}")
    else:
        if is_more:  # before new targets are bound: the rules in force do not show them yet
            for mount in (one for one in site.mounts if look(site, one).state in {State.UP, State.CHANGED}):
                print(*reload_lines(place_of(mount), "reload"), sep="\n")
        _mount(site)
    for told in left:
        print(told)
    closed = check_closed(site.store)
    if closed.state is not FindingState.OK:
        print(f"note: {shown(closed.what)}. To close it, without an effect in mounts: {shown(closed.todo)}")
    print(told_of(site))


def _free_name(store: str, to: str) -> str:
    """Return a name for the site of a library that no other site of this machine has."""
    name = plain_name(os.path.basename(store)) or "library"
    number, found = 1, name
    while _is_taken(found, to):
        number += 1
        found = f"{name}-{number}"
    return found


def _is_taken(name: str, to: str) -> bool:
    file, target = os.path.join(to, f"{name}.site.yaml"), Path(UNITS, f"policyfs-{name}.target")
    others = target.exists() and maker(target) != file
    return others or os.path.exists(file) or os.path.exists(os.path.join(private_places(), name))


def _note(access: Access, target: Target) -> str:
    notes = ["read only"] if target.read_only else []
    if target.path in access.own and (access.hide_places or access.keep_others):
        notes.append("as before")
    return f" ({', '.join(notes)})" if notes else ""


def _tell(users: Sequence[User], files: dict[str, str], override: Override | None) -> None:
    for user in users:
        access = user.access()
        its = (f"{shown(at)}{_note(access, one)}" for at, one in user.targets.items())
        print(f"{shown(user.unit or user.container)}: {access.told}, at {', '.join(its)}")
    print("files: " + ", ".join(map(shown, files)))
    if override and override.place.edit:
        edit = override.place.edit
        print(f"in {shown(edit.path)}: {shown(edit.after)}{edit.before and f', now {shown(edit.before)}'}")


def _compose(
    path: str | None, containers: Sequence[Container], store: str | None, own: Sequence[str]
) -> ComposeFile | None:
    """Read the given compose file, that in this directory, or the containers'. Raises PolicyfsError. own: the
    files of this command, which are left out: so the file is as before."""
    name = path or next((name for name in NAMES if os.path.exists(name)), None)
    if name is not None:  # a user may exchange the directory later (cli/common/as_owner.py)
        name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    found = None if name is None else tuple(files_of(name))
    if found is None:
        files: dict[tuple[str, ...], list[str]] = {}
        for those, names in compose_files(containers, store and os.path.realpath(store)).items():
            files.setdefault(tuple(one for one in those if one not in own) or those, []).extend(names)
        told = [
            f"{shown(those[0])}, from which containers run: {', '.join(names)}"
            for those, names in files.items()
        ]
        if len(told) > 1:
            library = "" if store else ", or name the library"
            raise UsageError(f"choose one compose file with --compose{library}: {'; '.join(told)}")
        found = next(iter(files), None)
        if told:
            print(f"reading {told[0]}", file=sys.stderr)
    if not found:
        return None
    # The first file once more: without any other, those are found that Compose reads by itself.
    runs = next((one for one in containers if found[0] in one.files), None)
    others = [one for one in found if one not in own]
    if runs is None:
        return read_compose(found[0], variables=True, more=others)
    env_files = [*filter(os.path.isfile, runs.env_files)]
    return read_compose(found[0], variables=True, more=others, directory=runs.directory, env_files=env_files)


def _users(
    questions: Questions, compose: ComposeFile | None, store: str, containers: Sequence[Container],
    meant: Sequence[str],
) -> Iterator[User]:  # fmt: skip
    """Yield the programs that use the library. meant: names of those that the site lets pass its mounts.
    Raises PolicyfsError if there are none."""
    users = []
    for told in compose.unread if compose else ():
        print(f"note: {told}", file=sys.stderr)
    for user in of_compose(compose, store) if compose else ():
        if isinstance(user, User):
            users.append(user)
        else:
            print(f"note: {shown(user)}", file=sys.stderr)
    served = {user.container for user in users}
    unmeant = [one for one in containers if one.name not in meant]
    notes = [shown(text) for text in of_others(compose, store, users)] if compose else []
    notes += past_policy(unmeant, compose.path if compose else "", served, store)
    for text in (*notes, *past_quadlets(store)):
        print(f"note: {text}", file=sys.stderr)
    units = likely_units()
    if units or not users:
        text = questions.ask("Which services of systemd use it (names; - for none)", ", ".join(units) or "-")
        names = [name for name in re.split(r"[,\s]+", text) if name.lower() not in {"", "-", "no", "none"}]
        for unit in (of_unit(f"{name.removesuffix('.service')}.service", store) for name in names):
            if not is_there(unit.unit):
                print(f"note: {shown(unit.unit)} is not on this machine: a typing error?", file=sys.stderr)
            if unit.shares:
                users.append(unit)
            else:
                told = f"{shown(unit.unit)} cannot enter {shown(store)}: it gets nothing"
                print(f"note: {told}", file=sys.stderr)
    known = {*meant, *(one.name for one in containers), *(user.unit for user in users)}
    for text in others_past(store, known):
        print(f"note: {text}", file=sys.stderr)
    for at, user in enumerate(users):  # a container and a service can have one name
        while any(user.name == other.name for other in users[:at]):
            user.name += "-2"
    if not users:
        raise UsageError(
            f"no service or container uses {store}: name the file of the containers with --compose;"
            " docs/tutorial has a policy for users"
        )
    yield from users


def _next(users: Sequence[User], override: Override | None, own: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for each thing that the user must do for the programs to have their mounts. own: the
    second compose file, if it was there already."""
    compose = compose_command()
    for user in users:
        if user.bound:
            told = f"its unit binds {', '.join(map(shown, user.bound))} itself, and systemd takes this first"
            yield f"next: remove these lines by systemctl edit --full {word(user.unit)}: {told}"
    if units := [user.unit for user in users if user.unit]:
        yield f"next: {words('systemctl', 'restart', *units)}"
    if own or (override and override.place.is_read):
        path = own[0] if own else override.place.path if override else ""
        yield f"next: cd {word(os.path.dirname(path))} && {compose} up -d"
    elif override:
        both = f"{compose} -f {word(override.compose)} -f {word(override.place.path)}"
        yield f"next, and from now on with both files: {both} up -d"


def _mount(site: Site) -> None:
    """Mount all: by systemd if it runs this machine, and otherwise now, until the next boot."""
    if has_systemd():
        write_units(site, Path(UNITS), own_program())
        run_up(argparse.Namespace(site=site.file, restart=False, places=True))
        systemctl("daemon-reload")
        systemctl("enable", "--now", site.target)
        run_up(argparse.Namespace(site=site.file, restart=False, places=False))  # new targets
    else:
        run_up(argparse.Namespace(site=site.file, restart=False, places=False))
        print(f"no systemd here: at each start of the machine, policyfs up {word(site.file)}")
