"""Parts of an HTML page that needs no network: text, boxes, and tables to sort and search (pure). INVARIANT:
each text from a trail goes through `text_of` or `path_of`. The browser runs only the script with the digest
in the page's head."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence

from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.text.report_style import SCRIPT, STYLE


def document(
    title: str, heading: str, lead: str, numbers: str, sections: Sequence[tuple[str, str]]
) -> str:
    """Return an HTML page. title: of the window. lead, numbers: HTML before the sections (pairs of title and
    HTML)."""
    ids = [name.lower().replace(" ", "-") for name, _ in sections]
    links = " · ".join(f'<a href="#{at}">{name}</a>' for at, (name, _) in zip(ids, sections, strict=True))
    body = "\n".join(
        f'<section aria-labelledby="{at}"><h2 id="{at}">{name}</h2>\n{text}</section>'
        for at, (name, text) in zip(ids, sections, strict=True)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'sha256-{_digest(SCRIPT)}'; base-uri 'none'; form-action 'none'">
<title>policyfs: {title}</title>
<style>{STYLE}</style></head>
<body><a class="skip" href="#main">Skip to the content</a>
<header><h1>{heading}</h1><p class="quiet">{lead}</p>
<nav aria-label="Sections">{links}</nav></header>
<main id="main">{numbers}
{body}
</main><script>{SCRIPT}</script></body></html>
"""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def text_of(text: str) -> str:
    """Return a text from the trail as HTML, with escapes for HTML and for invisible characters."""
    return html.escape(shown(text))


def path_of(path: bytes) -> str:
    """Return a path from the trail as HTML, with escapes for HTML and for invisible characters."""
    return html.escape(shown_path(path))


def number_boxes(pairs: Iterable[tuple[str, str, str]]) -> str:
    """Return a row of boxes as HTML. pairs: for each box its name, value and CSS class (may be empty)."""
    boxes = "".join(
        f'<div><dt>{name}</dt><dd class="{look}">{value}</dd></div>' for name, value, look in pairs
    )
    return f'<dl class="numbers">{boxes}</dl>'


def table(
    name: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], right: str = ""
) -> str:
    """Return an HTML table to sort. name: its id. heads, rows: the cells, as HTML. right: the positions of
    columns with numbers, from 0, separated by spaces."""
    numeric = {int(one) for one in right.split()}
    head = "".join(
        f'<th scope="col"{" class=n" if at in numeric else ""}>{text}</th>' for at, text in enumerate(heads)
    )
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="n" data-value="{cell}">{int(cell):,}</td>' if at in numeric else f"<td>{cell}</td>"
            for at, cell in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="sortable" id="{name}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "</tbody></table></div>"
    )


def search_field(name: str) -> str:
    """Return an input field (HTML) that searches the table with the id *name*."""
    return (
        '<p class="search"><label for="find">Search the table: </label>'
        f'<input type="search" id="find" data-table="{name}" data-told="told" autocomplete="off"> '
        '<span id="told" role="status" class="quiet"></span></p>'
    )
