"""AIFF: what goes from which chunk, and what stays as it was."""

from __future__ import annotations

import pytest

from tests.support.samples import sounds
from tests.support.samples.sound_checks import (
    assert_places_go,
    assert_refused,
    assert_the_rest_stays,
    of_kind,
    plain_of_kind,
)
from tests.support.samples.sounds import AIFF, PLAIN


@pytest.mark.parametrize("case", of_kind(AIFF))
def test_places_go(case):
    assert_places_go(case)


@pytest.mark.parametrize("name", plain_of_kind(AIFF))
def test_what_is_not_asked_for_stays(name):
    assert_the_rest_stays(name)


@pytest.mark.parametrize("data", [b"", PLAIN["AIFF"][1][:14], sounds.aiff().replace(b"SSND", b"SSNE")])
def test_what_is_no_such_file_is_refused(data):
    assert_refused(AIFF, data)
