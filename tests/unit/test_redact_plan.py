"""The one way in: fails closed by kind, never raises, and the documentation says the same."""

from __future__ import annotations

import pytest

from policyfs.domain import DENY_UNKNOWN
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import MAX_FINDINGS, Outcome, kind_rows, locate
from policyfs.redact.registry import Treatment
from tests.support.samples import jpegs, media
from tests.support.samples.jpegs import exif, photo_with, plain

LOCATION = frozenset({"location"})


def outcome(kind: str | None, data: bytes = b"", what: frozenset[str] = LOCATION) -> Outcome:
    plan = locate(kind, what, MemorySource(data))
    assert plan.reason
    if plan.outcome is not Outcome.PATCH:
        assert not plan.patches
        assert not plan.findings
    return plan.outcome


def test_nothing_asked_for_nothing_hidden():
    assert outcome("video/mp4", b"x", frozenset()) is Outcome.CLEAN


@pytest.mark.parametrize("what", [{"faces"}, {"location", "faces"}])
def test_what_cannot_be_hidden_is_refused(what):
    assert outcome("image/jpeg", plain(), frozenset(what)) is Outcome.REFUSE


@pytest.mark.parametrize("kind", [None, "", "image/x-unheard-of", "text/plain", "image/*", "IMAGE/JPEG"])
def test_unknown_kinds_are_refused(kind):
    assert outcome(kind, plain()) is Outcome.REFUSE


def test_the_empty_file():
    assert outcome("inode/x-empty") is Outcome.CLEAN
    assert outcome("inode/x-empty", b"x") is Outcome.REFUSE


def test_each_kind_has_one_row():
    rows = [row.kind for row in kind_rows()]
    assert len(rows) == len(set(rows))


def test_only_the_empty_file_carries_nothing():
    rows = [row.kind for row in kind_rows() if row.treatment is Treatment.NOTHING]
    assert rows == ["inode/x-empty"]


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8" + exif()]
)
def test_what_is_no_jpeg_is_refused(data):
    assert outcome("image/jpeg", data) is Outcome.REFUSE


def test_a_jpeg_with_and_without_a_place():
    assert outcome("image/jpeg", plain()) is Outcome.CLEAN
    assert outcome("image/jpeg", photo_with(exif())) is Outcome.PATCH


@pytest.mark.parametrize("size", range(0, 1200, 37))
def test_files_cut_anywhere(size):
    data = photo_with(exif())[:size]
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    assert not plan.reason.startswith("internal error")
    assert plan.outcome is not Outcome.CLEAN


def test_findings_say_where_and_what():
    data = photo_with(exif("II"))
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    (finding,) = plan.findings
    assert (finding.container, finding.tag, finding.what) == ("EXIF", "IFD:GPSInfo", "location")
    assert data[finding.offset : finding.offset + 2] == b"\x25\x88"


def test_findings_are_bounded_and_patches_are_not():
    data = jpegs.with_segments(plain(), *[jpegs.exif_segment(exif())] * (MAX_FINDINGS + 100))
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    assert len(plan.findings) == MAX_FINDINGS
    assert len(plan.patches) >= MAX_FINDINGS + 100


BROKEN = jpegs.with_segments(plain(), jpegs.exif_segment(b"II*\0\xff\xff\xff\xff" + b"47.80453 N" * 4))


@pytest.mark.parametrize(("data", "refused"), [(photo_with(exif()), False), (plain(), False), (BROKEN, True)])
def test_what_is_not_understood_is_zeroed_or_refused_as_the_rule_says(data, refused):
    assert outcome("image/jpeg", data) is not Outcome.REFUSE
    strict = outcome("image/jpeg", data, LOCATION | {DENY_UNKNOWN})
    assert (strict is Outcome.REFUSE) is refused


def test_only_words_hide():
    assert outcome("image/jpeg", photo_with(exif()), frozenset({DENY_UNKNOWN})) is Outcome.CLEAN


def test_too_many_segments_are_refused():
    data = jpegs.with_segments(plain(), jpegs.segment(jpegs.COM, b"") * 60_000)
    assert outcome("image/jpeg", data) is Outcome.REFUSE


class BadDisk:
    """A source that cannot be read."""

    size = 1000

    def read(self, offset: int, size: int, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_an_error_of_the_source_is_a_refusal():
    plan = locate("image/jpeg", LOCATION, BadDisk())
    assert plan.outcome is Outcome.REFUSE
    assert plan.reason == "internal error: OSError"


class Counting(MemorySource):
    """Counts the bytes that are asked for."""

    asked = 0

    def read(self, offset: int, size: int, /) -> bytes:
        data = super().read(offset, size)
        self.asked += len(data)
        return data


def test_a_file_is_read_about_once(tmp_path):
    data = media.photo(tmp_path / "p.jpg", width=1600, height=1200).read_bytes()
    source = Counting(data)
    locate("image/jpeg", LOCATION, source)
    assert source.asked < 1.3 * len(data)
