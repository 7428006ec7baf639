"""Parts of HTML pages."""

from __future__ import annotations

from policyfs.trail.text.page_parts import document, number_boxes, path_of, table, text_of


def test_texts_are_harmless() -> None:
    assert text_of('<a href="x">\x1b') == "&lt;a href=&quot;x&quot;&gt;\\x1b"
    assert path_of(b"/\xff<") == "/\\xff&lt;"


def test_numbers_in_tables_are_right_and_can_be_sorted() -> None:
    found = table("t", "Numbers", ("What", "Count"), [("a", "12345")], "1")
    assert '<th scope="col" class=n>Count</th>' in found
    assert '<td class="n" data-value="12345">12,345</td>' in found


def test_a_page_leads_to_its_sections() -> None:
    page = document("title", "Heading", "lead", number_boxes([("files", "3", "bad")]), [("One Part", "text")])
    assert '<a href="#one-part">One Part</a>' in page
    assert '<h2 id="one-part">One Part</h2>\ntext' in page
    assert '<dd class="bad">3</dd>' in page
