"""ASF files: what goes from which object, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from tests.support.samples import asfs
from tests.support.samples.asfs import FRAMES, KIND, PACKET_BYTES, asf, made, packet
from tests.support.samples.film_checks import assert_place_goes, assert_stays, redact


@pytest.mark.parametrize("case", asfs.HIDING)
def test_places_go(case):
    assert_place_goes(KIND, asfs.HIDING[case]())


@pytest.mark.parametrize("data", asfs.PLAIN)
def test_what_is_not_asked_for_stays(data):
    assert_stays(KIND, data)


@pytest.mark.parametrize("data", asfs.PLAIN)
def test_pictures_and_sound_stay_under_every_word(data):
    out = redact(KIND, data, UNKNOWN)
    assert out[out.index(FRAMES) :] == data[data.index(FRAMES) :]


def test_the_date_and_the_id_go_under_their_words():
    data = asf(file_id=bytes(range(16)), in_data=bytes(range(16)))
    assert_stays(KIND, data)
    assert bytes(range(16)) not in redact(KIND, data, Tells.DEVICE)
    at = data.index(bytes(range(16))) + 24
    dated = data[:at] + b"\1\2\3\4" + data[at + 4 :]
    assert redact(KIND, dated, Tells.TIME) == data


def test_a_last_packet_that_is_cut_off():
    data = asf(packets=FRAMES * 2)
    assert_stays(KIND, data[: len(data) - PACKET_BYTES + 50])


def test_a_file_that_ends_behind_its_header():
    data = asf()
    assert_stays(KIND, data[: int.from_bytes(data[16:24], "little")])


@pytest.mark.parametrize(
    "data",
    [
        *(b"", asf()[:20], asf()[:200], asf().replace(asfs.GUIDS["data"], asfs.UNKNOWN)),
        made("header", bytes(6), asfs.properties()) + made("data", bytes(26), FRAMES),
        made("header", bytes(6), asfs.sound()) + made("data", bytes(26), FRAMES),
        asf(packets=packet((1, b"picture")).replace(b"\7\0picture", b"\xff\0picture")),
        asf().replace(PACKET_BYTES.to_bytes(4, "little"), bytes(4)),
    ],
)
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(NotThisKindError):
        redact(KIND, data)
