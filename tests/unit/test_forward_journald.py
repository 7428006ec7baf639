"""Delivery to journald: to the real one, and to a socket that is full, small or gone."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from policyfs.forward.delivery import DeliveryError
from policyfs.forward.journald import JournaldDelivery
from policyfs.forward.messages import INFO, made, message_of
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import a_denial, an_event
from tests.support.programs.log_servers import journald
from tests.unit.test_forward_messages import fields_of, item_of

LARGE = "x" * 3_000_000


def listener(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(10)
    return server


def test_the_real_journald_has_every_field(tmp_path: Path) -> None:
    with journald(tmp_path) as server:
        delivery = JournaldDelivery(str(server.socket))
        events = [a_denial(b"/Private/\xff\n.jpg"), an_event(b"/DCIM/a.jpg", rules=("one", "two"))]
        delivery.deliver([message_of(item_of(event, seq)) for seq, event in enumerate(events, 1)])
        delivery.deliver([made("alert", "x", "t", INFO, "large", {"much": LARGE})])
        wait_for(lambda: len(server.entries("SYSLOG_IDENTIFIER=policyfs")) == 3, "the entries")
        denied, allowed, large = server.entries("SYSLOG_IDENTIFIER=policyfs")
        assert denied["POLICYFS_PATH"] == list(b"/Private/\xff\n.jpg")
        assert denied["MESSAGE"] == "gallery open /Private/\\xff\\x0a.jpg: deny EACCES no-private"
        assert (denied["POLICYFS_ERRNO"], denied["PRIORITY"]) == ("EACCES", "5")
        assert allowed["POLICYFS_RULES"] == ["one", "two"]
        assert allowed["POLICYFS_UID"] == "10011"
        assert large["POLICYFS_MUCH"] == LARGE
        assert [
            entry["POLICYFS_PATH"] for entry in server.entries("POLICYFS_APP=gallery", "POLICYFS_UID=10011")
        ][1:] == ["/DCIM/a.jpg"]
        delivery.close()


def test_what_no_datagram_holds_goes_as_a_sealed_file(tmp_path: Path) -> None:
    with listener(tmp_path / "socket") as server:
        delivery = JournaldDelivery(str(tmp_path / "socket"))
        message = made("alert", "x", "t", INFO, "large", {"much": LARGE})
        delivery._connected().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1000)
        delivery.deliver([message])
        data, fds, _, _ = socket.recv_fds(server, 10, 1)
        assert data == b""
        with os.fdopen(fds[0], "rb") as file:
            with pytest.raises(OSError, match="not permitted"):
                os.ftruncate(file.fileno(), 0)
            file.seek(0)
            assert dict(fields_of(file.read()))["POLICYFS_MUCH"] == LARGE.encode()
        delivery.close()


def test_nobody_there_and_nobody_reading_are_errors(tmp_path: Path) -> None:
    message = message_of(item_of(an_event()))
    delivery = JournaldDelivery(str(tmp_path / "socket"), timeout_s=0.2)
    with pytest.raises(DeliveryError, match="No such file"):
        delivery.deliver([message])
    with listener(tmp_path / "socket") as server:
        with pytest.raises(DeliveryError, match="the socket accepts no records"):
            delivery.deliver([message] * 10_000)
        assert server.recv(100_000)
        delivery.close()
    with pytest.raises(DeliveryError, match="refused"):
        delivery.deliver([message])
    (tmp_path / "socket").unlink()
    with listener(tmp_path / "socket") as server:
        delivery.deliver([message])
        assert struct.unpack("<I", server.recv(4))
        delivery.close()
