"""Plans as bytes: what a worker packs comes out the same, what only a hostile one sends does not."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.content import plans
from policyfs.content.plans import pack_plan, refusal, unpack_plan
from policyfs.content.workers.protocol import WireError
from policyfs.domain import Patch
from policyfs.redact.plan import Outcome, Plan, RemovedPart

SIZE = 100_000
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=plans.MAX_WORD)


@st.composite
def good_plans(draw) -> Plan:
    """Plans as a correct locator makes them for a file of SIZE bytes."""
    patches = []
    end = 0
    for _ in range(draw(st.integers(0, 6))):
        offset = end + draw(st.integers(0, 5000))
        data = draw(st.binary(min_size=1, max_size=40) | st.integers(1, 9000).map(bytes))
        patches.append(Patch(offset, data))
        end = offset + len(data)
    outcome = Outcome.PATCH if patches else draw(st.sampled_from([Outcome.CLEAN, Outcome.REFUSE]))
    findings = draw(
        st.lists(
            st.builds(RemovedPart, st.integers(0, 1000), st.integers(0, 1000), WORDS, WORDS, WORDS),
            max_size=4,
        )
    )
    return Plan(outcome, tuple(patches), tuple(findings), draw(WORDS))


@given(good_plans())
def test_a_plan_comes_out_as_it_went_in(plan):
    assert unpack_plan(pack_plan("image/jpeg", plan), SIZE) == ("image/jpeg", plan)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_plan_or_a_wire_error(payload):
    try:
        kind, plan = unpack_plan(payload, SIZE)
    except WireError:
        return
    assert kind
    assert all(patch.offset + len(patch.data) <= SIZE for patch in plan.patches)


@given(good_plans(), st.data())
def test_a_damaged_plan_still_lies_inside_the_file(plan, data):
    payload = bytearray(pack_plan("image/jpeg", plan))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, got = unpack_plan(bytes(payload), SIZE)
    except WireError:
        return
    end = 0
    for patch in got.patches:
        assert patch.offset >= end
        assert patch.data
        end = patch.offset + len(patch.data)
    assert end <= SIZE
    assert (got.outcome is Outcome.PATCH) == bool(got.patches)


def raw_plan(*patches: tuple[int, int, int, bytes], outcome: int = 1, count: int | None = None) -> bytes:
    """A payload by hand: (offset, size, form, data) per patch; form 1 repeats a byte, 0 is literal."""
    head = struct.pack("<H", 10) + b"image/jpeg"
    counts = struct.pack("<BII", outcome, 0, len(patches) if count is None else count)
    body = b"".join(
        struct.pack("<QQBB", offset, size, form, 0) + data for offset, size, form, data in patches
    )
    return head + counts + struct.pack("<H", 0) + body


def test_the_hand_made_payload_is_one():
    assert unpack_plan(raw_plan((1, 3, 2, b""), (5, 3, 1, b""), (8, 2, 0, b"ab")), 10)[1].patches == (
        Patch(1, zeros=3),
        Patch(5, b"\0\0\0"),
        Patch(8, b"ab"),
    )


@pytest.mark.parametrize(
    "payload",
    [
        raw_plan((8, 3, 1, b"")),  # beyond the end
        raw_plan((2**63, 1, 1, b"")),
        raw_plan((5, 2, 1, b""), (6, 1, 1, b"")),  # overlapping
        raw_plan((5, 1, 1, b""), (1, 1, 1, b"")),  # out of order
        raw_plan((5, 0, 1, b"")),  # empty
        raw_plan((5, 0, 2, b"")),
        raw_plan((8, 3, 2, b"")),
        raw_plan((5, 1, 3, b"")),  # of no known form
        raw_plan((0, 4, 0, b"abc")),  # cut short
        raw_plan((0, 1, 1, b"")) + b"x",  # too long
        raw_plan((0, 1, 1, b""), outcome=0),  # clean, with a patch
        raw_plan((0, 1, 1, b""), outcome=2),  # refused, with a patch
        raw_plan((0, 1, 1, b""), outcome=3),
        raw_plan(),  # a patch, without one
        raw_plan(count=2**32 - 1),
        b"",
        struct.pack("<H", 4) + b"jpeg" + raw_plan()[12:],  # no MIME type
        struct.pack("<H", 60_000) + b"i" * 60_000,
    ],
)
def test_hostile_plans_are_refused(payload):
    with pytest.raises(WireError):
        unpack_plan(payload, 10)


def test_a_hostile_plan_cannot_fill_the_memory():
    sizes = [plans.MAX_PATCH_BYTES, 1]
    payload = raw_plan((0, sizes[0], 1, b""), (sizes[0], sizes[1], 1, b""))
    with pytest.raises(WireError, match="too many bytes"):
        unpack_plan(payload, 2**40)


def test_large_zeroes_cost_nothing():
    """A video of 6 GiB behind a photo becomes zeros; nobody holds 6 GiB for that."""
    patches = tuple(Patch(1000 + number * 2**31, zeros=2**31) for number in range(3))
    payload = pack_plan("image/jpeg", Plan(Outcome.PATCH, patches, (), ""))
    assert len(payload) < 1000
    _, plan = unpack_plan(payload, 1000 + 3 * 2**31)
    assert plan.patches == patches


@pytest.mark.parametrize(
    "made",  # when its test runs: who runs tests forks often, and a large heap makes each fork dear
    [
        lambda: Plan(Outcome.PATCH, tuple(Patch(2 * n, b"a") for n in range(plans.MAX_PATCHES + 1)), (), ""),
        lambda: Plan(Outcome.PATCH, (Patch(0, b"a" * (plans.MAX_PATCH_BYTES + 1)),), (), ""),
        lambda: Plan(Outcome.CLEAN, (), (RemovedPart(0, 1, "a", "b", "c"),) * (plans.MAX_FINDINGS + 1), ""),
    ],
    ids=["patches", "bytes", "findings"],
)
def test_a_plan_beyond_the_limits_is_a_refusal(made):
    _, got = unpack_plan(pack_plan("image/jpeg", made()), SIZE)
    assert got.outcome is Outcome.REFUSE
    assert not got.patches
    assert ": more than policyfs can handle" in got.reason


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "Zürich \U0001f30d", "x" * 1000, "\x00"])
def test_texts_are_made_plain(text):
    plan = Plan(Outcome.CLEAN, (), (RemovedPart(0, 1, text, text, "location"),), text)
    _, got = unpack_plan(pack_plan("image/jpeg", plan), SIZE)
    for said in (got.reason, got.findings[0].container, got.findings[0].tag):
        assert said.isascii()
        assert said.isprintable()
        assert len(said) <= 500


def test_texts_that_are_not_plain_are_refused():
    payload = raw_plan().replace(b"image/jpeg", b"image/\x1bpeg")
    with pytest.raises(WireError):
        unpack_plan(payload, 10)


def test_a_refusal_changes_nothing():
    plan = refusal("because")
    assert (plan.outcome, plan.patches, plan.findings, plan.reason) == (Outcome.REFUSE, (), (), "because")


# ---------------------------------------------------------------- pieces

FILE = bytes(range(256)) * 200


def from_file(offset: int, size: int) -> bytes:
    return FILE[offset : offset + size]


def packed(*patches: Patch, kind: str = "image/jpeg") -> bytes:
    return pack_plan(kind, Plan(Outcome.PATCH, patches), from_file, len(FILE))


@st.composite
def patches_of_file(draw) -> tuple[Patch, ...]:
    """Patches of which most bytes are the file's own: kept, moved, blanked, and a few new ones."""
    found, end = [], 0
    for _ in range(draw(st.integers(1, 5))):
        start = end + draw(st.integers(0, 3000))
        data = b""
        for _ in range(draw(st.integers(1, 5))):
            at, size = draw(st.integers(0, 40_000)), draw(st.integers(1, 400))
            here = start + len(data)
            data += draw(
                st.sampled_from([FILE[here : here + size], FILE[at : at + size], b" " * size])
                | st.binary(min_size=1, max_size=30)
            )
        end = start + len(data)
        found.append(Patch(start, data))
    return tuple(found)


@given(patches_of_file())
def test_what_is_taken_apart_comes_out_whole(patches):
    _, plan = unpack_plan(packed(*patches), len(FILE), from_file)
    assert plan.patches == patches


def test_what_stands_in_the_file_is_not_sent():
    moved, kept = Patch(100, FILE[7:9000]), Patch(20_000, FILE[20_000:29_000])
    assert len(packed(moved, kept)) < 500
    _, plan = unpack_plan(packed(moved, kept), len(FILE), from_file)
    assert plan.patches == (moved, kept)


def noise(size: int) -> bytes:
    """Bytes that stand nowhere in FILE."""
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32 + 1))[:size]


@pytest.mark.parametrize(
    ("kind", "start", "most"),
    [
        ("image/jpeg", b"", 4096),
        ("image/png", b"\x89PNG\r\n\x1a\n", 1 << 18),
        ("image/png", b"GIF89a", 4096),
        ("application/pdf", b"%PDF-1.7", 1 << 20),
        ("application/pdf", b"\xff\xd8\xff", 4096),
    ],
)
def test_of_new_bytes_there_are_no_more_than_the_kind_needs(kind, start, most):
    """The daemon goes by how the file begins: a worker could call it what it likes.

    Attack F1.6: Have the worker put many bytes of its own into a file
    Guard: policyfs/content/pieces.py::literal_bytes_for
    Also: tests/attack/test_workers_lying.py::test_whatever_a_worker_says_harms_its_own_file_alone
    Without: tests/attack/test_workers_lying.py::test_new_bytes_are_shown_where_nobody_counts_them
    """
    data = start.ljust(1 << 21, b"\0")

    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    for size, fits in ((most, True), (most + 1, False)):
        patch = Patch(1000, noise(size))
        _, honest = unpack_plan(
            pack_plan(kind, Plan(Outcome.PATCH, (patch,)), read, len(data)), len(data), read
        )
        assert (honest.patches == (patch,)) is fits
        assert (honest.outcome is Outcome.REFUSE) is not fits
        liars = pack_plan(kind, Plan(Outcome.PATCH, (patch,)))
        if fits:
            assert unpack_plan(liars, len(data), read)[1].patches == (patch,)
        else:
            with pytest.raises(WireError, match="more new bytes"):
                unpack_plan(liars, len(data), read)


def test_repeated_bytes_spell_nothing():
    """One byte after the other, each repeated once, would be a literal in disguise."""
    payload = raw_plan(*((n, 1, 1, b"") for n in range(5000)))  # of zeros, which tell nothing
    assert len(unpack_plan(payload, 5000, from_file)[1].patches) == 5000
    head = payload[: -5000 * struct.calcsize("<QQBB")]
    spelled = head + b"".join(struct.pack("<QQBB", n, 1, 1, ord("A")) for n in range(5000))
    with pytest.raises(WireError, match="more new bytes"):
        unpack_plan(spelled, 5000, from_file)


@pytest.mark.parametrize(
    ("size", "origin"), [(plans.COPY_MIN - 1, 0), (plans.COPY_MIN, len(FILE) - 5), (plans.COPY_MIN, 1 << 63)]
)
def test_copies_that_are_too_short_or_from_outside(size, origin):
    payload = raw_plan((0, size, 3, struct.pack("<Q", origin)))
    with pytest.raises(WireError):
        unpack_plan(payload, len(FILE), from_file)


def test_what_is_remembered_has_no_copies():
    payload = raw_plan((0, 20, 3, struct.pack("<Q", 0)))
    with pytest.raises(WireError):
        unpack_plan(payload, len(FILE))
