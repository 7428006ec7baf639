"""`policyfs tighten`: from what apps did in the last days to a policy that allows them less."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import finish, holes_of, open_trail
from policyfs.cli.common.as_owner import on_file
from policyfs.cli.common.live_mounts import part
from policyfs.cli.common.output import new_file, replace_file
from policyfs.cli.common.policy_files import read_sources, read_tests
from policyfs.cli.common.quantities import count
from policyfs.cli.machine.running_containers import running
from policyfs.cli.policy.cases import beside, outcome_of_texts
from policyfs.cli.policy.diff import compared
from policyfs.cli.policy.narrower import Narrower, with_refusals
from policyfs.cli.policy.recorded_requests import RecordedRequests
from policyfs.cli.policy.recorded_use import DAY_NS, Period, read_use
from policyfs.cli.running.manage import UnmountedKeepsError, reload_lines
from policyfs.cli.setup.programs import own_paths, profile_of
from policyfs.cli.setup.questions import Questions
from policyfs.cli.site.as_before import DAYS
from policyfs.cli.site.site import State, look, place_of, trail_of
from policyfs.cli.site.site_document import Site, label, read_site
from policyfs.daemon.control import control
from policyfs.domain import Op
from policyfs.errors import EXIT_INCOMPLETE, EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.journal.writing.recorders import recorder_id
from policyfs.policy.analysis.diff_text import Report, Side
from policyfs.policy.decide import compile_policy
from policyfs.policy.errors import words_of
from policyfs.policy.learn.unused import CHANGES, FILES, Directory, Taking, Unused
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown, words
from policyfs.trail.query.selection import Selection, option
from policyfs.trail.query.terms import Clock

_TOPS: Final = 40
"""The limit of directories at the top of a store up to which rules are proposed for each of them."""
_TURNS: Final = 20
"""The number of daemons of one mount, at the same time, whose trails are looked for."""

_Ask = Callable[[str], bool]
"""A function that asks the user a question."""


class _Trail(NamedTuple):
    """The trails of a site's mounts, and what they show. wanted: the events that count."""

    trail: IndexedTrail
    wanted: Selection
    used: Unused
    period: Period


def add_tighten(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows what each app of SITE did in the last days, and proposes to take away rights that it did not"
        " use. Nothing is proposed under which something that was done would be refused. After a yes, adds"
        " the rules to the policy, changes its tests, and loads it into the mounts. Keeps the old files."
    )
    add = parser.add_argument
    add("--days", type=count, default=DAYS, metavar="N", help=f"how many days count ({DAYS})")
    add("--yes", action="store_true", help="take away all that is proposed")
    add("site", metavar="SITE.yaml")


def run_tighten(args: argparse.Namespace) -> int:
    """Ask what to take away, and put the narrower policy in force. Return 5 if the trail is not
    whole, 1 if it does not show all moves."""
    site = read_site(args.site)
    own = os.path.realpath(site.policy)  # now: its directory may be a user's, who can exchange it later
    policy = Narrower(own, read_sources(own))
    live = dict(_live(site, policy.engine.digest))
    seen = _seen(site, policy, args)
    if seen.period.lost or holes_of(seen.trail, seen.wanted):
        print("nothing is proposed, because records of these days are missing: see policyfs audit verify")
        return finish(seen.trail, EXIT_INCOMPLETE, seen.wanted)
    free = {app.name for app in policy.engine.policy.apps if app.moves_freely}
    if unclear := ", ".join(sorted(seen.period.moves - free)):
        print(f"nothing is proposed, because the trail counts moves by {unclear} without their paths")
        return EXIT_REFUSED
    _tell_days(site, seen, args.days)
    requests = RecordedRequests(seen.trail, seen.wanted)
    proposed = policy.settled(list(_proposed(policy, seen)), requests)
    ask = _yes if args.yes else _asked
    chosen = list(_chosen(policy, proposed, seen, ask))
    left = policy.settled(chosen, requests) if chosen != proposed else chosen
    for one in chosen:
        if one not in left:
            told = "without the others, a move that was made would be refused"
            print(f"{one.app} keeps {_what(one, seen)}: {told}")
    if left:
        _change(policy, live, left, seen, ask)
    else:
        print("nothing is changed" if proposed else "there is nothing to take away")
    return EXIT_OK


def _live(site: Site, digest: str) -> Iterator[tuple[str, str]]:
    """Yield the mountpoint and the name of each mount that is up. Raises PolicyfsError if one has another
    policy in force than its file has now."""
    for mount in site.mounts:
        seen = look(site, mount)
        if seen.state not in {State.UP, State.CHANGED}:
            continue
        policy, at = part(seen.status, "policy"), place_of(mount)
        file = os.path.realpath(str(policy.get("file")))
        if policy.get("digest") != digest or file != os.path.realpath(site.policy):
            raise PolicyfsError(
                f"{label(mount)} has another policy in force than {site.policy} has now: first run"
                f" {words('policyfs', 'policy', 'apply', at)}"
            )
        yield at, label(mount)


def _seen(site: Site, policy: Narrower, args: argparse.Namespace) -> _Trail:
    """Read the trails of the site's mounts. Raises PolicyfsError if there are none."""
    names = {
        recorder_id(control.mount_id(place_of(mount)), turn)
        for mount in site.mounts
        for turn in range(1, _TURNS + 1)
    }
    args.trail = trail_of(site)
    trail = open_trail(args)
    trail.chains = [one for one in trail.chains if one.name in names]
    trail.holes = {name: holes for name, holes in trail.holes.items() if name in names}
    if not trail.chains:
        raise PolicyfsError(f"{args.trail} has no trail of {site.file}: use its mounts for some days first")
    clock = Clock(datetime.now(UTC))
    wanted, before = (Selection(option(one, [f"{args.days}d"]), clock) for one in ("since", "until"))
    used = Unused(policy.engine.policy, _tops(site.store))
    for app, directory in _own(site):
        used.add_below(app, os.fsencode(directory), CHANGES)
    return _Trail(trail, wanted, used, read_use(trail, wanted, before, used))


def _own(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the apps and directories in which known programs keep files of their own, or work with all: there
    they write by their nature, also if they did not write lately."""
    containers = running(stopped=True) if any(mount.container for mount in site.mounts) else ()
    for mount in site.mounts:
        images = [one.image for one in containers if {one.name, one.service} & set(mount.container)]
        found = (profile_of(image, unit) for image, unit in product(["", *images], ["", *mount.service]))
        for profile in filter(None, found):
            targets = {target: one.path for target, one in mount.targets.items()}
            own = ["/"] if profile.others.not_asked else own_paths(profile, targets)
            yield from ((label(mount), path) for path in own)


def _tops(store: str) -> list[str]:
    """Return the directories at the top of a store; none if there are many, such as albums."""
    try:
        with os.scandir(store) as entries:
            found = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
            return found if len(found) <= _TOPS else []
    except OSError as error:
        raise PolicyfsError(f"cannot read {store}: {error.strerror}") from error


def _tell_days(site: Site, seen: _Trail, days: int) -> None:
    since_ns = seen.wanted.since_ns or 0
    print(f"{shown(site.name)}: what was done from {_date(since_ns)} to {_date(time.time_ns())}")
    begins = {label(one): seen.period.first_ns.get(control.mount_id(place_of(one)), 0) for one in site.mounts}
    late = [f"{name} since {_date(at)}" for name, at in begins.items() if at > since_ns + DAY_NS // 2]
    if late:
        print(f"WARNING: not all of these {days} days are on record ({', '.join(late)}); better wait")


def _date(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000).astimezone().strftime("%Y-%m-%d")


def _proposed(policy: Narrower, seen: _Trail) -> Iterator[Taking]:
    kept = KeptPolicies(seen.trail.chains)
    before = map(kept.policy, sorted(seen.period.digests - {policy.engine.digest}))
    engines = [policy.engine, *(compile_policy(one) for one in before if one is not None)]
    for app in policy.engine.policy.apps:
        if seen.period.days[app.name]:
            yield from seen.used.takings(app.name, engines)


def _chosen(policy: Narrower, proposed: Sequence[Taking], seen: _Trail, ask: _Ask) -> Iterator[Taking]:
    """Print what each app did. Yield the proposals that the user accepts."""
    for app in policy.engine.policy.apps:
        print(_told(app.name, seen))
        for one in proposed:
            if one.app == app.name and ask(f"  take away {_what(one, seen)}"):
                yield one


def _yes(question: str) -> bool:
    print(f"{question}? (y/N): yes")
    return True


def _asked(question: str) -> bool:
    try:
        return Questions(sys.stdout).ask(f"{question}? (y/N)").lower() in {"y", "yes"}
    except UsageError:  # the input has ended
        print()
        return False


def _told(app: str, seen: _Trail) -> str:
    done, days = seen.used.done[app], len(seen.period.days[app])
    refused = seen.used.refused(app, [()])
    told = f"; refused {_times(refused)}" if refused else ""
    if not days:
        return f"{app}: nothing {'allowed ' if refused else ''}on record{told}, so nothing is proposed"
    read = _files({one: activity.read for one, activity in done.items()})
    changed = _files({one: activity.changed for one, activity in done.items()})
    return f"{app} (on {days} day{'' if days == 1 else 's'}): read {read}; changed {changed}{told}"


def _files(found: Mapping[Directory, set[int]]) -> str:
    number = sum(map(len, found.values()))
    if not number:
        return "nothing"
    more = "more than " if any(len(files) >= FILES for files in found.values()) else ""
    files = f"{more}{number:,} file{'' if number == 1 else 's'}"
    return f"{files} in {_listed([one for one in sorted(found) if found[one]])}"


def _listed(directories: Sequence[Directory]) -> str:
    texts = [shown("/" + "/".join(one)) for one in directories]
    return ", ".join(texts) if len(texts) < 6 else f"{', '.join(texts[:4])} and {len(texts) - 4} more"


def _what(taking: Taking, seen: _Trail) -> str:
    refused = seen.used.refused(taking.app, taking.directories)
    unused = ", never opened or listed" if taking.ops & Op.READ else ""
    told = f", refused {_times(refused)}" if refused else unused
    return f"{words_of(taking.ops)} in {_listed(taking.directories)}{told}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _change(
    policy: Narrower, live: Mapping[str, str], takings: Sequence[Taking], seen: _Trail, ask: _Ask
) -> None:
    """Show the differences, and put the policy in force after a yes. Raises PolicyfsError."""
    today = _date(time.time_ns())
    comments = {one.app: f"policyfs tighten, {today}: {_told(one.app, seen)}." for one in takings}
    texts = policy.silenced(policy.texts(takings, comments))
    engine = policy.load(texts, takings)
    tests = _tests(policy, engine.policy)
    sides = Side(policy.path, policy.engine.policy), Side(policy.path, engine.policy)
    report = Report(compared(*sides, time.time_ns()), *sides, {})
    print(report.text())
    if report.open_count():
        raise PolicyfsError("the new policy would allow more; nothing is changed")
    if not ask("put this in force"):
        print("nothing is changed")
        return
    _put_in_force(policy, engine.digest, [*tests, *(one for one in texts if one not in policy.sources)], live)


def _tests(policy: Narrower, narrower: Policy) -> list[SourceText]:
    """Return the files of the policy's tests that the narrower policy needs. Raises PolicyfsError."""
    texts = read_tests(beside(Path(policy.path)))
    if not texts:
        return []
    if outcome_of_texts(policy.path, policy.engine.policy, texts).failed:
        command = words("policyfs", "policy", "test", policy.path)
        raise PolicyfsError(f"tests of the policy fail already, so nothing is changed: {command}")
    outcome = outcome_of_texts(policy.path, narrower, texts)
    found = [with_refusals(text, outcome) for text in texts]
    after = outcome_of_texts(policy.path, narrower, found)
    if after.failed:
        raise PolicyfsError(f"change these tests first, they would fail; nothing is changed\n{after.text()}")
    return [one for one in found if one not in texts]


def _put_in_force(policy: Narrower, digest: str, new: Sequence[SourceText], live: Mapping[str, str]) -> None:
    """Write files, keep the old ones beside them, and load the policy into the mounts. If a mount refuses it,
    restore the files."""
    old = {one.name: one.text for one in (*policy.sources, *read_tests(beside(Path(policy.path))))}
    stamp = datetime.now().astimezone().strftime("%Y%m%dT%H%M%S")
    kept = {one.name: f"{one.name}.{stamp}" for one in new if one.name in old}
    done: list[SourceText] = []
    try:
        for name, copy in kept.items():
            on_file(name, partial(_copied, os.path.basename(copy), old[name]))
        for one in new:
            on_file(one.name, partial(_written, one.text, old.get(one.name)))
            done.append(one)
        for at, name in live.items():
            for line in reload_lines(at, "reload", live=policy.engine.digest, expected=digest):
                print(f"{shown(name)}: {line}")
    except (UnmountedKeepsError, control.LateError):  # it is in force, or may be later
        raise
    except (OSError, PolicyfsError) as error:
        for one in done:
            on_file(one.name, partial(_restored, one.text, old.get(one.name)))
        told = f"the files are as before; {words('policyfs', 'reload', *live)} loads them" if live else ""
        raise PolicyfsError(f"{error}; {told or 'the files are as before'}") from error
    undo = [words("cp", copy, name) for name, copy in kept.items()]
    undo += [words("rm", one.name) for one in new if one.name not in kept]
    undo += [words("policyfs", "reload", *live)] if live else []
    print(f"undo: {' && '.join(undo)}")


def _copied(copy: str, text: bytes, name: str) -> None:
    _new(copy, text, stat.S_IMODE(os.stat(name, follow_symlinks=False).st_mode))


def _written(text: bytes, known: bytes | None, name: str) -> None:
    if known is None:
        _new(name, text, 0o600)
    else:
        replace_file(Path(name), text, known=known)


def _new(name: str, text: bytes, mode: int) -> None:
    with new_file(name, mode) as fd, open(fd, "wb", closefd=False) as file:
        file.write(text)


def _restored(text: bytes, old: bytes | None, name: str) -> None:
    if old is None:
        Path(name).unlink(missing_ok=True)
    else:
        replace_file(Path(name), old, known=text)
