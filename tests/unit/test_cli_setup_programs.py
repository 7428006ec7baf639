"""Profiles of known programs: whom they fit, what is asked, and the table in docs/programs.md."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from policyfs.cli.common.looking import kind_in_worker, opened
from policyfs.cli.setup.access import Access, rules_of
from policyfs.cli.setup.programs import (
    CLEANED,
    Asked,
    Profile,
    Question,
    asked,
    narrowed,
    own_paths,
    profile_of,
    profiles,
)
from policyfs.cli.setup.questions import Questions
from policyfs.formats import REDACTABLE_KINDS
from tests.unit.test_cli_setup_access import Policy

PAGE = Path(__file__).parents[2] / "docs/programs.md"
BEGIN = "<!-- made by `make docs` from policyfs/cli/setup/programs.yaml -->\n"
TEXTS = {
    "ass": b"[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Start, Text\nDialogue: 0:00:01.00,hi\n",
    "idx": b"# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n",
    "ignore": b"*.tmp\n",
    "json": b'{"title": "A book", "chapters": [{"start": 0}]}\n',
    "lrc": b"[ti:Title]\n[00:12.00]Line one\n",
    "m3u": b"music/a.mp3\nmusic/b.mp3\n",
    "m3u8": b"#EXTM3U\n#EXTINF:123,K\xc3\xbcnstler\nmusic/a.mp3\n",
    "nfo": b'<?xml version="1.0"?>\n<movie><title>Heat</title><plot>In Paris</plot></movie>\n',
    "nsp": b'{"all": [{"is": {"loved": true}}], "sort": "title"}\n',
    "opf": b'<?xml version="1.0"?>\n<package xmlns="http://www.idpf.org/2007/opf"/>\n',
    "pls": b"[playlist]\nFile1=a.mp3\nNumberOfEntries=1\n",
    "plexmatch": b"title: Heat\nyear: 1995\n",
    "smi": b"<SAMI><BODY><SYNC Start=100><P>hi</BODY></SAMI>\n",
    "srt": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n",
    "ssa": b"[Script Info]\nScriptType: v4.00\n\n[Events]\nFormat: Start, Text\nDialogue: 0:00:01.00,hi\n",
    "strm": b"https://example.org/film.mp4\n",
    "sub": b"{100}{200}Hello\n{300}{400}World\n",
    "txt": b"A book.\n",
    "vtt": b"WEBVTT\n\n00:01.000 --> 00:04.000\nHello\n",
    "xml": b'<?xml version="1.0"?>\n<ComicInfo><Series>x</Series></ComicInfo>\n',
    "xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>\n',
    "yml": b"TakenAt: 2020-01-01T00:00:00Z\nType: image\n",
}
"""A file for each ending of a sidecar."""


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("ghcr.io/immich-app/immich-server:${IMMICH_VERSION:-release}", "Immich"),
        ("jellyfin/jellyfin", "Jellyfin"),
        ("jellyfin/jellyfin:10.9@sha256:00ff", "Jellyfin"),
        ("docker.io/jellyfin/jellyfin:latest", "Jellyfin"),
        ("my.registry:5000/jellyfin/jellyfin", "Jellyfin"),
        ("my.registry:5000/mirror/jellyfin/jellyfin:1", "Jellyfin"),
        ("$REGISTRY/jellyfin/jellyfin", "Jellyfin"),
        ("lscr.io/linuxserver/sonarr", "Sonarr, Radarr, Lidarr and Readarr"),
        ("linuxserver/plex:latest", "Plex"),
        ("nextcloud:apache", "Nextcloud"),
        ("docker.io/library/nextcloud", "Nextcloud"),
        ("somebody/nextcloud", ""),
        ("somebody/jellyfin", ""),
        ("notjellyfin/jellyfin", ""),
        ("jellyfin/jellyfin-web", ""),
        ("${IMAGE}", ""),
        ("", ""),
    ],
)
def test_images(image: str, program: str) -> None:
    found = profile_of(image, "")
    assert (found.program if found else "") == program


@pytest.mark.parametrize(
    ("unit", "program"),
    [
        ("jellyfin.service", "Jellyfin"),
        ("plexmediaserver.service", "Plex"),
        ("syncthing@anna.service", "Syncthing"),
        ("jellyfin@anna.service", ""),
        ("nginx.service", ""),
        ("", ""),
    ],
)
def test_units(unit: str, program: str) -> None:
    found = profile_of("", unit)
    assert (found.program if found else "") == program


def test_rows_are_complete_and_fit_one_program_each() -> None:
    rows = profiles()
    for names in ([one for row in rows for one in row.images], [one for row in rows for one in row.units]):
        assert len(names) == len(set(names))
    for row in rows:
        assert row.images or row.units
        assert row.source and row.version
        for texts in (row.places, row.others):
            assert bool(texts.not_asked) == (texts == Asked(not_asked=texts.not_asked)), row.program
            assert texts.not_asked or (texts.reason and texts.effect), row.program
    assert len(rows) == len({row.program for row in rows}) > 20


def test_no_copy_for_ever_lacks_places() -> None:
    """A backup or sync job, and a program that moves files, must never be asked about places."""
    for image in (
        "syncthing/syncthing", "restic/restic", "kopia/kopia", "duplicati/duplicati", "b3vis/borgmatic",
        "nextcloud", "linuxserver/radarr", "linuxserver/qbittorrent", "crazymax/samba",
    ):  # fmt: skip
        found = profile_of(image, "")
        assert found and found.places.not_asked, image


def test_sidecars_are_cleaned_or_texts_that_are_let_through(tmp_path: Path) -> None:
    """A program under redaction opens each sidecar: policyfs cleans it, or its kind is in the rule."""
    endings = sorted({ending for row in profiles() for ending in row.sidecars})
    assert endings == sorted(TEXTS)
    for ending, text in TEXTS.items():
        (tmp_path / f"a.{ending}").write_bytes(text)
    kinds = {}
    for one in endings:
        with opened(str(tmp_path / f"a.{one}")) as fd:
            kinds[one] = kind_in_worker(fd)
    policy = Policy(Access("app", {"/": False}, hide_places=True, raw_texts=tuple(set(endings) - CLEANED)))
    for ending, kind in kinds.items():
        assert (kind in REDACTABLE_KINDS) == (ending in CLEANED), (ending, kind)
        assert policy.hides("app", f"/a.{ending}", kind=kind) == (ending in CLEANED), (ending, kind)


class Answers:
    """Answers in order; afterwards the proposed ones. asked: the first lines of the questions."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, question: Question) -> bool:
        self.asked.append(question.effect)
        return self._answers.pop(0) if self._answers else question.proposed == "yes"


def _profile(image: str) -> Profile:
    found = profile_of(image, "")
    assert found is not None
    return found


def _after(image: str, access: Access, *answers: bool) -> tuple[Access, Sequence[str]]:
    given = Answers(*answers)
    return narrowed(_profile(image), access, given), given.asked


def test_all_as_before_unless_somebody_says_otherwise() -> None:
    for row in profiles():
        for shares in ({"/": True}, {"/": False}, {"/a": True, "/b": False}):
            access = Access("app", shares)
            answers = Answers()
            assert narrowed(row, access, answers) == access
            assert len(answers.asked) <= 2
            assert all("\n" not in text and text.startswith("app ") for text in answers.asked)


def test_hidden_places_let_texts_through_unless_somebody_says_no() -> None:
    access, texts = _after("jellyfin/jellyfin", Access("jellyfin", {"/": False}), True)
    assert access.hide_places and "nfo" in access.raw_texts and "srt" not in access.raw_texts
    assert len(texts) == 2 and ".nfo" in texts[1]
    access, _ = _after("jellyfin/jellyfin", Access("jellyfin", {"/": False}), True, False)
    assert access.hide_places and access.raw_texts == ()


def test_hidden_places_keep_what_others_made_and_say_so() -> None:
    access, texts = _after("jellyfin/jellyfin", Access("jellyfin", {"/": True}), False, True)
    assert access.hide_places and "keeps what others made" in texts[1]
    assert access.adds and not access.changes
    _, texts = _after("jellyfin/jellyfin", Access("jellyfin", {"/": True}), True, True)
    assert "keeps what others made" not in texts[1]  # it was said already


def test_a_program_that_syncs_may_get_a_brake() -> None:
    for image in ("syncthing/syncthing", "rclone/rclone", "crazymax/samba"):
        access, texts = _after(image, Access("sync", {"/": True}), True)
        assert (access.brake, len(texts)) == (True, 1), image
        assert access.told == "as before; stopped after 200 changes in 10m, losses kept 30d"
        text = "\n".join(rules_of(access))
        assert "limit: {changes: 200, within: 10m}" in text
        assert "require: {keep: 30d}" in text
        assert _after(image, Access("sync", {"/": False})) == (Access("sync", {"/": False}), [])
    kept, texts = _after("nextcloud", Access("cloud", {"/": True}), True)
    assert (kept.brake, len(texts)) == (False, 1)  # it deletes nothing of others any more


def test_nothing_is_asked_about_files_of_the_program_itself() -> None:
    immich = _profile("immich-app/immich-server")
    targets = {"/data": "/immich", "/external": "/Photos"}
    assert list(own_paths(immich, targets)) == ["/immich"]
    assert list(own_paths(_profile("nextcloud"), {"/var/www": "/cloud"})) == ["/cloud/html"]
    own = Access("immich", {"/immich": True}, own=("/immich",))
    assert _after("immich-app/immich-server", own) == (own, [])
    both = Access("immich", {"/immich": True, "/Photos": True}, own=("/immich",))
    access, texts = _after("immich-app/immich-server", both, True, True)
    assert len(texts) == 2
    assert (access.changes, access.adds) == (["/immich"], ["/Photos"])


def test_the_dialogue() -> None:
    """Each question is one line with the proposed answer; another answer than yes or no is asked again."""
    out, image, targets = io.StringIO(), "docker.io/jellyfin/jellyfin:latest", {"/media": "/Films"}
    questions = Questions(out, io.StringIO("\nwhat\nYES\n\n"))
    access = asked(questions, Access("jellyfin", {"/Films": True}), image, "", targets)
    assert access.hide_places and "nfo" in access.raw_texts and not access.keep_others
    hide = "Hide from it where photos and films of others were taken (no): "
    why, keep, places, lines = out.getvalue().split("\n")
    assert why.startswith("jellyfin deletes films") and why.endswith(" stay.")
    assert keep.startswith(
        "Keep it from changing and deleting what is there now, and what others make (no): "
    )
    assert places.startswith(f"{hide}{hide}jellyfin also reads texts (.nfo, ")
    assert lines == "Let it read these texts as they are, except those with coordinates (yes): "
    nobody = Questions(io.StringIO(), io.StringIO())  # which would raise an error if it was asked
    before = Access("app", {"/": True})
    assert asked(nobody, before, "somebody/jellyfin", "", {}) == before
    assert asked(nobody, before, "", "nginx.service", {}) == before


def test_the_page_has_the_table_of_programs() -> None:
    table = ["", "| program | writes | asked about | not asked, because |", "|-|-|-|-|"]
    table += [_row(one) for one in profiles()]
    before, begin, rest = PAGE.read_text("utf-8").partition(BEGIN)
    shown, _, after = rest.partition("\n\n")
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        PAGE.write_text(before + begin + "\n".join(table) + "\n\n" + after, "utf-8")
        pytest.fail("the page was written: read it, then run without updating")
    assert shown.splitlines() == table


def _row(one: Profile) -> str:
    questions = {"places": one.places, "what others made": one.others}
    asked_about = [name for name, found in questions.items() if not found.not_asked]
    about = ", ".join(asked_about + ["brake"] * bool(one.brake))
    why = "; ".join(f"{name}: {found.not_asked}" for name, found in questions.items() if found.not_asked)
    return f"| {one.program} | {one.writes} | {about} | {why} |".replace("  ", " ")


@pytest.mark.parametrize("image", ["linuxserver/transmission", "qbittorrentofficial/qbittorrent-nox"])
def test_programs_that_download_own_their_downloads(image: str) -> None:
    """`tighten` proposes no end of writing there after a week without downloads."""
    profile = profile_of(image, "")
    assert profile is not None
    assert list(own_paths(profile, {"/downloads": "/Downloads", "/films": "/Films"})) == ["/Downloads"]
