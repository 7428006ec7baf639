"""The commands of the control socket: each does one thing, and is told apart by its peer on the trail."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from policyfs.daemon.commands import commands
from policyfs.daemon.end import EndOfMount, MountEnd
from policyfs.errors import PolicyfsError
from policyfs.linux.peer import Peer

UID = 1000


class Daemon:
    """Notes what the commands do."""

    def __init__(self) -> None:
        self.end = EndOfMount()
        self.left = 0
        self.told: list[dict[str, object]] = []
        self.followers: list[tuple[int, int]] = []
        self.reloads: list[tuple[MountEnd, bool, object, object]] = []
        self.commands = commands(
            self.end,
            SimpleNamespace(leave=self.leave),  # type: ignore[arg-type]
            SimpleNamespace(reload=self.reload),  # type: ignore[arg-type]
            lambda: {"pid": 7},
            self.told.append,
            self.follow,
            self.release,
        )

    async def follow(self, candidate: int, keeper: int) -> None:
        self.followers.append((candidate, keeper))

    async def release(self, app: str, by: dict[str, Any]) -> bool:
        self.told.append({"app": app, **by})
        return app == "sync"

    def leave(self) -> None:
        assert self.end.end.ordered, "the cause is known before the session ends"
        self.left += 1

    async def reload(
        self, by: MountEnd, *, previous: bool = False, expected: object = None, live: object = None
    ) -> dict[str, Any]:
        self.reloads.append((by, previous, expected, live))
        return {"digest": "ab"}

    def send(self, name: str, **request: object) -> dict[str, object]:
        return trio.run(self.commands[name], Peer(os.getpid(), UID), {"command": name, **request})


def test_status_is_what_the_daemon_says() -> None:
    daemon = Daemon()
    assert daemon.send("status") == {"pid": 7}
    assert (daemon.left, daemon.reloads) == (0, [])


def test_the_daemon_that_follows_is_the_one_that_asks() -> None:
    daemon = Daemon()
    daemon.send("follow", keeper=3)
    daemon.send("follow", keeper="3", candidate=4)
    assert daemon.followers == [(os.getpid(), 3), (os.getpid(), 0)]


@pytest.mark.parametrize(
    ("name", "request_", "how", "previous"),
    [
        ("reload", {}, "policyfs reload", False),
        ("reload", {"expected": "cd"}, "policyfs policy apply", False),
        ("reload", {"expected": "cd", "live": "ab"}, "policyfs policy apply", False),
        ("previous", {}, "policyfs reload --previous", True),
    ],
)
def test_a_reload_has_its_author_and_the_expected_text(
    name: str, request_: dict[str, object], how: str, previous: bool
) -> None:
    daemon = Daemon()
    assert daemon.send(name, **request_) == {"digest": "ab"}
    [(by, was_previous, expected, live)] = daemon.reloads
    assert (by.cause, by.how, by.pid, by.uid) == ("command", how, os.getppid(), UID)
    assert (was_previous, expected) == (previous, request_.get("expected"))
    assert live == request_.get("live")


def test_an_announced_end_counts_only_while_it_is_announced() -> None:
    outside = MountEnd("outside", "unmounted")
    daemon = Daemon()
    assert daemon.send("ending") == {}
    assert daemon.end.by(outside).how == "policyfs umount"
    daemon = Daemon()
    daemon.send("ending")
    assert daemon.send("staying") == {}
    assert daemon.end.by(outside) == outside
    assert daemon.left == 0


def test_a_brake_is_released_by_its_app_and_author() -> None:
    daemon = Daemon()
    assert daemon.send("brake", release="sync") == {}
    assert [(one["app"], one["how"], one["uid"]) for one in daemon.told] == [
        ("sync", "policyfs brake --release", UID)
    ]
    with pytest.raises(PolicyfsError, match="the brake of 'other' is not on"):
        daemon.send("brake", release="other")


def test_abort_ends_the_session_with_its_author() -> None:
    daemon = Daemon()
    assert daemon.send("abort") == {}
    assert daemon.left == 1
    assert (daemon.end.end.how, daemon.end.end.uid) == ("policyfs umount --abort", UID)


def test_a_proof_is_on_record_with_who_made_it() -> None:
    daemon = Daemon()
    assert daemon.send("proof", proof={"result": "held", "canaries": {"hiding": 2}, "chain": "ab"}) == {}
    [fields] = daemon.told
    assert (fields["result"], fields["canaries"]) == ("held", {"hiding": 2})
    assert (fields["how"], fields["pid"], fields["uid"]) == ("policyfs prove", os.getppid(), 1000)
    assert "chain" not in fields
    daemon.send("proof", proof="held")
    assert daemon.told[-1]["result"] == "failed"
