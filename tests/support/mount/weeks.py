"""Trails of a site's mounts, recorded by the real journal under a simulated clock that ends now."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from policyfs.daemon.control import control
from policyfs.domain import OWNER_NONE, Audit, Decision, Facts, FileType
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.writing.accounts import Limits
from policyfs.journal.writing.journal import Journal
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import End, Engine
from policyfs.policy.replay.recorded import demand_of
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.event import Event
from tests.support.mount.recorded import digest_of
from tests.support.mount.trail import ROOMY, Clock, an_event

DAY_S = 24 * 3600
_DAY_NS = DAY_S * 1_000_000_000
SITE = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: {place}/store
policy: {place}/home.yaml
trail: {place}/trail
mounts:
"""


class Asked(NamedTuple):
    """A request on some day before now. day: 1 for the last 24 hours."""

    day: float
    app: str
    operation: str
    syscall: str
    path: str
    new_path: str = ""


def a_site(place: Path, policy: str, apps: Iterable[str], tops: Iterable[str]) -> Path:
    """Write a site with a mount for each app, its policy, and a store. Return the site file."""
    for top in tops:
        (place / "store" / top).mkdir(parents=True, exist_ok=True)
    (place / "home.yaml").write_text(policy)
    mounts = "".join(f"  - {{app: {app}, at: {place}/at/{app}}}\n" for app in apps)
    (place / "home.site.yaml").write_text(SITE.format(place=place) + mounts)
    return place / "home.site.yaml"


def answer(engine: Engine, asked: Asked, owner: str = OWNER_NONE) -> Decision:
    """The answer of an app mount under a policy. owner: of the file."""
    if asked.operation == "release":
        return Decision(True, 0)
    demand = demand_of(asked.operation, asked.syscall)
    assert demand is not None
    who, state = engine.app_principal(asked.app, 0), engine.state_of(asked.path.encode())
    facts = Facts(None, asked.app if demand.creates else owner)
    if demand.move == "rename":
        new = engine.state_of(asked.new_path.encode())
        ends = [End(one, FileType.REGULAR, facts) for one in (state, new)]
        return engine.rename(who, *ends, None, exchange=False)
    ftype = demand.types[0]
    return engine.decide(who, demand.ops[0], state, ftype, facts)


def record(
    place: Path, policies: Sequence[str], requests: Iterable[Asked], *, limits: Limits = ROOMY,
    audit: Audit = Audit.REQUIRED, at: str = "{place}/at/{app}",
) -> list[Asked]:  # fmt: skip
    """Record the answers to requests on the trails of a_site(), the policies in force one after the other.
    at: the mountpoint of each app. Return the requests that were allowed."""
    every = sorted(requests, key=lambda one: -one.day)
    now_ns, done = time.time_ns(), []
    for app in dict.fromkeys(one.app for one in every):
        own = [one for one in every if one.app == app]
        clock = Clock(now_ns - round(max(one.day for one in every) * _DAY_NS) - 1_000_000_000)
        name = control.mount_id(at.format(place=place, app=app))
        journal = Journal(
            str(place / "trail" / name), name, keep=0, segment_bytes=1 << 20, clock_ns=clock, steady_ns=clock,
            limits=limits,
        )  # fmt: skip
        for number, text in enumerate(policies):
            digest, engine = digest_of(text), load_policy([SourceText("home.yaml", text.encode())])
            told = {"policy": digest, "generation": number + 1, "options": {"app": app, "monitor": False}}
            kept = policy_text(digest, [("home.yaml", text.encode())])
            journal.tell("policy" if number else "mount", told, policy=kept)
            share = -(-len(own) // len(policies))
            for one in own[number * share : (number + 1) * share]:
                clock.now_ns = max(clock.now_ns + 1, now_ns - round(one.day * _DAY_NS))
                decision = answer(engine, one)
                done += [one] if decision.allowed else []
                journal.record(_event(engine, one, decision, len(done), clock.now_ns), audit)
        journal.close()
    return done


def _event(engine: Engine, one: Asked, decision: Decision, handle: int, time_ns: int) -> Event:
    matches = [each for each in decision.rules if not each.monitor]
    rules = {each.rule for each in matches if decision.allowed or each.effect != "allow"}
    who, state = engine.app_principal(one.app, 0), engine.state_of(one.path.encode())
    opens = one.operation in {"open", "create"} and decision.allowed
    return an_event(
        one.path.encode(), app=one.app, uid=0, operation=one.operation, syscall=one.syscall,
        new_path=one.new_path.encode() or None, rules=tuple(sorted(rules)), errno=decision.errno,
        decision="allow" if decision.allowed else "deny", io="", time_ns=time_ns,
        view=engine.view(who, state).label if opens else "", policy_digest=engine.digest,
        handle=handle if opens else 1 if one.operation == "release" else None,
    )  # fmt: skip


def reads(app: str, path: str, day: float = 1.0) -> Asked:
    """An open for reading."""
    return Asked(day, app, "open", "open(O_RDONLY)", path)


def makes(app: str, path: str, day: float = 1.0) -> Asked:
    """A new file."""
    return Asked(day, app, "create", "open(O_WRONLY|O_CREAT)", path)


def lists(app: str, path: str, day: float = 1.0) -> Asked:
    """A listing of a directory."""
    return Asked(day, app, "list", "opendir", path)


def removes(app: str, path: str, day: float = 1.0) -> Asked:
    """A deletion of a file."""
    return Asked(day, app, "unlink", "unlink", path)


def renames(app: str, path: str, new_path: str, day: float = 1.0) -> Asked:
    """A rename of a file."""
    return Asked(day, app, "rename", "rename", path, new_path)


def a_week(draw: random.Random, days: int = 7) -> list[Asked]:
    """A week of three services of a home server: a player, a photo server and a sync job."""
    found = []
    for day in range(days):
        at = day + 0.5
        found += [lists("jellyfin", top, at) for top in ("/", "/Films", "/Music")]
        found += [reads("jellyfin", f"/Films/{n}/{n}.mkv", at) for n in draw.sample(range(400), 60)]
        found += [reads("jellyfin", f"/Music/{n}.flac", at) for n in draw.sample(range(4000), 300)]
        for n in draw.sample(range(10_000), 8):
            found += [makes("immich", f"/Photos/upload/{n}.jpg.part", at)]
            found += [renames("immich", f"/Photos/upload/{n}.jpg.part", f"/Photos/library/{n}.jpg", at)]
        found += [lists("immich", "/Photos", at)]
        found += [reads("immich", f"/Photos/library/{n}.jpg", at) for n in draw.sample(range(10_000), 200)]
        for n in draw.sample(range(500), 5):
            path = f"/Documents/{n}.odt"
            found += [makes("syncthing", path, at), removes("syncthing", path, at)]
        found += [lists("syncthing", top, at) for top in ("/Documents", "/Photos", "/Music", "/Films")]
        found += [reads("syncthing", f"/Photos/library/{n}.jpg", at) for n in draw.sample(range(10_000), 40)]
    return found
