"""Words of a policy and the categories that they hide."""

from __future__ import annotations

import pytest

from policyfs.domain import REDACTIONS
from policyfs.redact.core.categories import NOTHING, UNKNOWN, WORDS, Tells, hidden_by, in_words


def test_each_word_of_the_language_hides_something():
    assert WORDS.keys() == REDACTIONS
    for word in WORDS:
        assert hidden_by([word])


def test_words_add_up():
    assert hidden_by([]) == NOTHING
    assert hidden_by(["location", "time", "location"]) == Tells.LOCATION | Tells.TIME
    assert hidden_by(["all-metadata"]) == hidden_by(WORDS) == UNKNOWN


def test_only_all_metadata_hides_what_is_of_no_word():
    four = [word for word in WORDS if word != "all-metadata"]
    assert hidden_by(four) == UNKNOWN & ~Tells.OTHER


def test_a_word_that_is_none_is_an_error():
    with pytest.raises(KeyError):
        hidden_by(["location", "places"])


@pytest.mark.parametrize(
    ("tells", "words"),
    [
        (NOTHING, ""),
        (Tells.TIME | Tells.LOCATION, "location, time"),
        (UNKNOWN, "location, device, time, people, other"),
    ],
)
def test_categories_for_people(tells, words):
    assert in_words(tells) == words
