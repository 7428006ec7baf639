"""Delivery to a syslog server: a real rsyslogd gets each message whole, on each way."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from pathlib import Path

import pytest

from policyfs.forward.config import SinkDoc
from policyfs.forward.delivery import DeliveryError
from policyfs.forward.messages import message_of
from policyfs.forward.syslog import SyslogDelivery
from tests.support.mount.trail import a_denial, an_event
from tests.support.programs.log_servers import syslog_server
from tests.unit.test_forward_messages import NASTY, item_of

MESSAGES = [
    message_of(item_of(event, seq))
    for seq, event in enumerate(
        [an_event(), a_denial(NASTY), an_event(redacted=tuple((n, 1) for n in range(250)))], 1
    )
]


def to(target: str, **more: object) -> SyslogDelivery:
    return SyslogDelivery(SinkDoc.model_construct(id="x", to=target, timeout=5.0, **more))


@pytest.mark.parametrize("way", ["unix", "udp", "tcp"])
def test_rsyslogd_gets_each_message_whole(way: str, tmp_path: Path) -> None:
    with syslog_server(tmp_path) as server:
        target = f"unix:{server.unix}" if way == "unix" else f"{way}://127.0.0.1:{server.port}"
        delivery = to(target)
        delivery.deliver(MESSAGES)
        found = server.wait_for(lambda lines: len(lines) == 3)
        assert [json.loads(text) for _, _, text in found] == [json.loads(one.line) for one in MESSAGES]
        assert [kind for kind, _, _ in found] == ["event"] * 3
        assert all(f'id="{one.id}"' in data for one, (_, data, _) in zip(MESSAGES, found, strict=True))
        assert 'decision="deny"' in found[1][1]
        delivery.close()


def test_rsyslogd_gets_them_by_tls_from_who_trusts_it(tmp_path: Path) -> None:
    with syslog_server(tmp_path, tls=True) as server:
        delivery = to(f"tls://127.0.0.1:{server.port}", ca=str(server.certificate))
        delivery.deliver(MESSAGES)
        delivery.deliver(MESSAGES)
        assert len(server.wait_for(lambda lines: len(lines) == 6)) == 6
        delivery.close()
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            to(f"tls://127.0.0.1:{server.port}").deliver(MESSAGES)
        with pytest.raises(DeliveryError):
            to(f"tls://127.0.0.2:{server.port}", ca=str(server.certificate)).deliver(MESSAGES)


def test_text_instead_of_the_line(tmp_path: Path) -> None:
    with syslog_server(tmp_path) as server:
        delivery = to(f"tcp://127.0.0.1:{server.port}", format="text")
        delivery.deliver(MESSAGES[:1])
        assert server.wait_for(bool)[0][2] == "gallery open /DCIM/a.jpg: allow gallery-sees passthrough"
        delivery.close()


def test_a_server_that_ends_is_noticed_before_more_is_sent(tmp_path: Path) -> None:
    with syslog_server(tmp_path) as server:
        delivery = to(f"tcp://127.0.0.1:{server.port}")
        delivery.deliver(MESSAGES)
        server.wait_for(lambda lines: len(lines) == 3)
        server.kill()
        with pytest.raises(DeliveryError):
            delivery.deliver(MESSAGES)
        with pytest.raises(DeliveryError, match="refused"):
            delivery.deliver(MESSAGES)
        server.start()
        delivery.deliver(MESSAGES)
        assert len(server.wait_for(lambda lines: len(lines) == 6)) == 6
        delivery.close()


def test_what_the_other_machine_has_not_acknowledged_is_not_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        delivery = to(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        object.__setattr__(
            delivery, "_doc", SinkDoc.model_construct(id="x", to=delivery._doc.to, timeout=0.3)
        )
        with pytest.raises(DeliveryError, match="no answer in time"):  # nobody reads
            delivery.deliver(MESSAGES * 2000)
        delivery.close()


def test_a_server_without_tls_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"hello\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeliveryError):
            to(f"tls://127.0.0.1:{server.getsockname()[1]}").deliver(MESSAGES)
        thread.join()
    assert ssl.OPENSSL_VERSION_INFO >= (1, 1)


def test_a_unix_socket_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="No such file"):
        to(f"unix:{tmp_path}/none").deliver(MESSAGES)


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("host", ["logs..example.org", "a" * 64 + ".example.org", ".example.org"])
def test_a_host_that_is_no_name_is_an_error_of_this_sink_alone(way: str, host: str) -> None:
    """Any other exception would end the forwarder, and with it all sinks."""
    with pytest.raises(DeliveryError, match="://"):
        to(f"{way}://{host}:514").deliver(MESSAGES)
