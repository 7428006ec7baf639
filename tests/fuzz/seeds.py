"""Files to begin with, by content kind: little ones, and richer ones."""

from __future__ import annotations

from policyfs.formats import REDACTABLE_KINDS
from tests.fuzz import little, richer, richer_boxes
from tests.support.samples import gpmf, jpegs, movies, mpegs, sounds
from tests.unit.test_redact_bitstreams_photos import HIDING as FILMS_OF_PHOTOS
from tests.unit.test_redact_matroska_frames import HIDING as CODED_FILMS
from tests.unit.test_redact_matroska_matroska import HIDING as FILMS
from tests.unit.test_redact_pdf_pdf import HIDING as DOCUMENTS
from tests.unit.test_redact_pdf_private_keys import HIDING as PRIVATE
from tests.unit.test_redact_riff_avi_frames import HIDING as CODED_AVIS
from tests.unit.test_redact_xmp_packet import FORMS

_SEEDS: dict[str, list[bytes]] = {kind: [] for kind in sorted(REDACTABLE_KINDS)}
_SEEDS["image/jpeg"] += [*little.JPEGS, *richer.JPEGS]
_SEEDS["image/tiff"] += richer.RAWS
_SEEDS["image/x-canon-cr2"].append(richer.CR2)
_SEEDS["image/x-olympus-orf"].append(richer.ORF)
_SEEDS["image/x-panasonic-rw2"].append(richer.RW2)
_SEEDS["video/mp4"] += [*movies.SEEDS, *richer_boxes.MOVIES, gpmf.film()]
_SEEDS["image/heic"] += richer_boxes.HEICS
_SEEDS["image/jp2"] += richer_boxes.JP2S
_SEEDS["image/jxl"] += richer_boxes.JXLS
_SEEDS["video/quicktime"] += movies.SEEDS[:2]
_SEEDS["video/x-matroska"] += [
    *little.FILMS,
    *richer.FILMS,
    *FILMS.values(),
    *CODED_FILMS,
]
_SEEDS["video/x-msvideo"] += CODED_AVIS
_SEEDS["video/mp2t"] += [*mpegs.plain(mpegs.TS), *(make() for make in mpegs.TRANSPORT_HIDING.values())]
_SEEDS["video/mpeg"] += [*mpegs.plain(mpegs.PS), *(make() for make in mpegs.PROGRAM_HIDING.values())]
_SEEDS["application/x-location+json"] += little.SIDECARS
_SEEDS["application/pdf"] += [*little.PDFS, *DOCUMENTS.values(), *PRIVATE.values()]
_SEEDS["application/rdf+xml"] += [richer.PACKET, *(jpegs.xmp_packet(form) for form in FORMS.values())]
_SEEDS["audio/aac"] += [richer.AAC, sounds.id3(sounds.user(b"place", b"x")) + richer.AAC + sounds.old()]
for _kind, _data in (
    *FILMS_OF_PHOTOS,
    *little.BOXES,
    *little.CHUNKS,
    *little.TIFFS,
):
    _SEEDS[_kind].append(_data)

KINDS = tuple(kind for kind, seeds in _SEEDS.items() if seeds)
"""Kinds that can be fuzzed: one at least for every locator."""


def seeds_of(kind: str) -> list[bytes]:
    """The files to begin with."""
    return _SEEDS[kind]
