"""Pictures in XMP as base64: as long as before, with the same breaks."""

from __future__ import annotations

import base64

import pytest

from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.xmp.embedded_images import cleaned_picture
from tests.support.samples.inners import Plain


class Upper(Plain):
    """Cleans a picture to capitals; does not understand one that starts with a question mark."""

    def image(self, data: bytes) -> Cleaned | None:
        return None if data.startswith(b"?") else Cleaned(data.upper())


class Shorter(Plain):
    def image(self, data: bytes) -> Cleaned | None:
        return Cleaned(data[:-1])


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("data", [b"a picture", b"a picture!", b"a picture!!", b""])
@pytest.mark.parametrize("break_", ["\n", "&#10;", "&#xA;", "&#xd;&#xa;", " \t\r\n"])
def test_breaks_and_padding_stay_where_they_were(data, break_):
    text, new = packed(data), packed(data.upper())
    assert cleaned_picture(text, Upper()) == new
    assert cleaned_picture(text.rstrip("="), Upper()) == new.rstrip("=")
    broken = text[:5] + break_ + text[5:] + break_
    assert cleaned_picture(broken, Upper()) == new[:5] + break_ + new[5:] + break_


@pytest.mark.parametrize(
    "text",
    [
        packed(b"?"),
        "a picture!",
        packed(b"abc") + "&#11;",
        packed(b"a") + "=",
        packed(b"a")[:1] + "b==",
        "YR==",
        "Y",
        "<b/>" + packed(b"abc"),
    ],
)
def test_what_is_no_picture_in_base64(text):
    assert cleaned_picture(text, Upper()) is None


def test_a_picture_never_gets_shorter():
    assert cleaned_picture(packed(b"abc"), Shorter()) is None
