"""SVG: what a drawing tells goes, what is drawn stays."""

from __future__ import annotations

import base64
import re
from functools import partial

import pytest

from policyfs.content.workers.worker import Detector
from tests.support.samples import svgs
from tests.support.samples.jpegs import LATITUDE, pack
from tests.support.samples.media import HOME
from tests.support.samples.plants import PLANTS, tells
from tests.support.samples.redacted import redacted_if_served
from tests.support.samples.svgs import KIND, svg

_TOLD = re.compile(rf"{HOME.city}|{HOME.latitude}|&#52;&#55;".encode())

redacted = partial(redacted_if_served, KIND)


@pytest.mark.parametrize("name", svgs.HIDING)
def test_places_go_from_every_part(name: str) -> None:
    data = svgs.HIDING[name]
    assert Detector().kind(data) == KIND
    assert _TOLD.search(data.replace(b"\0", b"")) or "photo" in name, "nothing is planted"
    for word in ("location", "all-metadata"):
        out = redacted(data, word)
        assert out
        assert not _TOLD.search(out.replace(b"\0", b""))
        assert not tells(out)


@pytest.mark.parametrize("name", ["photo", "photo of a style"])
def test_embedded_photos_are_cleaned(name: str) -> None:
    out = redacted(svgs.HIDING[name])
    found = re.search(rb"base64,([A-Za-z0-9+/=]+)", out)
    assert found is not None
    photo = base64.b64decode(found[1])
    assert pack("MM", *LATITUDE[:4]) not in photo
    assert b"Testmaker" in photo


@pytest.mark.parametrize("name", svgs.REFUSED)
def test_what_cannot_be_cleaned_is_refused(name: str) -> None:
    assert redacted(svgs.REFUSED[name]) == b""


@pytest.mark.parametrize("name", PLANTS)
def test_metadata_in_any_part_goes(name: str) -> None:
    value = PLANTS[name]
    try:
        text = value.decode("ascii").translate({ord(sign): None for sign in "<>&\"'"})
    except UnicodeDecodeError:
        text = 'GPSLatitude="47" jumb'.replace('"', "")
    for part in (
        f"<title>{text}</title>", f"<!-- {text} -->", f"<desc><![CDATA[{text}]]></desc>", f'<g id="{text}"/>',
        f"<style>{text}</style>", f"<script>{text}</script>", f"<text>{text}</text>", f'<g style="{text}"/>',
        f'<g inkscape:x="{text}"/>', f'<path d="{text}"/>', f'<g xlink:href="{text}"/>',
        f'<g xlink:title="{text}"/>',
        f"<sodipodi:x>{text}</sodipodi:x>", f'<g font-family="{text}"/>', f'<g aria-label="{text}"/>',
    ):  # fmt: skip
        out = redacted(svg(part))
        assert not tells(out), part
        assert text not in out.decode(), part


def test_what_tells_no_place_stays() -> None:
    assert redacted(svgs.PLAIN) == svgs.PLAIN


def test_words_of_a_policy() -> None:
    device, people = redacted(svgs.PLAIN, "device"), redacted(svgs.PLAIN, "people")
    assert b"inkscape" not in device
    assert b"pagecolor" not in device
    assert b"<title>Quince</title><!-- by Rosa -->" in device
    assert b"Quince" not in people
    assert b"Rosa" not in people
    assert b"<!--         -->" in people
    for out in (device, people, redacted(svgs.PLAIN, "time")):
        assert out.count(svgs.SHAPE.encode()) == 2
        assert b"<text>Q &amp; A</text>" in out
    assert b"Adobe Illustrator" not in redacted(svg("<!-- Generator: Adobe Illustrator 19 -->"), "device")


def test_drawn_words_stay_together_when_an_element_between_them_goes() -> None:
    out = redacted(svgs.HIDING["among drawn words"])
    assert re.search(rb'<text x="1">a<!-- +-->b</text>', out)
