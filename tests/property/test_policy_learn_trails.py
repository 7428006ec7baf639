"""`policy learn` on recorded trails: a proposal allows no request that was refused on its trail.

The real engine decides invented requests, whose facts the test knows (a trail does not), and the real journal
records the answers.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.cli.main import main
from policyfs.domain import Audit, Facts, FileType
from policyfs.journal.files.policy_texts import policy_text
from policyfs.policy.analysis.diff import diff
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine
from policyfs.policy.explain.explain import open_refusal
from policyfs.policy.replay.recorded import demand_of
from policyfs.policy.text.parse import SourceText
from tests.property.test_policy_diff import share
from tests.property.test_policy_engine import CASES, PARTS
from tests.support.mount.recorded import digest_of
from tests.support.mount.trail import Clock, a_journal, an_event

pytestmark = pytest.mark.timeout(max(600, CASES // 10))

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"
APPS = """\
apps:
  files: {uid: "1001-1005"}
  gallery: {uid: [2001, 2002]}
  maps: {uid: 3001}
  camera: {uid: 4001, grants: [manage]}
rules:
"""
UIDS = [*range(1001, 1006), 2001, 2002, 3001, 4001, 9001, 9002]
CALLS = [
    ("open", "open(O_RDONLY)"), ("open", "open(O_RDONLY)"), ("open", "open(O_RDONLY)"),
    ("open", "open(O_RDWR)"),
    ("list", "opendir"), ("lookup", "lookup"), ("create", "open(O_WRONLY|O_CREAT)"), ("mkdir", "mkdir"),
    ("attr", "chmod"), ("unlink", "unlink"),
]  # fmt: skip
HOMES = '  - {id: homes, allow: [all], who: {app: files}, paths: "/Home/{uid}/***"}\n'
SHARED = '  - {id: shared, allow: [see, read, create, write], who: {app: any}, paths: "/Shared/**"}\n'
PHOTOS = '  - {id: photos, allow: [see, read], who: {app: [gallery, maps]}, paths: "/Photos/**"}\n'
OF_2024 = PHOTOS.replace("/Photos/**", "/Photos/2024/**")
REDACTED = "  - {id: no-place, require: {redact: [location]}, who: {app: [gallery, maps]}}\n"
NO_MAPS = '  - {id: closed, deny: [all], who: {app: maps}, paths: "/Shared/***"}\n'
OWN = '  - {id: own, allow: [all], who: {app: camera}, paths: "/Photos/**", when: {owner: self}}\n'
TRAILS = {
    "homes": [HEAD + APPS + HOMES],
    "taken-away": [HEAD + APPS + PHOTOS + OWN + HOMES, HEAD + APPS + OF_2024 + OWN],
    "redacted": [HEAD + APPS + PHOTOS + REDACTED + SHARED + OWN],
    "denied": [
        HEAD + APPS + SHARED + NO_MAPS + PHOTOS,
        HEAD + "defaults: {audit: required}\n" + APPS + SHARED + NO_MAPS,
    ],
    "strangers": [
        HEAD + APPS.replace("[2001, 2002]", "2001") + PHOTOS + HOMES, HEAD + APPS + PHOTOS + HOMES + SHARED,
    ],
}  # fmt: skip


class Asked(NamedTuple):
    """A request, with the facts of its file."""

    uid: int
    operation: str
    syscall: str
    path: bytes
    kind: str
    owner: str


def invented(seed: str, count: int) -> Iterator[Asked]:
    """Requests of all users in homes, shared and own directories. A path has one kind and one owner."""
    draw = random.Random(seed)
    tops = [f"/Home/{uid}" for uid in UIDS[:5]] + ["/Shared", "/Shared/x"]
    tops += [f"/Photos/{year}" for year in (2022, 2023, 2024)]
    kinds = ["image/jpeg", "image/jpeg", "application/zip", "text/plain"]
    for _ in range(count):
        top = draw.choice(tops)
        path = f"{top}/{draw.choice('abcdefgh')}.{draw.choice(['jpg', 'jpg', 'txt'])}"
        call = draw.choice(CALLS)
        if call[0] == "list" or draw.random() < 0.1:
            path = draw.choice([top, "/Home", "/Photos", "/Shared"])
            call = CALLS[4 + draw.randrange(2)]
        of_path = random.Random(path)
        facts = of_path.choice(kinds), of_path.choice(["none", "camera", "files"])
        owner = int(path.split("/")[2]) if "/Home/" in path else 0
        home = draw.choice(UIDS[:5]) if draw.random() < 0.3 else owner
        uid = home or draw.choice(UIDS)
        yield Asked(uid, *call, path.encode(), *facts)


def once_made(requests: Iterable[Asked]) -> Iterator[Asked]:
    """The requests, without those after a creation of the path: the file would have another owner then."""
    made = set[bytes]()
    for one in requests:
        if one.path not in made:
            yield one
        made |= {one.path} if one.operation in {"create", "mkdir"} else set()


def allowed(engine: Engine, asked: Asked) -> tuple[bool, int, tuple[str, ...], str, str]:
    """The answer of a mount under this policy: allowed, errno, rules, app, view."""
    demand = demand_of(asked.operation, asked.syscall)
    assert demand is not None
    who, state = engine.principal(asked.uid), engine.state_of(asked.path)
    ftype = FileType.DIRECTORY if b"." not in asked.path else demand.types[0]
    kind = "inode/directory" if ftype is FileType.DIRECTORY else asked.kind
    facts = Facts(None, who.app or "none") if demand.creates else Facts(kind, asked.owner)
    decision = engine.decide(who, demand.ops[0], state, ftype, facts)
    rules = tuple(
        sorted(m.rule for m in decision.rules if not m.monitor and (decision.allowed or m.effect != "allow"))
    )
    app = who.app or "stranger"
    if demand.opens and not demand.creates and open_refusal(decision, kind) is not None:
        return False, 13, tuple(m.rule for m in decision.rules if m.effect == "redact"), app, ""
    view = engine.view(who, state).label if demand.opens and decision.allowed else ""
    return decision.allowed, decision.errno, rules, app, view


def record(root: Path, policies: list[str], asked: Iterable[Asked]) -> list[Asked]:
    """Record the answers to all requests, the policies in force one after the other. Return those refused."""
    requests, clock, refused = list(asked), Clock(), []
    share_of = -(-len(requests) // len(policies))
    with a_journal(root, clock) as journal:
        for number, text in enumerate(policies):
            digest, engine = digest_of(text), load_policy([SourceText("home.yaml", text.encode())])
            kept = policy_text(digest, [("home.yaml", text.encode())])
            told = {"policy": digest, "generation": number + 1, "options": {"app": None, "monitor": False}}
            journal.tell("policy" if number else "mount", told, policy=kept)
            for one in requests[number * share_of : (number + 1) * share_of]:
                clock.forward(1)
                may, errno, rules, app, view = allowed(engine, one)
                refused += [] if may else [one]
                event = an_event(
                    one.path, app=app, uid=one.uid, operation=one.operation, syscall=one.syscall, rules=rules,
                    decision="allow" if may else "deny", errno=errno, view=view, policy_digest=digest,
                    policy_generation=number + 1, time_ns=clock.now_ns, io="",
                    kind=one.kind if "no-place" in rules and one.operation == "open" else None,
                )  # fmt: skip
                journal.record(event, Audit.REQUIRED)
    return refused


def learn(root: Path, *options: str) -> tuple[int, str, str]:
    return command("learn", str(root), *options)


def command(*words: str) -> tuple[int, str, str]:
    """Run `policy` with these words. Return its exit code, and what it wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["policy", *words])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))


def wrong(proposal: str, refused: list[Asked]) -> list[Asked]:
    """The refused requests that a proposal allows."""
    engine = load_policy([SourceText("proposal", proposal.encode())])
    return [one for one in refused if allowed(engine, one)[0]]


class Learned(NamedTuple):
    """What came of a trail. end: the policy that was in force last; refused: the requests that it refused."""

    end: str
    refused: list[Asked]
    code: int
    proposal: str
    told: str


@pytest.fixture(scope="module", params=TRAILS)
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    root, name = tmp_path_factory.mktemp("learned") / "trail", request.param
    refused = record(root, TRAILS[name], invented(name, 800))
    return Learned(TRAILS[name][-1], refused, *learn(root))


def test_a_proposal_allows_nothing_that_was_refused(learned: Learned):
    assert len(learned.refused) > 200
    assert learned.code == 0
    assert "allow:" in learned.proposal, learned.told
    assert wrong(learned.proposal, learned.refused) == []
    assert ("WARNING" in learned.proposal) == ("WARNING" in learned.told)


@pytest.mark.parametrize("learned", ["homes"], indirect=True)
def test_users_of_an_app_get_their_own_directories(learned: Learned):
    assert '"/Home/{uid}/***"' in learned.proposal
    engine = load_policy([SourceText("proposal", learned.proposal.encode())])
    unseen = [Asked(uid, *CALLS[0], f"/Home/{home}/new.jpg".encode(), "image/jpeg", "none")
              for uid in UIDS[:5] for home in UIDS[:5]]  # fmt: skip
    assert [one for one in unseen if allowed(engine, one)[0]] == [
        one for one in unseen if str(one.uid) in one.path.decode()
    ]


def test_the_policy_at_the_end_bounds_a_proposal(learned: Learned):
    assert bounded(learned.end, learned.proposal) == ()
    assert "the proposal allows more than" not in learned.told


def bounded(end: str, proposal: str) -> tuple[object, ...]:
    """What a proposal allows that the policy at the end does not: the apps are those of that policy, too."""
    old, new = (load_policy([SourceText("x.yaml", text.encode())]).policy for text in (end, proposal))
    assert old.apps == new.apps
    return diff(old, new).wider


@st.composite
def rule_texts(draw: st.DrawFn, number: int) -> str:
    effect = draw(st.sampled_from(["allow", "allow", "allow", "deny"]))
    ops = draw(st.sampled_from(["all", "see, read", "see, read, create, write", "see", "read"]))
    callers = ["", ", who: {app: files}", ", who: {app: [gallery, maps]}", ", who: {uid: 1001}"]
    who = draw(st.sampled_from(callers))
    places = ["/Home/{uid}/***", "/Home/**", "/Shared/**", "/Shared/*.jpg"]
    path = draw(st.sampled_from([*places, "/Photos/2024/**", "/Photos/**/*.jpg"]))
    when = draw(st.sampled_from(["", "", ", when: {owner: self}", ", when: {type: image/jpeg}"]))
    when += draw(st.sampled_from(["", "", "", ", audit: required", ", audit: best_effort", ", audit: off"]))
    return f'  - {{id: r{number}, {effect}: [{ops}]{who}, paths: "{path}"{when}}}\n'


REQUIRED = [
    "", REDACTED, REDACTED.replace("}}}", "}, raw_types: [application/zip, text/plain]}"),
    "  - {id: private, require: {redact: location}, who: {not: {grant: manage}}, audit: off}\n",
    '  - {id: kinds, require: {content: image/*}, paths: "/Shared/**", on_refused: quarantine}\n',
    '  - {id: shares, require: {no: [location]}, unless: {path: "/Home/**"}, raw_types: [text/plain]}\n',
]  # fmt: skip
DEFAULTS = [
    "",
    *(f"defaults: {{{level}}}\n" for level in ("audit: off", "audit: required", "audit_denied: off")),
]


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    body = "".join(draw(rule_texts(number)) for number in range(draw(st.integers(1, 4))))
    return HEAD + draw(st.sampled_from(DEFAULTS)) + APPS + body + draw(st.sampled_from(REQUIRED))


@pytest.mark.parametrize("part", range(PARTS))
@share(0.008 / PARTS, fewest=4)
@given(st.lists(policy_texts(), min_size=1, max_size=2), st.integers(0, 1 << 30))
def test_no_proposal_allows_what_its_trail_shows_refused(part: int, policies: list[str], seed: int):
    del part
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "trail"
        asked = list(once_made(invented(str(seed), 100)))
        refused = record(root, policies, asked)
        code, proposal, told = learn(root)
        kept = [] if code else json.loads(learn(root, "--json")[1])["kept_back"]
        lost = Counter[tuple[str, str]]() if code else replay(root, proposal)
    assert code == 0 or "no request that a proposed rule could allow" in told
    if code:
        return
    assert wrong(proposal, refused) == []
    assert bounded(policies[-1], proposal) == ()
    assert "the proposal allows more than" not in told
    held = Counter[tuple[str, str]]()
    for one in kept:
        held[one["app"], one["operation"]] += one["requests"]
    assert lost <= held
    if len(policies) == 1 and "redact:" in policies[0]:
        assert taken_away(policies[0], proposal, asked) <= held


def replay(root: Path, proposal: str) -> Counter[tuple[str, str]]:
    """The recorded requests that a proposal certainly refuses: by app and operation."""
    new, found = root.parent / "new.yaml", Counter[tuple[str, str]]()
    new.write_text(proposal)
    for change in json.loads(command("replay", str(root), "--policy", str(new), "--json")[1])["changes"]:
        found[change["app"], change["operation"]] += change["count"] * (change["sort"] == "refused")
    return +found


def taken_away(old: str, new: str, asked: list[Asked]) -> Counter[tuple[str, str]]:
    """The requests that a policy allows, and the proposal does not: by app and operation."""
    engines = [load_policy([SourceText("x.yaml", text.encode())]) for text in (old, new)]
    found: Counter[tuple[str, str]] = Counter()
    for one in asked:
        before, after = (allowed(engine, one) for engine in engines)
        found[before[3], one.operation] += before[0] and not after[0]
    return +found
