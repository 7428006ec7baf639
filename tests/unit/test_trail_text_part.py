"""The part of an event for one app: what it may see stays, and nothing else."""

from __future__ import annotations

from policyfs.trail.lines.event import BY_DIRECTORY, Event
from policyfs.trail.text.part import WITHHELD, part_of
from tests.support.mount.trail import a_denial, an_event


class Sight:
    """An app that sees /DCIM and reads photos there."""

    def sees(self, event: Event, path: bytes, *, directory: bool) -> bool:
        return path.startswith(b"/DCIM")

    def reads(self, event: Event, path: bytes, kind: str | None) -> bool:
        return path.startswith(b"/DCIM") and kind == "image/jpeg"


def part(event: Event) -> Event | None:
    return part_of(event, "gallery", Sight())


def test_the_requests_of_others_are_not_told() -> None:
    assert part(an_event(app="maps")) is None
    assert part(an_event(app="stranger")) is None
    assert part(an_event()) is not None


def test_a_denial_of_a_hidden_name_is_not_told() -> None:
    assert part(a_denial(b"/Private/a.jpg")) is None
    assert part(a_denial(b"/DCIM/a.jpg", new_path=b"/Private/a.jpg")) is None
    assert part(an_event(b"/Private/a.jpg", errno=2)) is None
    told = part(a_denial(b"/DCIM/a.jpg", kind="image/jpeg", note="holds data about location"))
    assert told is not None
    assert (told.path, told.rules, told.kind, told.note) == (b"/DCIM/a.jpg", ("no-private",), None, "")


def test_what_was_allowed_by_name_was_seen() -> None:
    told = part(an_event(b"/Mine/a.jpg", kind="image/jpeg", size_before=5))
    assert told is not None
    assert (told.path, told.size_before, told.kind) == (b"/Mine/a.jpg", 5, None)


def test_an_open_file_that_was_moved_out_of_sight_has_no_name() -> None:
    told = part(
        an_event(b"/Private/moved.jpg", operation="release", size_after=7, kind="image/jpeg", bytes_read=3)
    )
    assert told is not None
    assert (told.path, told.size_after, told.kind, told.bytes_read) == (WITHHELD, None, None, 3)


def test_counts_of_denials_are_not_told() -> None:
    assert part(a_denial(b"/DCIM", folded=BY_DIRECTORY, repeats=7)) is None


def test_nothing_about_others_is_left() -> None:
    told = part(
        an_event(handle=77, redacted=((5, 6),), redacted_ranges=300, redacted_bytes=9, would_deny=("x",))
    )
    assert told is not None
    assert (told.handle, told.redacted, told.redacted_ranges, told.redacted_bytes) == (None, (), 0, 0)
    assert (told.would_deny, told.policy_digest, told.policy_generation) == ((), "", 0)
    assert told.decision == "allow"
