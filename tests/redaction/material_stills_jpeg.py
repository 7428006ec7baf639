"""JPEGs as phones, cameras and photo software leave them, with facts of every word in every block."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.redaction.samples import Sample, pixels
from tests.support.samples import jpegs, media, motion
from tests.support.samples.jpegs import segment, with_segments
from tests.support.samples.media import run

KIND: Final = "image/jpeg"

PLACE: Final = {
    **media.place_tags(media.HOME),
    "XMP-iptcCore:CreatorCity": "Brombeerfeld",
    "XMP-iptcCore:CreatorAddress": "Haselgasse 12",
    "XMP-iptcExt:LocationShownSublocation": "Ebereschenhof",
}
DEVICE: Final = {
    "EXIF:Make": "Testmaker",
    "EXIF:Model": "Modell 7",
    "EXIF:Software": "Quillpaint 7.1",
    "EXIF:HostComputer": "hostpc-9321",
    "EXIF:SerialNumber": "SN00471199",
    "EXIF:LensMake": "Linsenwerk",
    "EXIF:LensModel": "Heliar 35-70",
    "EXIF:LensSerialNumber": "LN77120034",
    "EXIF:LensInfo": "35 70 2.8 4.5",
    "EXIF:ImageUniqueID": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "XMP-aux:SerialNumber": "AUX552211",
    "XMP-aux:Lens": "Heliar aux 35",
    "XMP-aux:Firmware": "Fw 1.2.77",
    "XMP-exifEX:SerialNumber": "EX9917733",
    "XMP-exifEX:LensModel": "Heliar ex 35",
    "XMP-xmp:CreatorTool": "Quillpaint XMP 7.2",
    "XMP-xmpMM:DocumentID": "xmp.did:4711aa",
    "XMP-xmpMM:InstanceID": "xmp.iid:4711bb",
    "XMP-xmpMM:OriginalDocumentID": "xmp.did:4711cc",
    "XMP-xmpMM:HistorySoftwareAgent": "Quillagent 3",
    "XMP-xmpMM:DerivedFromDocumentID": "xmp.did:4711dd",
    "XMP-tiff:Make": "Testmaker XMP",
    "XMP-tiff:Model": "Modell XMP",
    "XMP-crs:CameraProfile": "Quillprofile 9",
    "XMP-dc:Identifier": "urn:quill:88213",
    "IPTC:OriginatingProgram": "Quillwire",
    "IPTC:ProgramVersion": "v3.99",
}
TIME: Final = {
    "EXIF:DateTimeOriginal": "2019:03:04 05:06:07",
    "EXIF:CreateDate": "2019:03:05 05:06:08",
    "EXIF:ModifyDate": "2019:03:06 05:06:09",
    "EXIF:SubSecTimeOriginal": "48213",
    "EXIF:OffsetTimeOriginal": "+05:45",
    "XMP-xmp:CreateDate": "2018:01:02 03:04:05",
    "XMP-xmp:ModifyDate": "2018:01:03 03:04:06",
    "XMP-xmp:MetadataDate": "2018:01:04 03:04:07",
    "XMP-photoshop:DateCreated": "2018:01:05 03:04:08",
    "XMP-exif:DateTimeOriginal": "2018:01:06 03:04:09",
    "XMP-xmpMM:HistoryWhen": "2018:01:07 03:04:10",
    "XMP-dc:Date": "2018:01:08",
    "IPTC:DateCreated": "2017:05:06",
    "IPTC:TimeCreated": "07:08:09",
    "IPTC:DigitalCreationDate": "2017:05:07",
}
PEOPLE: Final = {
    "EXIF:Artist": "Rosa Kamera",
    "EXIF:Copyright": "Rosa Rechte 99",
    "EXIF:ImageDescription": "a quince on a table",
    "EXIF:UserComment": "for Aunt Hildegund",
    "EXIF:XPComment": "from Cousin Wunibald",
    "EXIF:XPKeywords": "Familienfest",
    "XMP-dc:Title": "Quincemorning",
    "XMP-dc:Description": "Otto peels a quince",
    "XMP-dc:Creator": "Rosa Creatrix",
    "XMP-dc:Subject": "Obstkeyword",
    "XMP-dc:Rights": "Rosa Rights XMP",
    "XMP-iptcExt:PersonInImage": "Ottokar Quitt",
    "XMP-iptcCore:CreatorWorkEmail": "rosa@kamera.example",
    "XMP-photoshop:Headline": "Quinceheadline",
    "XMP-photoshop:Credit": "Rosa Credit",
    "XMP-mwg-rs:RegionName": "Friederike",
    "XMP-mwg-rs:RegionType": "Face",
    "XMP-MP:RegionPersonDisplayName": "Balduin",
    "XMP-lr:HierarchicalSubject": "Familie|Adalbert",
    "XMP-xmpRights:Owner": "Rosa Ownership",
    "XMP-digiKam:TagsList": "Leute/Kunigunde",
    "IPTC:By-line": "Rosa Byline",
    "IPTC:Caption-Abstract": "IIM caption quince",
    "IPTC:Keywords": "IIMkeyword",
    "IPTC:CopyrightNotice": "Rosa IIM rights",
    "Photoshop:CopyrightFlag": "True",
    "Photoshop:URL": "http://rosa.example/",
}
REST: Final = {
    "EXIF:ISO": "200",
    "EXIF:ExposureTime": "1/125",
    "EXIF:Orientation#": "6",
    "EXIF:OwnerName": "Rosa Eigner",
    "XMP-xmp:Rating": "4",
    "XMP-crs:Exposure2012": "+0.50",
    "XMP-exif:FNumber": "2.8",
    "JFIF:XResolution": "96",
}
_UNFINDABLE: Final = frozenset({"35 70 2.8 4.5", "True", "Face", "2018:01:08"})
TOLD: Final = {
    "location": ("47.804531", "13.042287", *media.HOME.names, "Brombeerfeld", "Haselgasse 12",
                 "Ebereschenhof"),
    "device": (*(v for v in DEVICE.values() if v not in _UNFINDABLE), "Rosa Eigner"),
    "time": ("2019:03:04 05:06:07", "2019:03:05", "2019:03:06", "48213", "+05:45", "2018:01:02 03:04:05",
             "2018:01:03", "2018:01:04", "2018:01:05", "2018:01:06", "2018:01:07", "2017:05:06",
             "2017:05:07"),
    "people": (*(v for v in PEOPLE.values() if v not in _UNFINDABLE), "Rosa Eigner", "Haselgasse 12",
               "Brombeerfeld"),
}  # fmt: skip
MAGICK: Final = {"Adobe": "the colour transform", "File:Comment": "says which library made it"}
_WORDED: Final = dict.fromkeys(("IFD0", "ExifIFD", "XMP-dc", "XMP-photoshop", "IPTC"), "texts with places")
STRUCTURES: Final = {
    "XMP-iptcCore:CreatorCity": "goes with the creator's contact, which tells of people",
    "XMP-iptcCore:CreatorAddress": "goes with the creator's contact, which tells of people",
    "XMP-x:XMPToolkit": "names a program",
}


def rich(path: Path, *, size: int = 160) -> Path:
    """A photo with a thumbnail and all tags above."""
    media.photo(path, width=size, height=size * 3 // 4)
    media.write_tags(path, PLACE | DEVICE | TIME | PEOPLE | REST)
    return path


def sample(name: str, path: Path, **more: object) -> Sample:
    return Sample(name, KIND, path, TOLD, extra=STRUCTURES | MAGICK, **more)  # type: ignore[arg-type]


def samples(directory: Path) -> Iterator[Sample]:
    """Photos; what encoders and editors make of them; what is behind them."""
    source = rich(directory / "rich.jpg")
    yield sample("a photo with everything", source)
    yield from _encoded(directory, source)
    yield from _composed(directory, source)
    yield from _several(directory, source)
    yield from _moving(directory, source)
    yield _worded(directory / "worded.jpg")


def _worded(path: Path) -> Sample:
    """Places in captions and comments, in words, as links and in other scripts."""
    texts = {
        "EXIF:UserComment": "47 degrees 48 minutes 16 seconds north",
        "EXIF:ImageDescription": "https://plus.codes/8FVFR22R%2BRW",
        "EXIF:XPComment": "٤٧٫٨٠٤٥٣، ١٣٫٠٤٢٢٩",
        "XMP-dc:Description": "北緯47度48分 東経13度2分",
        "XMP-dc:Title": "+4748.272+01302.537/",
        "XMP-photoshop:Headline": "///quince.table.morning",
        "IPTC:Caption-Abstract": "UTM 33U 353000 5297000",
        "XMP-dc:Rights": base64.b64encode(b'{"lat":47.804531,"lng":13.042287}').decode(),
        "EXIF:Copyright": b"47.804531, 13.042287".hex(),
    }
    media.write_tags(media.photo(path, place=None), texts)
    told = dict.fromkeys(("location", "people"), tuple(texts.values()))
    return Sample("places in words", KIND, path, told, extra=_WORDED)


def _encoded(directory: Path, source: Path) -> Iterator[Sample]:
    path = directory / "progressive.jpg"
    with path.open("wb") as out:
        command = ["jpegtran", "-copy", "all", "-progressive", "-restart", "1B", str(source)]
        subprocess.run(command, stdout=out, check=True, timeout=30)
    yield sample("progressive, with restarts, by jpegtran", path, shown=_by_djpeg)
    path = directory / "magick.jpg"
    run("convert", str(source), "-colorspace", "CMYK", "-quality", "80", str(path))
    yield sample("CMYK by ImageMagick", path)


def _by_djpeg(path: Path) -> str:
    return jpegs.pixels(path.read_bytes()).hex()


def _composed(directory: Path, source: Path) -> Iterator[Sample]:
    """Makers' own segments, and a trailer."""
    private = {
        0xE1: b"FLIR\0\1\0\0Quincebury-flir",
        0xE3: b"Quincebury-dji" * 9,
        0xE5: b"RMETA\0Quincebury-ricoh",
        0xE6: b"GoPro\0DEVC\0\1\0\0Quincebury-gopro",
        0xEB: b"JP\0\1\0\0\0\1\0\0\0\x12jumbQuincebury-c2pa",
    }
    data = with_segments(source.read_bytes(), *(segment(code, held) for code, held in private.items()))
    path = directory / "private.jpg"
    path.write_bytes(data + b"Quincebury-insta" + bytes(64) + b"8db42d694ccc418790edff439fe026bf")
    secrets = tuple(f"Quincebury-{maker}" for maker in ("flir", "dji", "ricoh", "gopro", "c2pa", "insta"))
    told = {word: (*facts, *secrets) for word, facts in TOLD.items()}
    groups = ("FLIR", "GoPro", "JUMBF", "DJI", "Insta360", "APP5", "Ricoh")
    extra = STRUCTURES | MAGICK | dict.fromkeys(groups, "a maker's own")
    yield Sample("with makers' own segments", KIND, path, told, extra=extra)


def _several(directory: Path, source: Path) -> Iterator[Sample]:
    """Pictures of several: a second view, a gain map."""
    first, second = source.read_bytes(), rich(directory / "second.jpg", size=80).read_bytes()
    length = len(jpegs.mpf_segment("MM", [(0, 0), (0, 0)], 0))
    start = len(first) + length
    views = with_segments(first, jpegs.mpf_segment("MM", [(0, start), (start, len(second))], 2)) + second
    path = directory / "views.jpg"
    path.write_bytes(views)
    yield sample("two views", path)
    gain = jpegs.xmp_segment(
        jpegs.xmp_packet(
            "", attributes='xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:GainMapMax="2.75"'
        )
    )
    path = directory / "gain.jpg"
    path.write_bytes(first + with_segments(second, gain))
    yield sample("a gain map", path)


def _moving(directory: Path, source: Path) -> Iterator[Sample]:
    """Motion photos: the video behind the picture must go on playing."""
    clip = directory / "clip.mp4"
    media.video(clip, place=media.HOME)
    video = clip.read_bytes()
    path = directory / "motion.jpg"
    path.write_bytes(source.read_bytes())
    offset = str(len(video))
    media.write_tags(
        path,
        {
            "XMP-GCamera:MicroVideo": "1",
            "XMP-GCamera:MicroVideoVersion": "1",
            "XMP-GCamera:MicroVideoOffset": offset,
            "XMP-GCamera:MotionPhoto": "1",
        },
    )
    path.write_bytes(path.read_bytes() + video)
    played = (*TOLD["location"], "loci")
    told = TOLD | {"location": played}
    yield Sample("a motion photo", KIND, path, told, shown=_both, extra=STRUCTURES | MAGICK)
    path = directory / "samsung.jpg"
    parts = [
        (0x0A01, b"Image_UTC_Data", b"1557212889777"),
        (0x0AA1, b"MCC_Data", b"232"),
        (0x0A30, b"MotionPhoto_Data", video),
        (0x0BA1, b"PhotoEditor_Re_Edit_Data", b"Quincebury"),
    ]
    path.write_bytes(source.read_bytes() + motion.blocks(parts))
    told = told | {
        "location": (*played, "Quincebury"),
        "time": (*TOLD["time"], "1557212889777", "Quincebury"),
    }
    extra = (
        STRUCTURES | MAGICK | {"Samsung:SamsungTrailer_0x0ba1": "unknown", "Samsung": "types of what went"}
    )
    yield Sample("a motion photo by Samsung", KIND, path, told, shown=_both, extra=extra)


def _both(path: Path) -> str:
    """The picture, and the video cut out of the file."""
    data = path.read_bytes()
    clip = path.with_suffix(".cut.mp4")
    clip.write_bytes(data[data.rindex(b"ftyp") - 4 :])
    run = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy", "-f", "framemd5", "-"],
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    clip.unlink()
    assert run.stdout.count(b"\n") > 20
    return pixels(path) + run.stdout.decode()
