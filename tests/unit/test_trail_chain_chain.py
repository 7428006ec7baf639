"""The seal of a line, by the definition in docs/audit.md."""

from __future__ import annotations

import hashlib

import pytest

from policyfs.trail.chain.chain import GENESIS, digest, seal, seq_of, split

BODY = b'{"type":"gap","seq":12,"time":"x"'


def test_the_digest_is_over_the_previous_one_and_the_body() -> None:
    line, chain = seal(GENESIS, BODY)
    assert chain == hashlib.sha256(b"0" * 64 + BODY).hexdigest() == digest(GENESIS, BODY)
    assert line == BODY + b',"chain":"' + chain.encode() + b'"}\n'


def test_split_takes_apart_what_seal_made() -> None:
    line, chain = seal(GENESIS, BODY)
    assert split(line[:-1]) == (BODY, chain)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"\0" * 200,
        BODY + b',"chain":"' + b"0" * 63 + b'"}',
        BODY + b',"chain":"' + b"G" * 64 + b'"}',
        BODY + b',"chain":"' + b"A" * 64 + b'"}',
        BODY + b',"chain":"' + b"0" * 64 + b'" }',
        b"x" + BODY + b',"chain":"' + b"0" * 64 + b'"}',
        BODY + b',"chain":"' + b"0" * 64 + b'"}\n',
    ],
)
def test_split_refuses_every_other_form(line: bytes) -> None:
    assert split(line) is None


def test_seq_is_found_only_where_it_belongs() -> None:
    assert seq_of(BODY) == 12
    assert seq_of(b'{"seq":12,"type":"gap"') is None
    assert seq_of(b'{"type":"gap","seq":1234567890123456789012,') is None
