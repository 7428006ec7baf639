"""The configuration of `audit forward`: all errors at once, with their places."""

from __future__ import annotations

import pytest

from policyfs.forward.config import Config, ForwardErrors, parse_config
from policyfs.policy.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: Forward\n"
GOOD = """\
user: forwarder
state: /var/lib/x
sinks:
  - {id: journal, to: journald}
  - {id: far, to: "tls://[::1]:6514", ca: /ca.pem, cert: /c.pem, key: /k.pem, query: "decision:deny"}
  - {id: copy, to: "file:/x/y", behind: 256M, start: now, format: text, timeout: 500ms}
  - {id: mail, to: command, run: [/usr/bin/mail, root]}
alerts:
  - {id: burst, on: denials, more_than: 5, within: 10s, to: "unix:/dev/log", query: "app:gallery"}
  - {id: guard, on: rule, rules: no-private, to: "udp://log:514", every: 5m}
checkpoints:
  - {id: ends, to: "tcp://log.example:601", every: 1h}
"""


def parsed(text: str) -> Config:
    return parse_config(SourceText("forward.yaml", (HEAD + text).encode()))


def test_a_sound_one() -> None:
    config = parsed(GOOD)
    assert (config.user, config.state) == ("forwarder", "/var/lib/x")
    assert [one.id for one in config.targets] == ["journal", "far", "copy", "mail", "burst", "guard", "ends"]
    assert (config.sinks[2].behind, config.sinks[2].timeout, config.sinks[3].run) == (
        256 << 20, 0.5, ("/usr/bin/mail", "root"),
    )  # fmt: skip
    assert (config.alerts[0].within, config.alerts[1].rules, config.alerts[1].every) == (
        10,
        ("no-private",),
        300,
    )
    assert config.checkpoints[0].every == 3600


def test_an_alert_can_tell_each_match_at_once() -> None:
    config = parsed("alerts:\n  - {id: a, to: journald, on: policy, every: 0s}\n")
    assert config.alerts[0].every == 0


@pytest.mark.parametrize(
    ("text", "marked", "words"),
    [
        ("sinks: []\n", "a", "there is nothing to forward"),
        ("sinks:\n  - {id: a, to: journal}\n", "journal", "journald, command"),
        ("sinks:\n  - {id: a, to: 'udp://host'}\n", "'udp://host'", "no host and port"),
        ("sinks:\n  - {id: a, to: 'tcp://host:70000'}\n", "'tcp://host:70000'", "no host and port"),
        ("sinks:\n  - {id: a, to: 'file:x'}\n", "'file:x'", "has no absolute path"),
        ("sinks:\n  - {id: a, to: command}\n", "command", 'needs the key "run"'),
        ("sinks:\n  - {id: a, to: journald, run: [/x]}\n", "run", '"run" is for "to: command" only'),
        ("sinks:\n  - {id: a, to: command, run: [mail]}\n", "mail", "not an absolute path"),
        ("sinks:\n  - {id: a, to: command, run: /bin/mail}\n", "/bin/mail", "must be a list"),
        ("sinks:\n  - {id: a, to: journald, ca: /x}\n", "ca", "for tls://"),
        (
            "sinks:\n  - {id: a, to: 'tls://h:1', cert: /x}\n",
            "{id: a, to: 'tls://h:1', cert: /x}",
            "must be given together",
        ),
        ("sinks:\n  - {id: a, to: journald, querry: x}\n", "querry", 'did you mean "query"?'),
        ("sinks:\n  - {id: a, to: journald, query: 'ap:x'}\n", "'ap:x'", "no field is called ap"),
        ("sinks:\n  - {id: a, to: journald, timeout: 10}\n", "10", "must be text"),
        ("sinks:\n  - {id: a, to: journald, timeout: 10 s}\n", "10 s", "not a duration"),
        ("sinks:\n  - {id: a, to: journald, timeout: 0s}\n", "0s", "must be longer than 0"),
        ("checkpoints:\n  - {id: a, to: journald, every: 0m}\n", "0m", "must be longer than 0"),
        ("alerts:\n  - {id: a, to: journald, on: denials, within: 0h}\n", "0h", "must be longer than 0"),
        ("sinks:\n  - {id: a, to: journald, behind: lots}\n", "lots", "not a size"),
        ("sinks:\n  - {id: a, to: journald}\n  - {id: a, to: journald}\n", "a", "taken already"),
        ("sinks:\n  - {to: journald}\n", "to", "has no id"),
        ("alerts:\n  - {id: a, to: journald, on: denial}\n", "denial", 'did you mean "denials"?'),
        ("alerts:\n  - {id: a, to: journald, on: rule}\n", "rule", 'needs the key "rules"'),
        ("alerts:\n  - {id: a, to: journald, on: query}\n", "query", 'needs the key "query"'),
        ("alerts:\n  - {id: a, to: journald, on: policy, query: 'app:x'}\n", "query", "has no query"),
        ("alerts:\n  - {id: a, to: journald, on: policy, more_than: 3}\n", "more_than", "on: denials only"),
        ("alerts:\n  - {id: a, to: journald, on: denials, more_than: 0}\n", "0", "at least 1"),
        ("state: here\nsinks:\n  - {id: a, to: journald}\n", "here", "not an absolute path"),
    ],
)
def test_an_error_has_its_place(text: str, marked: str, words: str) -> None:
    with pytest.raises(ForwardErrors) as info:
        parsed(text)
    (error,) = info.value.errors
    column = error.where.column - 1
    assert error.line[column : column + error.width] == marked
    assert words in str(error)
    assert info.value.exit_code == 2


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ForwardErrors) as info:
        parsed("sinks:\n  - {id: a, to: nowhere}\nalerts:\n  - {id: b, to: journald, on: x}\nmore: 1\n")
    assert len(info.value.errors) == 3


@pytest.mark.parametrize(
    "text", [b"", b"- a\n", b"kind: [\n", b"apiVersion: policyfs/v1\nkind: Policy\n", b"\xff"]
)
def test_what_is_no_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(ForwardErrors):
        parse_config(SourceText("x", text))
