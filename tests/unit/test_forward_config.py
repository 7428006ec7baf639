"""The configuration of `audit forward`: all errors at once, with their places."""

from __future__ import annotations

import pytest

from policyfs.forward.config import Config, ForwardErrors, parse_config
from policyfs.policy.text.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: Forward\n"
GOOD = """\
user: forwarder
state: /var/lib/x
sinks:
  - {id: all, file: /x/z}
  - {id: copy, file: /x/y, start: now, format: text, query: "decision:deny"}
  - {id: mail, command: [/usr/bin/mail, root], timeout: 500ms}
alerts:
  - {id: burst, on: denials, more_than: 5, within: 10s, file: /x/b, query: "app:gallery"}
  - {id: guard, on: rule, rules: no-private, command: [/usr/bin/page], every: 5m}
"""


def parsed(text: str) -> Config:
    return parse_config(SourceText("forward.yaml", (HEAD + text).encode()))


def test_a_sound_one() -> None:
    config = parsed(GOOD)
    assert (config.user, config.state) == ("forwarder", "/var/lib/x")
    ids = [one.id for one in (*config.sinks, *config.alerts)]
    assert ids == ["all", "copy", "mail", "burst", "guard"]
    assert config.sinks[1].file == "/x/y"
    assert (config.sinks[2].timeout, config.sinks[2].command) == (0.5, ("/usr/bin/mail", "root"))
    assert (config.alerts[0].within, config.alerts[1].rules, config.alerts[1].every) == (
        10,
        ("no-private",),
        300,
    )


def test_an_alert_can_tell_each_match_at_once() -> None:
    config = parsed("alerts:\n  - {id: a, file: /x, on: policy, every: 0s}\n")
    assert config.alerts[0].every == 0


@pytest.mark.parametrize(
    ("text", "marked", "words"),
    [
        ("sinks: []\n", "a", "there is nothing to forward"),
        ("sinks:\n  - {id: a}\n", "{id: a}", 'one of "file" and "command" is needed'),
        (
            "sinks:\n  - {id: a, file: /x, command: [/x]}\n",
            "{id: a, file: /x, command: [/x]}",
            "and not both",
        ),
        ("sinks:\n  - {id: a, file: x}\n", "x", "not an absolute path"),
        ("sinks:\n  - {id: a, to: journald}\n", "to", "unknown key"),
        ("sinks:\n  - {id: a, file: /x, timeout: 10s}\n", "timeout", '"timeout" is for commands only'),
        ("sinks:\n  - {id: a, command: [mail]}\n", "mail", "not an absolute path"),
        ("sinks:\n  - {id: a, command: /bin/mail}\n", "/bin/mail", "must be a list"),
        ("sinks:\n  - {id: a, file: /x, querry: x}\n", "querry", 'did you mean "query"?'),
        ("sinks:\n  - {id: a, file: /x, query: 'ap:x'}\n", "'ap:x'", "no field is called ap"),
        ("sinks:\n  - {id: a, command: [/x], timeout: 10}\n", "10", "must be text"),
        ("sinks:\n  - {id: a, command: [/x], timeout: 10 s}\n", "10 s", "not a duration"),
        ("sinks:\n  - {id: a, command: [/x], timeout: 0s}\n", "0s", "must be longer than 0"),
        ("alerts:\n  - {id: a, file: /x, on: denials, within: 0h}\n", "0h", "must be longer than 0"),
        ("sinks:\n  - {id: a, file: /x, behind: 1G}\n", "behind", "unknown key"),
        ("checkpoints:\n  - {id: a, file: /x}\n", "checkpoints", "unknown key"),
        ("sinks:\n  - {id: a, file: /x}\n  - {id: a, file: /x}\n", "a", "taken already"),
        ("sinks:\n  - {file: /x}\n", "file", "has no id"),
        ("alerts:\n  - {id: a, file: /x, on: denial}\n", "denial", 'did you mean "denials"?'),
        ("alerts:\n  - {id: a, file: /x, on: rule}\n", "rule", 'needs the key "rules"'),
        ("alerts:\n  - {id: a, file: /x, on: query}\n", "query", 'needs the key "query"'),
        ("alerts:\n  - {id: a, file: /x, on: policy, query: 'app:x'}\n", "query", "has no query"),
        ("alerts:\n  - {id: a, file: /x, on: policy, more_than: 3}\n", "more_than", "on: denials only"),
        ("alerts:\n  - {id: a, file: /x, on: denials, more_than: 0}\n", "0", "at least 1"),
        ("state: here\nsinks:\n  - {id: a, file: /x}\n", "here", "not an absolute path"),
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
        parsed("sinks:\n  - {id: a}\nalerts:\n  - {id: b, file: /x, on: x}\nmore: 1\n")
    assert len(info.value.errors) == 3


@pytest.mark.parametrize(
    "text", [b"", b"- a\n", b"kind: [\n", b"apiVersion: policyfs/v1\nkind: Policy\n", b"\xff"]
)
def test_what_is_no_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(ForwardErrors):
        parse_config(SourceText("x", text))
