"""Files of accepted changes."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.accepted import parse_accepted
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: AcceptedChanges\n"


def parsed(text: str) -> dict[str, str]:
    return parse_accepted(SourceText("ack.yaml", text.encode()))


def test_changes_and_reasons():
    text = HEAD + "accepted:\n  - {change: c1, because: asked for, by: me}\n"
    assert parsed(text) == {"c1": "asked for"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD + "accepted:\n  - {change: c1}\n", "accepted change number 1: because is missing"),
        (HEAD + "accepted:\n  - {change: c1, because: x, why: y}\n", 'unknown key "why"'),
        (HEAD.replace("Accepted", "Excepted") + "accepted: []\n", 'kind "ExceptedChanges" is not known'),
        (HEAD, "accepted is missing"),
        ("", "the file is empty"),
    ],
)
def test_faults_are_shown_at_their_place(text, complaint):
    with pytest.raises(PolicyErrors) as caught:
        parsed(text)
    assert str(caught.value).startswith("the file of accepted changes has errors: ")
    assert complaint in str(caught.value)
    assert "ack.yaml:" in str(caught.value)
