"""`policyfs policy who`: list the users, services and containers of this machine, each with its app."""

from __future__ import annotations

import argparse
import json
import pwd
from dataclasses import dataclass, field
from typing import Final

from policyfs.cli.common.colour import columns
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.processes import look
from policyfs.domain import WORKER_UIDS
from policyfs.errors import EXIT_OK
from policyfs.linux.running import Process, processes
from policyfs.linux.services import Service, services
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine
from policyfs.trail.lines.table import shown, table

_NAMED: Final = 4


@dataclass(slots=True)
class Person:
    """One uid, or a range of an app's. app: None if they belong to no app. user: the account's name."""

    app: str | None
    first: int
    last: int
    user: str = ""
    services: set[str] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)
    processes: int = 0

    def as_text(self) -> str:
        """Return a text about the services, containers and processes that run under this uid."""
        parts = [] if self.user else ["no account"] if not self.processes else []
        for names in (self.services, self.containers):
            parts += [shown(name) for name in sorted(names)[:_NAMED]]
            parts += [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
        if self.processes:
            parts.append(f"{self.processes} process{'' if self.processes == 1 else 'es'}")
        return ", ".join(parts)


class Machine:
    """The users, services and processes of a machine, by uid."""

    def __init__(
        self, accounts: list[pwd.struct_passwd], found: list[Service], running: list[Process]
    ) -> None:
        self._names: Final = {account.pw_uid: account.pw_name for account in reversed(accounts)}
        self._uids: Final = {account.pw_name: account.pw_uid for account in accounts}
        self._running: Final = running
        self._services: Final = found

    def dynamic(self) -> list[str]:
        """Return the services to which systemd gives a new uid at each start, and that do not run now."""
        live = {process.service for process in self._running}
        return [one.name for one in self._services if one.dynamic and one.name not in live]

    def people(self, engine: Engine) -> list[Person]:
        """Return the uids of this machine and of the policy's apps. First come the uids of apps, in the order
        of the policy. Then come the uids of strangers, in the order of the numbers."""
        known: dict[int, Person] = {}

        def person(uid: int) -> Person:
            if uid not in known:
                known[uid] = Person(engine.principal(uid).app, uid, uid, self._names.get(uid, ""))
            return known[uid]

        for uid in self._names:
            person(uid)
        for service in self._services:
            found = self._uid_of(service)
            if found is not None:
                person(found).services.add(service.name)
        for process in self._running:
            if process.uid in WORKER_UIDS:
                continue  # the uids of policyfs's own workers, which have no rights
            one = person(process.uid)
            one.processes += 1
            if process.service:
                one.services.add(process.service)
            if process.container:
                one.containers.add(process.container)
        spans = [
            Person(app.name, first, last)
            for app in engine.policy.apps
            for first, last in app.uids
            if not any(first <= uid <= last for uid in known)
        ]
        order = {app.name: at for at, app in enumerate(engine.policy.apps)}
        everyone = [*known.values(), *spans]
        return sorted(everyone, key=lambda one: (order.get(one.app or "", len(order)), one.first))

    def _uid_of(self, service: Service) -> int | None:
        if service.dynamic:
            return None
        user = service.user or "root"
        return int(user) if user.isascii() and user.isdigit() else self._uids.get(user)


def run_who(args: argparse.Namespace) -> int:
    """Print the users, services and containers of this machine, each with its app in the policy."""
    engine = load_policy(read_sources(args.policy))
    machine = Machine(pwd.getpwall(), services(), look(lambda: list(processes())))
    people = machine.people(engine)
    mounted = [app.name for app in engine.policy.apps if not app.uids]
    if args.json:
        print(json.dumps(_as_json(people, mounted, machine.dynamic()), indent=2))
        return EXIT_OK
    rows = [
        (one.app or "stranger", _uids(one), shown(one.user) or "-", one.as_text())
        for one in people
    ]  # fmt: skip
    rows += [(name, "-", "-", "no uid: the app needs its own mount (--app)") for name in mounted]
    head = ("APP", "UID", "USER", "FOUND AS")
    print("\n".join(table(head, rows, columns=columns(), flexible=3, right=frozenset({1}))))
    for name in machine.dynamic():
        print(
            f"{shown(name)} may get another uid at each start (DynamicUser=): write User= in its unit, or"
            " give the service its own mount"
        )
    return EXIT_OK


def _uids(one: Person) -> str:
    return str(one.first) if one.first == one.last else f"{one.first}-{one.last}"


def _as_json(people: list[Person], mounted: list[str], dynamic: list[str]) -> dict[str, object]:
    return {
        "uids": [
            {
                "app": one.app,
                "first": one.first,
                "last": one.last,
                "user": one.user or None,
                "services": sorted(one.services),
                "containers": sorted(one.containers),
                "processes": one.processes,
            }
            for one in people
        ],
        "apps_without_uid": mounted,
        "dynamic_services": dynamic,
    }


def add_who(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the uids of this machine's accounts, services (by their unit files) and processes, each"
        " with its app on a shared mount. A uid that no app has is a stranger."
    )
    parser.add_argument("policy", metavar="POLICY", help="a file, or a directory of *.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object")
