"""The HTML page of a picture. A picture has the names of a store that one caller would see."""

from __future__ import annotations

from typing import Final

from policyfs.cli.policy.view.picture import Entry, Picture, words_of
from policyfs.cli.policy.view.text import bytes_of, ordered, sampled, told_of
from policyfs.domain import FileType
from policyfs.trail.text.page_parts import document, number_boxes, path_of, search_field, table, text_of

ROWS: Final = 20_000


def page(picture: Picture) -> str:
    """Return a picture as one HTML page."""
    counts = picture.counts()
    refused = sum(sample.outcome == "refused" for sample in picture.samples)
    numbers = number_boxes(
        (
            ("directories", f"{counts[FileType.DIRECTORY]:,}", ""),
            ("files", f"{counts[FileType.REGULAR]:,}", ""),
            ("not looked at", f"{picture.skipped:,}", ""),
            ("under redaction", f"{sum(picture.may_be_redacted.values()):,}", ""),
            ("looked into", f"{len(picture.samples):,}", ""),
            ("of these refused", f"{refused:,}", "bad" if refused else ""),
            ("names not seen", f"{len(picture.hidden):,}", ""),
        )
    )
    sections = [
        ("The tree", _tree(picture)),
        ("Reads under redaction", _reads(picture)),
        ("Not seen", _hidden(picture)),
        ("Limits of this page", _limits(picture)),
    ]
    lead = (
        f"{text_of(picture.store)} as {text_of(picture.who)} sees it · policy {text_of(picture.policy)}"
        f" · digest {text_of(picture.digest[:16])}"
    )
    who = text_of(picture.who)
    return document(f"view of {who}", f"What {who} sees", lead, numbers, sections)


def _tree(picture: Picture) -> str:
    rows = []
    entries = ordered(picture)
    for entry in entries[:ROWS]:
        if isinstance(entry, Entry):
            name = path_of(entry.path) + ("/" if entry.ftype is FileType.DIRECTORY else "")
            rows.append(
                (
                    name, text_of(entry.ftype.value), ", ".join(words_of(entry.may)),
                    text_of(bytes_of(entry)), text_of("; ".join(entry.content)),
                    text_of(", ".join(entry.rules)),
                )
            )  # fmt: skip
        else:
            rows.append((f"{path_of(entry.directory)}: {text_of(told_of(entry))}", "", "", "", "", ""))
    left = len(entries) - ROWS
    more = f'<p class="quiet">{left:,} more rows are left out.</p>' if left > 0 else ""
    heads = ("Path", "Type", "May", "View", "Written files must be", "Rules")
    return search_field("tree") + table("tree", "Every name that was looked at", heads, rows) + more


def _reads(picture: Picture) -> str:
    if not picture.samples:
        return "<p>No file is read under redaction.</p>"
    rows = [
        (text_of(kind), str(count), text_of(result), path_of(path))
        for kind, count, result, path in sampled(picture)
    ]
    return table("reads", "Files that were looked into", ("Kind", "Files", "Result", "Such as"), rows, "1")


def _hidden(picture: Picture) -> str:
    if not picture.hidden:
        return "<p>All names in the visible directories are visible.</p>"
    rows = [(path_of(one.path), text_of(one.ftype.value), text_of(one.why)) for one in picture.hidden[:ROWS]]
    return table("hidden", "Hidden names in the visible directories", ("Path", "Type", "Why"), rows)


def _limits(picture: Picture) -> str:
    total, looked = sum(picture.may_be_redacted.values()), len(picture.samples)
    lines = [f"{looked:,} of {total:,} files that are read under redaction were looked into."]
    if picture.skipped:
        lines.append(
            f"{picture.skipped:,} files were not looked at, and no other number contains them: the policy"
            " decides on their paths as on other paths of the same directory, but perhaps their kinds or"
            " owners hide them."
        )
    lines += [f"Not listed: {path_of(path)}: {text_of(why)}." for path, why in picture.unread[:100]]
    return "".join(f"<p>{line}</p>" for line in lines)
