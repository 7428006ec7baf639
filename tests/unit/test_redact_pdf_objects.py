"""PDF's objects as text: tokens, trees, strings, and where a text is cut off."""

from __future__ import annotations

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.pdf.keys import edit
from policyfs.redact.pdf.objects import (
    MAX_DEPTH,
    MAX_TOKENS,
    CutOffError,
    MalformedError,
    Reader,
    blank_string,
    decoded_name,
    string_bytes,
)
from tests.support.machine.counts import PATIENCE


def outline(text: bytes) -> object:
    """What is read, as Python's values."""

    def plain(node):
        if node.kind == "dict":
            return {key.decode(): plain(value) for key, _, value in node.members}
        if node.kind == "array":
            return [plain(item) for item in node.items]
        return ("ref", node.number) if node.kind == "ref" else (node.kind, node.text)

    return plain(Reader(text).value())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"12 ", ("word", b"12")),
        (b"12 0 R ", ("ref", 12)),
        (b"12\n0\0R ", ("ref", 12)),
        (b"[12 0 Rx]", [("word", b"12"), ("word", b"0"), ("word", b"Rx")]),
        (b"[12 0]", [("word", b"12"), ("word", b"0")]),
        (b"/Name ", ("name", b"Name")),
        (b"/ ", ("name", b"")),
        (b"<</A/B/C[1 2]>>", {"A": ("name", b"B"), "C": [("word", b"1"), ("word", b"2")]}),
        (b"<< >> ", {}),
        (b"[] ", []),
        (b"% a comment\n true ", ("word", b"true")),
        (b"(a (b) c) ", ("string", b"(a (b) c)")),
        (b"(a \\) b) ", ("string", b"(a \\) b)")),
        (b"(a \\\\) b) ", ("string", b"(a \\\\)")),
        (b"<0aF> ", ("string", b"<0aF>")),
        (b"<<>>", {}),
    ],
)
def test_values(text, expected):
    assert outline(text) == expected


@pytest.mark.parametrize(
    "text", [b"", b"<", b"<<", b"<</A", b"[1 2", b"(a", b"(a (b)", b"(a \\", b"<0a", b"  ", b"% a comment"]
)
def test_a_value_cut_off(text):
    with pytest.raises(CutOffError):
        Reader(text).value()


@pytest.mark.parametrize("text", [b">> ", b"] ", b"<<1 2>>", b"<</A>>", b"[>>]", b"<0ag> ", b"{} ", b") a"])
def test_what_is_no_value(text):
    with pytest.raises(MalformedError) as caught:
        Reader(text).value()
    assert not isinstance(caught.value, CutOffError)


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b"<</A", b">>"), (b"(", b")")])
def test_depth_is_bounded(opened, closed):
    deepest = MAX_DEPTH if opened == b"(" else MAX_DEPTH - 1
    Reader(opened * deepest + b" 1 " + closed * deepest).value()
    with pytest.raises(MalformedError):
        Reader(opened * (MAX_DEPTH + 1) + b" 1 " + closed * (MAX_DEPTH + 1)).value()


def test_tokens_are_bounded_over_all_values():
    reader = Reader(b"1 2 3 ", tokens=MAX_TOKENS - 2)
    assert [reader.value().text, reader.value().text] == [b"1", b"2"]
    with pytest.raises(TooMuchError):
        reader.value()


def test_places_are_those_of_the_text():
    text = b"  <</A (b) %c\n/D[1]>> x"
    reader = Reader(text)
    node = reader.value()
    assert text[node.start : node.end] == b"<</A (b) %c\n/D[1]>>"
    assert [text[at : at + 2] for _, at, _ in node.members] == [b"/A", b"/D"]
    assert [text[value.start : value.end] for _, _, value in node.members] == [b"(b)", b"[1]"]
    assert [text[start:end] for start, end in reader.comments] == [b"%c"]


def test_the_last_of_two_equal_keys_counts():
    node = Reader(b"<</A 1/A/Two/B 3/C -4/D 1.5/E 1234567890123>>").value()
    assert node.name(b"A") == b"Two"
    assert node.name(b"B") == b""
    assert [node.integer(key) for key in (b"A", b"B", b"C", b"D", b"E", b"F")] == [
        None,
        3,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"(a\\nb)", b"a\nb"),
        (b"(\\101\\7\\0101)", b"A\7\x081"),
        (b"(\\777)", b"\xff"),
        (b"(a\\\r\nb\\\nc\\\rd)", b"abcd"),
        (b"(\\(\\)\\\\)", b"()\\"),
        (b"(\\x)", b"x"),
        (b"<414 2>", b"AB"),
        (b"<4>", b"@"),
        (b"<>", b""),
        (b"()", b""),
    ],
)
def test_what_a_string_says(raw, said):
    assert string_bytes(raw) == said
    blank = blank_string(raw)
    assert len(blank) == len(raw)
    assert not string_bytes(blank).strip(b"\0 ")


@given(st.binary(max_size=60))
def test_any_bytes_survive_in_a_string(data):
    escaped = data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    for raw in (b"(" + escaped + b")", b"<" + data.hex().encode() + b">"):
        node = Reader(raw + b" ").value()
        assert node.text == raw
        assert string_bytes(raw) == data


@pytest.mark.parametrize(
    ("raw", "name"), [(b"/A#42c", b"ABc"), (b"/#4", b"#4"), (b"/A#zz", b"A#zz"), (b"/", b"")]
)
def test_names(raw, name):
    assert decoded_name(raw) == name


def test_the_last_value_of_a_key_counts():
    node = Reader(b"<</A 1/B 2/A 3>>").value()
    assert [node.integer(key) for key in (b"A", b"B", b"C")] == [3, 2, None]
    assert Reader(b"<<>>").value().get(b"A") is None


def test_a_dictionary_with_very_many_entries_takes_no_second():
    """As the destinations of a long book."""
    text = b"<<" + b"".join(b"/K%d 1" % number for number in range(30_000)) + b">>"
    begin = thread_time()
    node = Reader(text).value()
    assert not edit(node, Tells.LOCATION, Budget(100, 100)).blanks
    assert thread_time() - begin < 1.5 * PATIENCE
