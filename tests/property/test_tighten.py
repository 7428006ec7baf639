"""`policyfs tighten` on random days of requests under random policies, recorded under a simulated clock.

What it proposes refuses nothing that was done, and only takes rights away.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from policyfs.policy.analysis.diff import diff
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.property.test_policy_engine import CASES
from tests.support.mount.daemons import policyfs
from tests.support.mount.weeks import Asked, a_site, answer, lists, makes, reads, record, removes, renames

SEEDS = range(22, 22 + max(6, CASES // 100))
APPS = ("a", "b", "c")
TOPS = ("Films", "Music", "Photos", "Odd *{name}")
DIRECTORIES = ("", "/Films", "/Music", "/Photos", "/Photos/anna", "/Odd *{name}")
PLACES = ("/***", "/Films/***", "/Music/***", "/Photos/***", "/Photos/anna/***", "/Photos/*.jpg", "/**/*.srt")
HEAD = "apiVersion: policyfs/v1\nkind: Policy\napps: {a: {}, b: {grants: [edit]}, c: {grants: [edit]}}\n"

pytestmark = pytest.mark.timeout(max(300, CASES // 10))


def a_policy(draw: random.Random) -> str:
    """A policy with hand-made rules of all sorts, or one in which apps may do nearly everything, but c."""
    head = HEAD.replace("b: {", "b: {moves: free, ") if draw.random() < 0.5 else HEAD
    if draw.random() < 0.5:
        ops = draw.choice(["see, create, delete", "see, write, create, delete"])
        of_c = f"  - {{id: s, allow: [{ops}], who: {{app: c}}}}\n"
        return f"{head}rules:\n  - {{id: r, allow: [all], who: {{app: [a, b]}}}}\n{of_c}"
    rules = []
    for number in range(draw.randint(2, 7)):
        some = draw.sample(["read", "write", "create", "delete", "attr"], 3)
        ops = ["all"] if draw.random() < 0.5 else ["see", *some]
        who = draw.choice(["app: a", "app: b", "app: [b, c]", "app: any", "grant: edit"])
        paths = ", ".join(f'"{one}"' for one in draw.sample(PLACES, draw.randint(1, 2)))
        more = draw.choice(["", "", "", ", when: {owner: self}", ", audit: off", ", audit: required"])
        effect = "deny" if draw.random() < 0.15 else "allow"
        what = f"id: r{number}, {effect}: [{', '.join(ops)}], who: {{{who}}}, paths: [{paths}]{more}"
        rules.append(f"  - {{{what}}}\n")
    if draw.random() < 0.3:
        rules.append("  - {id: no-place, require: {redact: [location]}, who: {app: [a, b]}}\n")
    return head + "rules:\n" + "".join(rules)


def some_days(draw: random.Random) -> list[Asked]:
    """Requests of the apps in some directories, each app with habits of its own."""
    found = []
    for app in APPS:
        places = draw.sample(DIRECTORIES, draw.randint(1, 4))
        verbs = draw.sample(["read", "make", "remove", "rename", "list", "chmod"], draw.randint(1, 4))
        for _ in range(draw.randint(0, 25)):
            day, top = draw.uniform(0.1, 6.9), draw.choice(places)
            path = f"{top}/{draw.choice('xyz')}.{draw.choice(['jpg', 'srt'])}"
            verb = draw.choice(verbs)
            if verb == "read":
                found.append(reads(app, path, day))
            elif verb == "make":
                found.append(makes(app, path, day))
            elif verb == "remove":
                found.append(removes(app, path, day))
            elif verb == "rename":
                found.append(renames(app, path, f"{draw.choice(places)}/new.jpg", day))
            elif verb == "list":
                found.append(lists(app, top or "/", day))
            else:
                found.append(Asked(day, app, "attr", "chmod", path))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_was_done_is_refused_and_rights_only_narrow(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    draw = random.Random(f"tighten {seed}")
    policies = [a_policy(draw) for _ in range(draw.choice([1, 1, 2]))]
    site = a_site(tmp_path, policies[-1], APPS, TOPS)
    requests = some_days(draw) or [lists("a", "/")]
    done = record(tmp_path, policies, requests)
    said = policyfs("tighten", "--yes", site)
    assert said.returncode == 0, said
    texts = policies[-1].encode(), (tmp_path / "home.yaml").read_bytes()
    old, new = ([SourceText("home.yaml", text)] for text in texts)
    assert not diff(parse_policy(old), parse_policy(new)).wider
    engines = [load_policy(text) for text in (old, new)]
    for one in done:
        before, after = (answer(engine, one).allowed for engine in engines)
        assert after or not before, (one, said)
    assert "nothing to take away" in policyfs("tighten", "--yes", site).stdout
