"""What is behind a JPEG: videos of motion photos, Samsung's blocks, and everything else."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Found, TooMuchError
from policyfs.redact.core.patches import ByteSource, MemorySource, apply, in_order
from policyfs.redact.jpeg.jpeg import locate_jpeg
from policyfs.redact.jpeg.motion_photo import find_video
from policyfs.redact.jpeg.samsung_trailer import find_trailer
from tests.support.samples.inners import EACH, Plain
from tests.support.samples.jpegs import plain
from tests.support.samples.motion import VIDEO, blocks

SECRET = b"Zirbelstadt"


class Videos(Plain):
    """Remembers which files it was asked to look into, and finds the same in each."""

    def __init__(self, hide: Tells = Tells.LOCATION, *, understood: bool = True) -> None:
        super().__init__(hide)
        self.seen: list[tuple[str, bytes]] = []
        self.understood = understood

    def file(self, kind: str, source: ByteSource) -> Found | None:
        self.seen.append((kind, source.read(0, source.size)))
        return Found() if self.understood else None


def read(data: bytes, inner: Plain) -> bytes:
    found = locate_jpeg(MemorySource(data), inner)
    out = apply(data, in_order(found.patches, len(data)))
    again = locate_jpeg(MemorySource(out), inner)
    assert not in_order(again.patches, len(data))
    return out


@pytest.mark.parametrize("between", [b"", bytes(7), bytes(4096)])
def test_a_video_behind_the_picture_is_looked_into_and_stays(between):
    inner = Videos()
    data = plain() + between + VIDEO
    assert read(data, inner) == data
    assert inner.seen[0] == ("video/mp4", VIDEO)


@pytest.mark.parametrize("size", [16, 24, 256, 271, 512, 1024, 1279])
@pytest.mark.parametrize("photo", [plain(), plain()[:-2]], ids=["ended", "not ended"])
def test_a_video_is_found_whatever_the_size_of_its_first_box(photo, size):
    inner = Videos()
    first = size.to_bytes(4, "big") + VIDEO[4:16] + b"isom" * (size // 4 - 4) + bytes(size % 4)
    data = photo + first + VIDEO[24:]
    assert read(data, inner).startswith(photo)
    assert inner.seen[0] == ("video/mp4", data[len(photo) :])


def test_what_is_around_a_video_goes():
    data = plain() + SECRET + VIDEO + SECRET
    assert read(data, Videos()) == plain() + bytes(len(SECRET)) + VIDEO + bytes(len(SECRET))


def test_a_video_that_nobody_understands_goes():
    data = plain() + VIDEO
    inner = Videos(understood=False)
    assert read(data, inner) == plain() + bytes(len(VIDEO))
    (note,) = locate_jpeg(MemorySource(data), inner).notes
    assert (note.offset, note.length, note.broken) == (len(plain()), len(VIDEO), True)


@pytest.mark.parametrize(
    ("brand", "kind"), [(b"qt  ", "video/quicktime"), (b"heic", "image/heic"), (b"isom", "video/mp4")]
)
def test_files_of_boxes_are_told_by_their_brand(brand, kind):
    inner = Videos()
    read(plain() + VIDEO[:8] + brand + VIDEO[12:], inner)
    assert inner.seen[0][0] == kind


def test_pictures_behind_a_video_and_videos_behind_pictures():
    data = plain() + plain(2, 16) + VIDEO + plain(3, 16) + VIDEO
    inner = Videos()
    assert read(data, inner) == data
    assert [seen[1] for seen in inner.seen[:2]] == [VIDEO, VIDEO]


@pytest.mark.parametrize("mark", [b"LIVE_44", b"v2_f30:0          LIVE_44     ", b"v3_f7 LIVE_44\0\0"])
def test_the_mark_of_a_motion_photo_at_the_end_stays(mark):
    data = plain() + VIDEO + mark
    assert read(data, Videos()) == data
    assert read(plain() + VIDEO + SECRET + mark, Videos()) == plain() + VIDEO + bytes(len(SECRET)) + mark
    assert read(plain() + VIDEO + mark + SECRET, Videos()).endswith(bytes(len(mark + SECRET)))


def test_only_a_few_videos():
    data = plain() + (VIDEO + SECRET) * 6
    out = read(data, Videos())
    assert out.count(VIDEO) == 4
    assert SECRET not in out


def test_a_file_of_boxes_ends_where_another_starts():
    """What is behind it may become zeros, which are none of its boxes any more."""
    inner = Videos()
    data = plain() + VIDEO + b"\0\0\xff\xffftyp\1\1\1\1" + SECRET
    assert read(data, inner) == plain() + VIDEO + bytes(12 + len(SECRET))
    assert [seen[1] for seen in inner.seen] == [VIDEO, VIDEO]
    assert read(plain() + VIDEO + VIDEO, inner := Videos())
    assert [seen[1] for seen in inner.seen[:2]] == [VIDEO, VIDEO]


def test_a_video_across_the_borders_of_chunks():
    source = MemorySource(bytes((1 << 20) - 9) + VIDEO)
    found = find_video(source, 0, source.size, Budget(100, 1 << 22))
    assert found is not None
    assert source.read(found.start, found.end - found.start) == VIDEO


def test_the_search_for_a_video_is_counted():
    with pytest.raises(TooMuchError):
        find_video(MemorySource(b"x" * 100), 0, 100, Budget(100, 99))
    with pytest.raises(TooMuchError):
        find_video(MemorySource(bytes(100)), 0, 100, Budget(100, 199))
    assert find_video(MemorySource(bytes(100)), 0, 100, Budget(100, 200)) is None


def test_a_picture_without_an_end_does_not_go_on_into_the_video():
    """Its bytes would pass for compressed picture data up to the next marker."""
    inner = Videos(understood=False)
    data = plain()[:-2] + VIDEO
    assert read(data, inner) == plain()[:-2] + bytes(len(VIDEO))
    inner = Videos()
    assert read(data, inner) == data
    assert inner.seen[0] == ("video/mp4", VIDEO)


@pytest.mark.parametrize("before", [b"", plain()])
@pytest.mark.parametrize("like", [b"\xff\xd9", b"\xff\xda\0\x08\1\1\0\0\x3f\0ab\xff\xd9"])
def test_nor_up_to_what_looks_like_an_end_there(before, like):
    video = VIDEO + b"\0\0\0\x40free" + SECRET + like.ljust(56 - len(SECRET), b"\0")
    for end in (b"", b"\xff\xd3", b"\xff\xd3" + bytes(100)):
        data = before + plain()[:-2] + end + video
        inner = Videos()
        read(data, inner)
        assert inner.seen[0] == ("video/mp4", video)
        assert SECRET not in read(data, Videos(understood=False))


@pytest.mark.parametrize("behind", [b"", SECRET, b"\xff\xd8\xff\xd9"])
def test_what_comes_to_be_the_mark_of_a_motion_photo_within_something_else_is_none(behind):
    """Of a scan's header, or a video: what is behind it, until it is zeros, says that it is none."""
    mark = b"LIVE_1234567"
    video = VIDEO + b"\0\0\0\x14free" + mark
    assert read(plain() + video + behind, Videos()) == plain() + video + bytes(len(behind))
    head = plain()
    read(head[: head.index(b"\xff\xda") + 6] + mark + behind, Videos())
    read(head[:-2] + b"\xff\xd3junk" + VIDEO + mark + behind, Videos(understood=False))
    read(head[: head.index(b"\xff\xda")] + mark + behind, Videos())  # an end comes to be where it begins


def test_fill_bytes_in_front_of_what_is_no_marker_go_with_it():
    data = plain()[:-2] + b"\xff\xd0" + b"\xff\xff\xff\x02" + SECRET
    out = read(data, Videos())
    assert SECRET not in out
    assert out[: len(plain()) - 2] == plain()[:-2]


def test_nor_into_blocks():
    data = plain()[:-2] + sef(*ALL)
    assert b"Zirbelstadt" not in read(data, Videos())


# --- Samsung's blocks ---

ALL = [
    (0x0A01, b"Image_UTC_Data", b"1715937753123", Tells.TIME),
    (0x0AA1, b"MCC_Data", b"232", Tells.LOCATION),
    (0x0A30, b"MotionPhoto_Data", VIDEO, Tells(0)),
    (0x0A20, b"FlipPhoto_002", plain(2, 16), Tells.OTHER),
    (0x09E0, b"Burst_Shot_Info", b"489489125", Tells.DEVICE | Tells.TIME),
    (0x0BA1, b"PhotoEditor_Re_Edit_Data", b'{"originalPath":"Zirbelstadt"}', UNKNOWN),
]


def sef(*parts) -> bytes:
    return blocks([(number, name, data) for number, name, data, _ in parts])


@pytest.mark.parametrize("word", EACH)
def test_blocks_go_with_their_words(word):
    data = plain() + sef(*ALL)
    inner = Videos(EACH[word])
    out = read(data, inner)
    for number, name, held, tells in ALL:
        stays = not tells & EACH[word]
        assert (held in out) == stays, name
        assert (name in out) == stays, name
        assert out.count(number.to_bytes(2, "little") + len(name).to_bytes(4, "little")) == stays
    assert inner.seen[0] == ("video/mp4", VIDEO)
    assert out[: len(plain())] == plain()


def test_a_trailer_without_its_words_stays():
    data = plain() + sef(*ALL[:3])
    assert read(data, Videos(Tells.PEOPLE)) == data


def test_what_is_in_front_of_blocks_and_behind_the_directory_goes():
    trailer = sef(*ALL[2:3])
    length = int.from_bytes(trailer[-8:-4], "little") + len(SECRET)
    longer = trailer[:-8] + SECRET + length.to_bytes(4, "little") + b"SEFT"
    out = read(plain() + SECRET + longer, Videos(Tells.DEVICE))
    assert SECRET not in out
    assert VIDEO in out


@pytest.mark.parametrize("at", range(-40, 0))
@pytest.mark.parametrize("value", [b"\0", b"\xff", b"\x7f"])
def test_damaged_directories(at, value):
    """Whatever it says: nothing behind the picture is read as something that it is not."""
    data = bytearray(plain() + sef(*ALL[:2]))
    data[len(data) + at] = value[0]
    read(bytes(data), Videos(Tells.LOCATION))


def test_blocks_that_overlap_are_no_trailer():
    data = bytearray(plain() + sef(*ALL[:2]))
    directory = data.rindex(b"SEFH")
    data[directory + 12 + 12 + 4 : directory + 12 + 12 + 8] = data[directory + 16 : directory + 20]
    assert find_trailer(MemorySource(bytes(data)), len(plain())) is None
    assert not any(read(bytes(data), Videos())[len(plain()) :])
