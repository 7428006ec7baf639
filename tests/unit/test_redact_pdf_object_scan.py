"""Objects of a PDF, found without its tables."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.pdf.object_scan import HEAD_BYTES, MAX_FILE_BYTES, MAX_OBJECTS, MAX_VALUE_BYTES, Scan

HEAD = b"%PDF-1.7\n"
TAIL = b"trailer\n<</Size 3>>\nstartxref\n99\n%%EOF\n"


def scan_of(data: bytes) -> Scan:
    return Scan(MemorySource(data), Budget(1000, 1 << 26))


def items(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """The numbers, values and streams of what is found."""
    return [
        (
            item.number,
            data[item.start + node.start : item.start + node.end],
            data[item.data : item.data_end] if item.data else b"",
        )
        for item, node in list(scan_of(data).items())
    ]


def test_objects_and_trailers_in_their_order():
    data = HEAD + b"7 0 obj<</A 1>>endobj\n 12 3 obj\n(x)\nendobj\n" + TAIL + b"3 0 obj null endobj"
    assert items(data) == [
        (7, b"<</A 1>>", b""),
        (12, b"(x)", b""),
        (-1, b"<</Size 3>>", b""),
        (3, b"null", b""),
    ]


def test_bytes_in_between_are_junk():
    data = HEAD + b"hidden 1 0 obj 5 endobj more\n" + TAIL + b"behind"
    scan = scan_of(data)
    assert len(list(scan.items())) == 2
    assert [data[start:end] for start, end in scan.junk] == [b"hidden ", b"more\n", b"behind"]


def test_junk_that_goes_on_is_one_range():
    """Before, a first per cent sign stayed as a constant comment, and went in a second redaction."""
    scan = scan_of(HEAD + TAIL + b"%%%EOF%EOF\n")
    list(scan.items())
    assert [end - start for start, end in scan.junk] == [11]


def test_the_binary_comment_behind_the_head_is_no_junk():
    high = b"%\xe2\xe3\xcf\xd3"
    many = b"%" + b"\xe2" * 17 + b"\n"
    matplotlib = b"%\xac\xdc \xab\xba\n"
    marks = ((high + b"\n", 0), (high + b" \r\n", 0), (matplotlib, 0), (b"%\xe2\n", 1), (many, 1))
    for mark, junk in marks:
        scan = scan_of(HEAD + mark + b"1 0 obj 5 endobj\n")
        list(scan.items())
        assert len(scan.junk) == junk


def test_an_object_may_follow_the_end_of_another_one_at_once():
    scan = scan_of(HEAD + b"1 0 obj 5 endobj2 0 obj 6 endobj3 more\n" + TAIL)
    assert len(list(scan.items())) == 3
    assert len(scan.junk) == 1


@pytest.mark.parametrize("version", [b"1.7", b"1.", b"14", b"1", b"2.0"])
def test_a_header_may_lack_a_part_of_its_version(version):
    scan = scan_of(b"%PDF-" + version + b"\n1 0 obj 5 endobj\n")
    list(scan.items())
    assert not scan.junk
    scan = scan_of(b"%PDF-" + version + b" 47.80453\n1 0 obj 5 endobj\n")
    list(scan.items())
    assert len(scan.junk) == 1


@pytest.mark.parametrize("before", [b"", b"x" * (HEAD_BYTES - 5), b"x" * (HEAD_BYTES - 4)])
def test_the_mark_is_in_the_first_kilobyte(before):
    data = before + HEAD + b"1 0 obj 5 endobj\n"
    if len(before) + 5 <= HEAD_BYTES:
        assert items(data) == [(1, b"5", b"")]
    else:
        with pytest.raises(NotThisKindError):
            items(data)


def stream(
    length: bytes, data: bytes = b"0 0 m", end: bytes = b"\nendstream endobj\n", start: bytes = b"\n"
) -> bytes:
    return b"1 0 obj<</Length " + length + b">>stream" + start + data + end


@pytest.mark.parametrize("start", [b"\n", b"\r\n", b"\r"])
def test_streams(start):
    assert items(HEAD + stream(b"5", start=start))[0][2] == b"0 0 m"


@pytest.mark.parametrize("gap", [b" %quince\n", b"%a\r\n\n%b\r", b"%" + b"q" * 1000 + b"\n"])
def test_a_comment_may_be_before_a_stream(gap):
    data = HEAD + stream(b"5").replace(b">>stream", b">>" + gap + b"stream")
    scan = scan_of(data)
    (item, _), *others = list(scan.items())
    assert not others
    assert not scan.junk
    assert data[item.data : item.data_end] == b"0 0 m"
    assert b"".join(data[start:end] for start, end in scan.comments) == gap.translate(None, b"\r\n ")


def test_a_stream_may_hold_what_looks_like_its_end():
    data = b"a endstream endobj b"
    assert items(HEAD + stream(b"20", data))[0][2] == data


@pytest.mark.parametrize("length", [b"4", b"99", b"-5", b"5.0", b"(5)", b"9 0 R"])
def test_a_stream_is_as_long_as_it_says(length):
    data = HEAD + stream(length) + (b"9 0 obj 11 endobj\n" if length == b"9 0 R" else b"")
    with pytest.raises(NotThisKindError):
        items(data)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("length", [5, 6])
def test_a_length_of_its_own(before, length):
    """It may count the line's end before endstream."""
    number = b"9 0 obj %d endobj\n" % length
    data = HEAD + (number if before else b"") + stream(b"9 0 R") + (b"" if before else number)
    assert next(found for found in items(data) if found[0] == 1)[2] == b"0 0 m\n"[:length]


def test_a_length_that_is_no_object_of_the_file_is_left_to_the_caller():
    scan = scan_of(HEAD + stream(b"9 0 R"))
    list(scan.items())
    assert [number for number, _ in scan.unsure] == [9]
    scan.agree(scan.unsure, {9: {77, 5}})
    with pytest.raises(NotThisKindError):
        scan.agree(scan.unsure, {9: {77}})


@pytest.mark.parametrize("at", [2000, 2040, 2048, 2100, 9000, 300_000])
def test_an_end_is_found_wherever_it_lies(at):
    data = HEAD + stream(b"9 0 R", b"x" * at) + b"9 0 obj %d endobj\n" % at
    assert len(items(data)[0][2]) == at


@pytest.mark.parametrize("size", [1000, 2010, 2048, 9000, 200_000])
def test_a_value_of_any_length(size):
    data = HEAD + b"1 0 obj(" + b"x" * size + b")endobj\n" + TAIL
    assert len(items(data)[0][1]) == size + 2


def test_values_and_files_are_bounded():
    with pytest.raises(TooMuchError):
        items(HEAD + b"1 0 obj(" + b"x" * MAX_VALUE_BYTES + b")endobj\n" + bytes(MAX_VALUE_BYTES) * 4)
    with pytest.raises(TooMuchError):
        items(HEAD + b"1 0 obj 1 endobj\n" * (MAX_OBJECTS + 1))

    class Large(MemorySource):
        @property
        def size(self) -> int:
            return MAX_FILE_BYTES + 1

    with pytest.raises(TooMuchError):
        list(Scan(Large(HEAD), Budget(9, 9)).items())


@pytest.mark.parametrize("value", [b"<</A", b"(a", b"[1", b"", b">>", b"<</A>>"])
def test_an_object_that_is_cut_off_or_malformed(value):
    with pytest.raises(NotThisKindError):
        items(HEAD + b"1 0 obj " + value)


def test_a_table_ends_where_an_object_begins():
    table = b"xref\n0 1\n0000000000 65535 f \n"
    for between in (b"", b"\n"):
        data = HEAD + table + between + b"4 0 obj 5 endobj\n"
        scan = scan_of(data)
        assert [item.number for item, _ in scan.items()] == [4]
        assert not scan.junk


@pytest.mark.parametrize("before", [0, 200, (1 << 18) - 9, (1 << 18) - 7, (1 << 18) - 3, 1 << 18])
def test_an_object_inside_is_found_wherever_it_is(before):
    data = b"x" * before + b" 9 0 obj." + b"x" * 100
    with pytest.raises(NotThisKindError):
        scan_of(data).check_inside(0, len(data))
    scan_of(data).check_inside(before + 2, len(data))
    scan_of(data).check_inside(0, before + 7)


@pytest.mark.parametrize("text", [b" obj", b"\n%1\nobj", b"trailer ", b"1 " + b" " * 4000 + b"obj\n%"])
def test_the_search_inside_an_object_is_bounded(text):
    data = text * ((40 << 20) // len(text))
    with pytest.raises(TooMuchError):
        scan_of(data).check_inside(0, len(data))
