"""The policy of a new site, by what the engine decides. Every policy here passes check and lint."""

from __future__ import annotations

from policyfs.cli.setup.access import Access, policy_text
from policyfs.domain import Decision, Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.lint.lint import lint
from policyfs.policy.text.parse import SourceText

_CHANGE = (Op.WRITE, Op.CREATE, Op.DELETE, Op.ATTR)
_ALL = (Op.SEE, Op.READ, *_CHANGE)
_PLACE = frozenset({"location"})


class Policy:
    """The engine with the policy of some accesses."""

    def __init__(self, *accesses: Access) -> None:
        text = policy_text(accesses, name="home", file="home.yaml", store="/srv", site="home.site.yaml")
        sources = [SourceText("home.yaml", text.encode())]
        self.engine = load_policy(sources)
        assert not lint(self.engine, sources, at_ns=0).findings, text

    def decide(
        self, app: str, op: Op, path: str, owner: str = "none", kind: str | None = "image/jpeg"
    ) -> Decision:
        """Return the decision about one operation."""
        who = self.engine.app_principal(app, 1000)
        state = self.engine.state_of(path.encode())
        return self.engine.decide(who, op, state, FileType.REGULAR, Facts(kind, owner))

    def may(self, app: str, path: str, owner: str = "none") -> set[Op]:
        """Return the operations that the app may do."""
        return {op for op in _ALL if self.decide(app, op, path, owner).allowed}

    def hides(self, app: str, path: str, owner: str = "none", kind: str | None = "image/jpeg") -> bool:
        """Return True if places are hidden from the app when it reads the file."""
        return self.decide(app, Op.READ, path, owner, kind).redact == _PLACE


def test_programs_have_what_their_volumes_gave() -> None:
    policy = Policy(
        Access("sonarr", {"/TV": True, "/in*": True, "/photos/anna": False}),
        Access("backup", {"/": False}),
        Access("both", {"/": True, "/TV": False}),
    )
    assert policy.may("sonarr", "/TV/a") == policy.may("sonarr", "/in*/a") == set(_ALL)
    assert policy.may("sonarr", "/photos/anna/a") == {Op.SEE, Op.READ}
    assert policy.may("sonarr", "/photos/ben/a") == policy.may("sonarr", "/inx/a") == set()
    assert policy.may("backup", "/any/a") == {Op.SEE, Op.READ}
    assert policy.may("both", "/TV/a") == set(_ALL)  # its mount of /TV is read-only
    for app in ("sonarr", "backup", "both"):
        assert not policy.hides(app, "/TV/a") and not policy.hides(app, "/photos/anna/a")


def test_a_program_that_keeps_others_changes_only_what_it_made() -> None:
    policy = Policy(Access("jellyfin", {"/Films": True, "/Music": False}, keep_others=True))
    for owner in ("none", "other"):
        assert policy.may("jellyfin", "/Films/a", owner) - {Op.CREATE} == {Op.SEE, Op.READ}
    assert policy.may("jellyfin", "/Films/a", "jellyfin") == set(_ALL)
    assert policy.may("jellyfin", "/Music/a", "jellyfin") == {Op.SEE, Op.READ}
    assert not policy.hides("jellyfin", "/Films/a")


def test_a_program_without_places_changes_no_files_of_others() -> None:
    """It would write them back without their places."""
    policy = Policy(Access("jellyfin", {"/": True}, hide_places=True))
    assert policy.may("jellyfin", "/a") - {Op.CREATE} == {Op.SEE, Op.READ}
    assert policy.hides("jellyfin", "/a") and policy.hides("jellyfin", "/a", kind=None)
    assert not policy.hides("jellyfin", "/a", "jellyfin")
    policy = Policy(Access("plex", {"/": False}, hide_places=True))
    assert policy.hides("plex", "/a", "plex")  # the owner before its mount was read-only


def test_texts_as_they_are_by_name_and_kind() -> None:
    for access in (
        Access("jellyfin", {"/": False}, hide_places=True, raw_texts=("nfo", "m3u")),
        Access("jellyfin", {"/": True}, hide_places=True, raw_texts=("nfo", "m3u"), own=("/own",)),
    ):
        _check_texts(Policy(access))


def test_the_case_of_own_paths_matters() -> None:
    access = Access("photos", {"/": True}, hide_places=True, raw_texts=("yml",), own=("/Own",))
    assert [Policy(access).hides("photos", f"/{name}/a") for name in ("Own", "own")] == [False, True]


def _check_texts(policy: Policy) -> None:
    for kind in ("text/plain", "text/xml", "application/json"):
        assert not policy.hides("jellyfin", "/a/b.nfo", kind=kind)
    for name in ("/b.M3U", "/.nfo"):
        assert not policy.hides("jellyfin", name, kind="text/plain")
    assert policy.hides("jellyfin", "/a/b.txt", kind="text/plain")
    assert policy.hides("jellyfin", "/a/b.nfo", kind=None)
    for kind in ("image/jpeg", "application/gpx+xml", "application/x-location-text"):
        assert policy.hides("jellyfin", "/a/b.nfo", kind=kind)


def test_the_files_of_a_program_itself_are_spared() -> None:
    access = {"/Photos": True, "/immich": True, "/Films": False}
    policy = Policy(Access("immich", access, hide_places=True, keep_others=True, own=("/immich",)))
    assert policy.may("immich", "/immich/upload/a") == set(_ALL)
    assert not policy.hides("immich", "/immich/upload/a")
    assert policy.may("immich", "/Photos/a") - {Op.CREATE} == {Op.SEE, Op.READ}
    assert policy.hides("immich", "/Photos/a") and policy.hides("immich", "/Films/a")


def test_lint_accepts_what_was_answered() -> None:
    Policy(
        Access("photo-sync", {"/": True}, hide_places=True),
        Access("plex", {"/Photos/.thumbnails": False}, hide_places=True),
    )
