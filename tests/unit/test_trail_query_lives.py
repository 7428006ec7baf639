"""Lives of files across renames."""

from __future__ import annotations

from policyfs.trail.lines.event import Event
from policyfs.trail.query.lives import Lives, other_names
from tests.support.mount.trail import START_NS, a_denial, an_event


def made(path: bytes, **fields: object) -> Event:
    return an_event(path, operation="create", **fields)


def written(path: bytes, before: int, after: int, **fields: object) -> Event:
    return an_event(
        path, operation="release", size_before=before, size_after=after, bytes_written=1, **fields
    )


def moved(path: bytes, new_path: bytes, operation: str = "rename", **fields: object) -> Event:
    return an_event(path, new_path=new_path, operation=operation, **fields)


def removed(path: bytes, **fields: object) -> Event:
    return an_event(path, operation="unlink", **fields)


def lives_of(*events: Event) -> Lives[int]:
    lives: Lives[int] = Lives()
    for number, event in enumerate(events):
        lives.add(event._replace(time_ns=START_NS + number), number)
    return lives


def test_a_life_goes_on_over_renames() -> None:
    lives = lives_of(
        made(b"/a"), an_event(b"/a"), moved(b"/a", b"/b"), an_event(b"/b"), made(b"/a"), a_denial(b"/b"),
        removed(b"/b"), an_event(b"/b"),
    )  # fmt: skip
    assert [[item for _, item in life.events] for life in lives.all] == [[0, 1, 2, 3, 5, 6], [4], [7]]
    first, second, third = lives.all
    assert (first.was_made, first.was_deleted, first.ever) == (True, True, {b"/a", b"/b"})
    assert (second.names, third.was_made) == ({b"/a"}, False)


def test_a_directory_takes_its_files_along() -> None:
    lives = lives_of(made(b"/d/a"), an_event(b"/da"), moved(b"/d", b"/e"), an_event(b"/e/a"))
    assert [item for _, item in lives.all[0].events] == [0, 2, 3]
    assert lives.all[0].names == {b"/e/a"}
    assert lives.all[1].names == {b"/da"}


def exchanged(path: bytes, new_path: bytes) -> Event:
    return moved(path, new_path, syscall="renameat2(RENAME_EXCHANGE)")


def test_exchanged_files_go_on_with_the_name_of_the_other() -> None:
    lives = lives_of(
        an_event(b"/a"), an_event(b"/b"), exchanged(b"/a", b"/b"), written(b"/a", 1, 5)
    )  # fmt: skip
    first, second = lives.all
    assert (first.names, second.names) == ({b"/b"}, {b"/a"})
    assert [[item for _, item in life.events] for life in lives.all] == [[0, 2], [1, 2, 3]]
    assert not any(life.was_replaced for life in lives.all)


def test_an_exchange_begins_the_lives_of_files_that_no_event_named_before() -> None:
    lives = lives_of(exchanged(b"/a", b"/b"), an_event(b"/a"), an_event(b"/b"))
    assert [(life.first, life.names) for life in lives.all] == [(b"/a", {b"/b"}), (b"/b", {b"/a"})]
    assert [[item for _, item in life.events] for life in lives.all] == [[0, 2], [0, 1]]


def test_exchanged_directories_take_their_files_along() -> None:
    lives = lives_of(
        an_event(b"/d/a"), an_event(b"/e/a"), an_event(b"/e/s/b"), an_event(b"/da"),
        exchanged(b"/d", b"/e"), an_event(b"/d/a"), removed(b"/e/a"), an_event(b"/d/s/b"),
    )  # fmt: skip
    assert [[item for _, item in life.events] for life in lives.all[:4]] == [
        [0, 4, 6],
        [1, 4, 5],
        [2, 4, 7],
        [3],
    ]
    assert [life.first for life in lives.all[4:]] == [b"/d", b"/e"]
    assert [life.names for life in lives.all] == [
        set(), {b"/d/a"}, {b"/d/s/b"}, {b"/da"}, {b"/e"}, {b"/d"},
    ]  # fmt: skip
    assert not any(life.was_replaced for life in lives.all)


def test_a_file_with_two_names_exchanges_one_of_them() -> None:
    lives = lives_of(
        an_event(b"/a"), moved(b"/a", b"/c", "link"), exchanged(b"/a", b"/b"), exchanged(b"/b", b"/c")
    )
    assert [life.names for life in lives.all] == [{b"/b", b"/c"}, {b"/a"}]
    assert [[item for _, item in life.events] for life in lives.all] == [[0, 1, 2, 3], [2]]


def test_what_was_refused_or_failed_changes_nothing() -> None:
    lives = lives_of(
        made(b"/a"), removed(b"/a", decision="deny"), removed(b"/a", errno=2),
        moved(b"/a", b"/b", decision="deny"), an_event(b"/a"),
    )  # fmt: skip
    assert len(lives.all) == 1
    assert lives.all[0].names == {b"/a"}
    assert len(lives.all[0].events) == 5


def test_a_hard_link_is_a_second_name() -> None:
    lives = lives_of(made(b"/a"), moved(b"/a", b"/b", "link"), removed(b"/a"), an_event(b"/b"))
    (life,) = lives.all
    assert (life.names, life.was_deleted) == ({b"/b"}, False)


def test_other_names_are_found_in_both_directions() -> None:
    moves = [
        (b"/up/a", b"/d/a"), (b"/d", b"/e"),
        (b"/e/a", b"/z"), (b"/other", b"/more"),
    ]  # fmt: skip
    assert other_names(b"/z", moves) >= {b"/z", b"/e/a", b"/d/a", b"/up/a"}
    assert b"/more" not in other_names(b"/z", moves)
    endless = [(b"/x", b"/x/x")]
    assert len(other_names(b"/x", endless)) <= 1001


def test_a_new_file_with_refused_content_is_refused() -> None:
    """`create` was allowed, and the content was refused at the close. The file never got into the store."""
    refused = a_denial(b"/a", operation="write")._replace(errno=1, rules=("no-place",))
    closed = an_event(b"/a", operation="release", bytes_written=3, size_before=0)
    [life] = lives_of(made(b"/a"), refused, closed).all
    assert (life.was_made, life.was_refused) == (True, True)
    first, second = lives_of(made(b"/a"), refused, made(b"/a"), written(b"/a", 0, 5)).all
    assert (first.was_refused, second.was_refused) == (True, False), "the app tried again with other content"
    [life] = lives_of(an_event(b"/a"), refused).all
    assert not life.was_refused, "an old file keeps its old bytes"
