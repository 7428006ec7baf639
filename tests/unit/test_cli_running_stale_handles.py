"""Open files that a new policy would not have granted are told."""

from __future__ import annotations

from policyfs.cli.running.stale_handles import told


def a_file(number: int = 1, **fields: object) -> dict[str, object]:
    return {
        "app": "gallery", "uid": 10011, "pid": number, "path": f"/DCIM/{number}.jpg", "ino": number,
        "access": "read", "reason": "the policy now refuses this open: EACCES", **fields,
    }  # fmt: skip


def test_nothing_is_told_where_there_is_nothing() -> None:
    for none in (None, [], {}, {"count": 0, "files": [], "apps": {}}):
        assert list(told(none)) == []


def test_files_are_told_with_their_app_and_reason() -> None:
    [head, line] = told({"count": 1, "apps": {"gallery": 1}, "files": [a_file(7)]})
    assert "1 open file in passthrough" in head
    assert "(gallery 1)" in head
    assert line == "  gallery /DCIM/7.jpg (pid 7, read): the policy now refuses this open: EACCES"


def test_no_name_of_an_app_reaches_the_terminal() -> None:
    [_, line] = told({"count": 1, "apps": {"gallery": 1}, "files": [a_file(7, path="/a\x1b[2J\n\u202e")]})
    assert line.isprintable()


def test_of_many_files_the_first_are_told_and_all_are_counted() -> None:
    files = [a_file(number) for number in range(200)]
    lines = list(told({"count": 300, "apps": {"maps": 100, "gallery": 200}, "files": files}))
    assert "(gallery 200, maps 100)" in lines[0]
    assert len(lines) == 22
    assert "280 more" in lines[-1]
