"""A picture as text."""

from __future__ import annotations

from policyfs.cli.policy.view.picture import Entry, Hidden, Picture, Rest, Sample
from policyfs.cli.policy.view.text import as_json, ordered, result_of, sampled, text_of
from policyfs.domain import RAW_VIEW, FileType, Op


def picture() -> Picture:
    found = Picture("gallery", "/srv", "p.yaml", "0")
    for path in (b"/", b"/b", b"/a"):
        found.entries.append(Entry(path, FileType.DIRECTORY, Op(0), False, None, (), (), None, None))
    for path in (b"/b/2", b"/b/1"):
        found.entries.append(Entry(path, FileType.REGULAR, Op.READ, False, RAW_VIEW, (), (), None, None))
    found.rests.append(Rest(b"/b", ".jpg", 3))
    return found


def test_a_directory_comes_before_what_is_in_it() -> None:
    found = [one.path if isinstance(one, Entry) else one for one in ordered(picture())]
    assert found == [b"/", b"/a", b"/b", b"/b/1", b"/b/2", Rest(b"/b", ".jpg", 3)]


def test_samples_are_counted_by_kind_and_result() -> None:
    found = picture()
    sample = Sample(b"/b/1", "image/jpeg", "redacted", ("location",), "2 ranges changed")
    found.samples = [sample, sample._replace(path=b"/b/2"), sample._replace(outcome="refused", reason="bad")]
    assert sampled(found) == [
        ("image/jpeg", 1, "cannot be opened: bad", b"/b/1"),
        ("image/jpeg", 2, "read without location", b"/b/1"),
    ]
    assert result_of(sample._replace(outcome="unchanged", reason="no place")) == "read unchanged: no place"


def test_many_hidden_names_and_directories_are_cut_short() -> None:
    found = picture()
    found.hidden = [
        Hidden(b"/h%d" % number, FileType.REGULAR, "no rule makes this name visible") for number in range(30)
    ]
    found.unread = [(b"/d%d" % number, "why") for number in range(12)]
    text = text_of(found, 40)
    assert "  and 10 more (--json has all)" in text
    assert "not listed: 2 more directories" in text
    assert len(as_json(found)["hidden"]) == 30
