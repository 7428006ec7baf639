"""A picture as a page."""

from __future__ import annotations

from policyfs.cli.policy.view.page import page
from policyfs.cli.policy.view.picture import Entry, Picture, Rest
from policyfs.domain import FileType, Op


def test_it_says_what_it_leaves_out() -> None:
    found = Picture("gallery", "/srv", "p.yaml", "0")
    found.entries = [Entry(b"/", FileType.DIRECTORY, Op(0), False, None, (), (), None, None)]
    found.rests = [Rest(b"/", ".jpg", 3)]
    found.unread = [(b"/d", "Permission denied")]
    text = page(found)
    assert "3 files were not looked at, and no other number contains them" in text
    assert "perhaps their kinds or owners hide them" in text
    assert "Not listed: /d: Permission denied." in text
    assert "No file is read under redaction." in text
    assert "All names in the visible directories are visible." in text


def test_an_empty_picture_is_a_page() -> None:
    assert page(Picture("gallery", "/srv", "p.yaml", "0")).endswith("</html>\n")
