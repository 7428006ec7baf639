"""`policyfs init`: from a library and the programs that use it to a policy in force, with a way back."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.common.colour import columns, wanted
from policyfs.cli.common.policy_files import TEST_SUFFIX
from policyfs.cli.machine.running_containers import Container, compose_files, past_policy, running
from policyfs.cli.policy.cases import outcome_of
from policyfs.cli.policy.init.draft import Draft, policy_text
from policyfs.cli.policy.init.draft_tests import cases_text
from policyfs.cli.policy.init.questions import Questions
from policyfs.cli.policy.init.survey import Directory, survey
from policyfs.cli.policy.init.wishes import check
from policyfs.cli.policy.matrix_text import text_of
from policyfs.cli.setup.library_users import (
    User,
    likely_library,
    likely_units,
    of_compose,
    of_unit,
    site_text,
)
from policyfs.cli.setup.made_files import LIST, check_absent, has_systemd, own, systemctl, undo, write_all
from policyfs.cli.site.compose_document import ComposeFile, read_compose
from policyfs.cli.site.own_units import UNITS
from policyfs.cli.site.site import run_up
from policyfs.cli.site.site_document import Site, site_of
from policyfs.cli.site.site_units import compose_file, write_units
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.linux.interpreter import own_program
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.matrix import matrix
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown, word, words

_COMPOSE: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_QUESTIONS: Final = 1000
"""More than there are: an empty answer takes the proposal."""
_YES: Final = frozenset({"y", "yes"})


def add_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Finds the services and running containers that use a library, asks what each may do, writes policy,"
        " tests, site file and volumes for the containers, and mounts after a yes. Overwrites nothing."
    )
    add = parser.add_argument
    add("--compose", metavar="FILE", help="compose file (default: in this directory, or of containers)")
    add("--to", default="/etc/policyfs", metavar="DIR", help="write into DIR (/etc/policyfs)")
    add("--yes", action="store_true", help="take all proposed answers; mount")
    add("--undo", metavar=f"NAME{LIST}", help="unmount and remove all that this command has made")
    add("store", nargs="?", metavar="STORE", help="the directory with your files")


def run_init(args: argparse.Namespace) -> int:
    """Ask, write the files, show the matrix, and mount after a yes; or undo all of it."""
    if args.undo is not None:
        return undo(args.undo)
    questions = Questions(io.StringIO(), io.StringIO("\n" * _QUESTIONS)) if args.yes else Questions()
    containers = running()
    compose = _compose(args.compose, containers, args.store)
    store = args.store or questions.ask(
        "Which directory is the library", likely_library(compose) if compose else ""
    )
    store = os.path.realpath(store)
    there = survey(store)
    if not there:
        raise PolicyfsError(f"{store} has no directories to share; make directories, such as Photos")
    name = re.sub(r"[^a-z0-9._-]", "-", os.path.basename(store).lower()).strip("._-")[:40] or "library"
    to = os.path.realpath(args.to)
    policy, tests, file, listed, merged = (
        os.path.join(to, f"{name}{suffix}")
        for suffix in (".yaml", TEST_SUFFIX, ".site.yaml", LIST, ".compose.yaml")
    )
    check_absent((policy, tests, file, merged), listed)
    users = list(_users(questions, compose, store, [one.name for one in there], containers))
    wishes = [user.wish() for user in users]
    for user, wish in zip(users, wishes, strict=True):
        questions.confirm(wish, user.tops)
    check(wishes)
    # Without kinds: no rule on content would fit what a sync job writes in parts.
    directories = [Directory(one.name, examples=one.examples) for one in there]
    draft = Draft(name, word(policy), word(store), wishes, directories, word(file))
    text = site_text(name, store, policy, users)
    site = site_of(file, text.encode())
    engine = load_policy([SourceText(policy, policy_text(draft).encode())])
    files = {policy: policy_text(draft), tests: cases_text(draft), file: text}
    services = [user for user in users if user.container]
    if services:
        kept = {user.container: user.kept for user in services}
        also = {user.container: list(user.moved)[1:] for user in services}
        files[merged] = compose_file(site, kept, also)
    write_all(files, listed)
    outcome = outcome_of(policy, [Path(tests)])
    if outcome.failed:
        raise PolicyfsError(outcome.text())
    print(text_of(matrix(engine.policy), columns(), colours=wanted(sys.stdout)))
    print("wrote " + ", ".join(map(shown, files)))
    print(f"undo: policyfs init --undo {word(listed)}")
    for told in _notes(users, compose, merged, site):
        print(told)
    try:
        wanted_now = questions.ask("Mount now", "yes").lower() in _YES
    except UsageError:  # the input has ended
        wanted_now = False
    _own_marks(store, users, listed, now=wanted_now)
    if wanted_now:
        _mount(site)
    else:
        print(f"next: policyfs up {word(file)}")
    return EXIT_OK


def _own_marks(store: str, users: Sequence[User], listed: str, *, now: bool) -> None:
    """Make programs the owners of the files that they write at each start. Otherwise print the commands."""
    for user in users:
        if user.marks and now:
            print(f"{shown(user.name)} owns these files, which it writes at each start:")
            own(store, user.name, user.marks, listed)
        elif user.marks:
            print(f"next: {words('policyfs', 'owner', 'set', store, user.name, *user.marks)}")


def _compose(path: str | None, containers: Sequence[Container], store: str | None) -> ComposeFile | None:
    """Read the given compose file, that in this directory, or the containers'. Raises PolicyfsError."""
    found = path or next((name for name in _COMPOSE if os.path.exists(name)), None)
    if found is None:
        files = compose_files(containers, store and os.path.realpath(store))
        told = [f"{shown(file)}, from which containers run: {', '.join(its)}" for file, its in files.items()]
        if len(told) > 1:
            library = "" if store else ", or name the library"
            raise UsageError(f"choose one compose file with --compose{library}: {'; '.join(told)}")
        found = next(iter(files), None)
        if told:
            print(f"reading {told[0]}", file=sys.stderr)
    return read_compose(found, variables=True) if found else None


def _users(
    questions: Questions, compose: ComposeFile | None, store: str, tops: Sequence[str],
    containers: Sequence[Container],
) -> Iterator[User]:  # fmt: skip
    """Yield the programs that use the library. Raises PolicyfsError if there are none."""
    users = []
    for user in of_compose(compose, store, tops) if compose else ():
        if isinstance(user, User):
            users.append(user)
        else:
            print(f"note: {shown(user)}", file=sys.stderr)
    served = {user.container for user in users}
    for text in past_policy(containers, compose.path if compose else "", served, store):
        print(f"note: {text}", file=sys.stderr)
    units = likely_units()
    if units or not users:
        text = questions.ask("Which services of systemd use it (names; - for none)", ", ".join(units) or "-")
        names = [name for name in re.split(r"[,\s]+", text) if name not in {"", "-"}]
        users += [of_unit(f"{name.removesuffix('.service')}.service", store, tops) for name in names]
    for at, user in enumerate(users):  # a container and a service can have one name
        while any(user.name == other.name for other in users[:at]):
            user.name += "-2"
    if not users:
        raise UsageError(
            f"no service or container uses {store}: name the file of the containers with --compose;"
            " `policyfs policy init` writes a policy for users"
        )
    yield from users


def _notes(users: Sequence[User], compose: ComposeFile | None, merged: str, site: Site) -> Iterator[str]:
    """Yield a line for each thing that the user must know, or do, for the mounts to be used and trusted."""
    for user in users:
        for before, now in user.moved.items():
            container, old, new = map(shown, (user.container, before, now))
            yield f"in {container}: {old} is {new} now; change the program's settings"
    if compose and any(user.container for user in users):
        both = f"docker compose -f {word(compose.path)} -f {word(merged)}"
        yield f"start the containers, after the mounts (Compose 2.24): {both} up -d"
        yield f"check them: {both} config | policyfs compose {word(site.file)} /dev/stdin"


def _mount(site: Site) -> None:
    """Mount all: by systemd if it runs this machine, and otherwise now, until the next boot."""
    if has_systemd():
        write_units(site, Path(UNITS), own_program())
        run_up(argparse.Namespace(site=site.file, restart=False, places=True))
        systemctl("daemon-reload")
        systemctl("enable", "--now", site.target)
    else:
        run_up(argparse.Namespace(site=site.file, restart=False, places=False))
        print(f"no systemd here: at each start of the machine, policyfs up {word(site.file)}")
