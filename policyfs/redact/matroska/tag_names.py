"""Categories of Matroska's elements and tags (RFC 9559 and the tagging registry of matroska.org).

Each element is listed below the parent in which it is allowed; in other parents it is removed. Tag names are
those of the registry, of Xiph's comments, and of other containers as ffmpeg copies them. A name that is not
listed may tell anything.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.core.tag_names import is_language, is_odd_markup, tells_of_name


class Form(enum.Enum):
    """Type of an element's data (a number, a text, elements ...)."""

    MASTER = "elements"
    NUMBER = "a number of at most 8 bytes"
    NAME = "a short ASCII word"
    LANGUAGE = "a language tag"
    TEXT = "text"
    BINARY = "bytes"


class Element(NamedTuple):
    """The name, type of data and categories of an element.

    needs: the id of a required child; without this child the element is removed. required: True if the parent
    must have the element. Hidden text of such an element becomes spaces, and the element stays.
    """

    name: str
    form: Form
    tells: Tells = NOTHING
    needs: int = 0
    required: bool = False


EBML: Final = 0x1A45DFA3
SEGMENT: Final = 0x18538067
SEEK_HEAD: Final = 0x114D9B74
SEEK: Final = 0x4DBB
SEEK_ID: Final = 0x53AB
SEEK_POSITION: Final = 0x53AC
INFO: Final = 0x1549A966
CLUSTER: Final = 0x1F43B675
TRACKS: Final = 0x1654AE6B
TRACK: Final = 0xAE
TRACK_NUMBER: Final = 0xD7
TRACK_TYPE: Final = 0x83
CODEC_ID: Final = 0x86
CODEC_PRIVATE: Final = 0x63A2
ENCODINGS: Final = 0x6D80
ENCODING_SCOPE: Final = 0x5032
ENCODING_TYPE: Final = 0x5033
COMPRESSION: Final = 0x5034
COMPRESSION_ALGORITHM: Final = 0x4254
COMPRESSION_SETTINGS: Final = 0x4255
SIMPLE_BLOCK: Final = 0xA3
BLOCK_GROUP: Final = 0xA0
BLOCK: Final = 0xA1
REFERENCE_BLOCK: Final = 0xFB
CUES: Final = 0x1C53BB6B
CUE_POINT: Final = 0xBB
CUE_TRACK_POSITIONS: Final = 0xB7
CUE_CLUSTER_POSITION: Final = 0xF1
ATTACHMENTS: Final = 0x1941A469
ATTACHED_FILE: Final = 0x61A7
FILE_NAME: Final = 0x466E
FILE_DESCRIPTION: Final = 0x467E
FILE_MIME_TYPE: Final = 0x4660
FILE_DATA: Final = 0x465C
FILE_UID: Final = 0x46AE
CHAPTERS: Final = 0x1043A770
CHAPTER_ATOM: Final = 0xB6
TAGS: Final = 0x1254C367
TAG: Final = 0x7373
SIMPLE_TAG: Final = 0x67C8
TAG_NAME: Final = 0x45A3
TAG_STRING: Final = 0x4487
CHAPTER_DISPLAY: Final = 0x80

LEVEL_1: Final = frozenset({SEEK_HEAD, INFO, CLUSTER, TRACKS, CUES, ATTACHMENTS, CHAPTERS, TAGS})
_M, _N, _W, _L, _T, _B = Form

_EDITION: Final = 0x45B9


def _numbers(**named: int) -> dict[int, Element]:
    return {ident: Element(name, _N) for name, ident in named.items()}


_TARGETS: Final = 0x63C0
_OPERATION: Final = 0xE2
CONTENT_ENCODING: Final = 0x6240

ELEMENTS: Final[Mapping[int, Mapping[int, Element]]] = MappingProxyType(
    {
        EBML: {
            **_numbers(Version=0x4286, ReadVersion=0x42F7, MaxIDLength=0x42F2, MaxSizeLength=0x42F3),
            **_numbers(DocTypeVersion=0x4287, DocTypeReadVersion=0x4285),
            0x4282: Element("DocType", _W),
            0x4281: Element("DocTypeExtension", _M),
        },
        0x4281: {0x4283: Element("Name", _W), 0x4284: Element("Version", _N)},
        SEEK_HEAD: {SEEK: Element("Seek", _M, needs=SEEK_POSITION)},
        SEEK: {SEEK_ID: Element("SeekID", _N), SEEK_POSITION: Element("SeekPosition", _N)},
        INFO: {
            **_numbers(TimestampScale=0x2AD7B1, Duration=0x4489),
            0x73A4: Element("SegmentUUID", _B, DEVICE),
            0x7384: Element("SegmentFilename", _T, PEOPLE | TIME),
            0x3CB923: Element("PrevUUID", _B, DEVICE),
            0x3C83AB: Element("PrevFilename", _T, PEOPLE | TIME),
            0x3EB923: Element("NextUUID", _B, DEVICE),
            0x3E83BB: Element("NextFilename", _T, PEOPLE | TIME),
            0x4444: Element("SegmentFamily", _B, DEVICE),
            0x4461: Element("DateUTC", _N, TIME),
            0x7BA9: Element("Title", _T, PEOPLE),
            0x4D80: Element("MuxingApp", _T, DEVICE, required=True),
            0x5741: Element("WritingApp", _T, DEVICE, required=True),
        },
        TRACKS: {TRACK: Element("TrackEntry", _M)},
        TRACK: {
            **_numbers(TrackNumber=0xD7, TrackUID=0x73C5, TrackType=0x83, FlagEnabled=0xB9, FlagDefault=0x88),
            **_numbers(FlagForced=0x55AA, FlagHearingImpaired=0x55AB, FlagVisualImpaired=0x55AC),
            **_numbers(FlagTextDescriptions=0x55AD, FlagOriginal=0x55AE, FlagCommentary=0x55AF),
            **_numbers(FlagLacing=0x9C, MinCache=0x6DE7, MaxCache=0x6DF8, DefaultDuration=0x23E383),
            **_numbers(
                DefaultDecodedFieldDuration=0x234E7A, TrackTimestampScale=0x23314F, TrackOffset=0x537F
            ),
            **_numbers(MaxBlockAdditionID=0x55EE, AttachmentLink=0x7446, CodecDecodeAll=0xAA),
            **_numbers(TrackOverlay=0x6FAB, CodecDelay=0x56AA, SeekPreRoll=0x56BB),
            0x41E4: Element("BlockAdditionMapping", _M),
            0x536E: Element("Name", _T, PEOPLE),
            0x22B59C: Element("Language", _L),
            0x22B59D: Element("LanguageBCP47", _L),
            CODEC_ID: Element("CodecID", _W),
            CODEC_PRIVATE: Element("CodecPrivate", _B),
            0x258688: Element("CodecName", _T, DEVICE),
            0x3A9697: Element("CodecSettings", _T, DEVICE),
            0x3B4040: Element("CodecInfoURL", _T, DEVICE),
            0x26B240: Element("CodecDownloadURL", _T, DEVICE),
            0xE0: Element("Video", _M),
            0xE1: Element("Audio", _M),
            _OPERATION: Element("TrackOperation", _M),
            ENCODINGS: Element("ContentEncodings", _M),
        },
        0x41E4: {
            **_numbers(BlockAddIDValue=0x41F0, BlockAddIDType=0x41E7),
            0x41A4: Element("BlockAddIDName", _T, UNKNOWN),
            0x41ED: Element("BlockAddIDExtraData", _B),
        },
        0xE0: {
            **_numbers(FlagInterlaced=0x9A, FieldOrder=0x9D, StereoMode=0x53B8, AlphaMode=0x53C0),
            **_numbers(OldStereoMode=0x53B9, PixelWidth=0xB0, PixelHeight=0xBA, PixelCropBottom=0x54AA),
            **_numbers(PixelCropTop=0x54BB, PixelCropLeft=0x54CC, PixelCropRight=0x54DD, DisplayWidth=0x54B0),
            **_numbers(DisplayHeight=0x54BA, DisplayUnit=0x54B2, AspectRatioType=0x54B3, GammaValue=0x2FB523),
            **_numbers(FrameRate=0x2383E3, ColourSpace=0x2EB524),
            0x55B0: Element("Colour", _M),
            0x7670: Element("Projection", _M),
        },
        0x55B0: {
            **_numbers(MatrixCoefficients=0x55B1, BitsPerChannel=0x55B2, ChromaSubsamplingHorz=0x55B3),
            **_numbers(ChromaSubsamplingVert=0x55B4, CbSubsamplingHorz=0x55B5, CbSubsamplingVert=0x55B6),
            **_numbers(ChromaSitingHorz=0x55B7, ChromaSitingVert=0x55B8, Range=0x55B9, Transfer=0x55BA),
            **_numbers(Primaries=0x55BB, MaxCLL=0x55BC, MaxFALL=0x55BD),
            0x55D0: Element("MasteringMetadata", _M),
        },
        0x55D0: {number: Element("Chromaticity or luminance", _N) for number in range(0x55D1, 0x55DB)},
        0x7670: {
            **_numbers(ProjectionType=0x7671, Yaw=0x7673, Pitch=0x7674, Roll=0x7675),
            0x7672: Element("ProjectionPrivate", _B),
        },
        0xE1: {
            **_numbers(SamplingFrequency=0xB5, OutputSamplingFrequency=0x78B5, Channels=0x9F),
            **_numbers(BitDepth=0x6264, Emphasis=0x52F1),
        },
        _OPERATION: {0xE3: Element("TrackCombinePlanes", _M), 0xE9: Element("TrackJoinBlocks", _M)},
        0xE3: {0xE4: Element("TrackPlane", _M)},
        0xE4: _numbers(TrackPlaneUID=0xE5, TrackPlaneType=0xE6),
        0xE9: _numbers(TrackJoinUID=0xED),
        ENCODINGS: {CONTENT_ENCODING: Element("ContentEncoding", _M)},
        CONTENT_ENCODING: {
            **_numbers(Order=0x5031, Scope=ENCODING_SCOPE, Type=ENCODING_TYPE),
            COMPRESSION: Element("ContentCompression", _M),
            0x5035: Element("ContentEncryption", _M),
        },
        COMPRESSION: {
            COMPRESSION_ALGORITHM: Element("ContentCompAlgo", _N),
            COMPRESSION_SETTINGS: Element("ContentCompSettings", _B),
        },
        0x5035: {
            0x47E1: Element("ContentEncAlgo", _N),
            0x47E2: Element("ContentEncKeyID", _B),
            0x47E7: Element("ContentEncAESSettings", _M),
        },
        0x47E7: _numbers(AESSettingsCipherMode=0x47E8),
        CUES: {CUE_POINT: Element("CuePoint", _M, needs=CUE_TRACK_POSITIONS)},
        CUE_POINT: {0xB3: Element("CueTime", _N), CUE_TRACK_POSITIONS: Element("CueTrackPositions", _M)},
        CUE_TRACK_POSITIONS: {
            **_numbers(CueTrack=0xF7, CueClusterPosition=0xF1, CueRelativePosition=0xF0, CueDuration=0xB2),
            **_numbers(CueBlockNumber=0x5378, CueCodecState=0xEA),
            0xDB: Element("CueReference", _M),
        },
        0xDB: _numbers(CueRefTime=0x96),
        ATTACHED_FILE: {
            FILE_DESCRIPTION: Element("FileDescription", _T, PEOPLE | TIME),
            FILE_NAME: Element("FileName", _T, PEOPLE | TIME, required=True),
            FILE_MIME_TYPE: Element("FileMediaType", _W),
            FILE_UID: Element("FileUID", _N),
        },
        CHAPTERS: {_EDITION: Element("EditionEntry", _M)},
        _EDITION: {
            **_numbers(EditionUID=0x45BC, Hidden=0x45BD, Default=0x45DB, Ordered=0x45DD),
            CHAPTER_ATOM: Element("ChapterAtom", _M),
            0x4520: Element("EditionDisplay", _M, PEOPLE),
        },
        0x4520: {0x4521: Element("EditionString", _T, PEOPLE), 0x45E4: Element("Language", _L)},
        CHAPTER_ATOM: {
            **_numbers(ChapterUID=0x73C4, Start=0x91, End=0x92, Hidden=0x98, Enabled=0x4598),
            **_numbers(SegmentEditionUID=0x6EBC, SkipType=0x4588, PhysicalEquiv=0x63C3),
            CHAPTER_ATOM: Element("ChapterAtom", _M),
            0x5654: Element("ChapterStringUID", _T, PEOPLE),
            0x6E67: Element("SegmentUUID", _B, DEVICE),
            0x8F: Element("ChapterTrack", _M),
            CHAPTER_DISPLAY: Element("ChapterDisplay", _M, needs=0x85),
        },
        0x8F: _numbers(ChapterTrackUID=0x89),
        CHAPTER_DISPLAY: {
            0x85: Element("ChapString", _T, PEOPLE),
            0x437C: Element("ChapLanguage", _L),
            0x437D: Element("ChapLanguageBCP47", _L),
            0x437E: Element("ChapCountry", _W, LOCATION),
        },
        TAGS: {TAG: Element("Tag", _M, needs=SIMPLE_TAG)},
        TAG: {_TARGETS: Element("Targets", _M), SIMPLE_TAG: Element("SimpleTag", _M)},
        _TARGETS: {
            **_numbers(TargetTypeValue=0x68CA, TagTrackUID=0x63C5, TagEditionUID=0x63C9),
            **_numbers(TagChapterUID=0x63C4, TagAttachmentUID=0x63C6),
            0x63CA: Element("TargetType", _W),
        },
        SIMPLE_TAG: {
            TAG_NAME: Element("TagName", _T),
            0x447A: Element("TagLanguage", _L),
            0x447B: Element("TagLanguageBCP47", _L),
            0x4484: Element("TagDefault", _N),
            0x44B4: Element("TagDefaultBogus", _N),
            TAG_STRING: Element("TagString", _T),
            SIMPLE_TAG: Element("SimpleTag", _M),
        },
    }
)
"""Id of an element -> the elements allowed in it. Others are removed."""

_LOCATION_TAGS: Final = """
    LOCATION-ENG COMPOSITION_LOCATION COMPOSER_NATIONALITY XYZ COM.ANDROID.LOCATION
    COM.APPLE.QUICKTIME.LOCATION.ISO6709 COM.APPLE.QUICKTIME.LOCATION.NAME
    COM.APPLE.QUICKTIME.LOCATION.BODY COM.APPLE.QUICKTIME.LOCATION.NOTE
    COM.APPLE.QUICKTIME.LOCATION.ROLE COM.APPLE.QUICKTIME.LOCATION.ACCURACY.HORIZONTAL
"""
_LOCATION_TIME_TAGS: Final = """
    COM.APPLE.QUICKTIME.LOCATION.DATE
"""
_DEVICE_TAGS: Final = """
    MAJOR_BRAND MINOR_VERSION COMPATIBLE_BRANDS FIRMWARE COM.APPLE.QUICKTIME.MAKE
    COM.APPLE.QUICKTIME.MODEL COM.APPLE.QUICKTIME.SOFTWARE COM.APPLE.QUICKTIME.CONTENT.IDENTIFIER
    MEDIA_UUID
"""
_TIME_TAGS: Final = """
    DATE_RELEASED DATE_DIGITIZED DATE_WRITTEN COM.APPLE.QUICKTIME.CREATIONDATE
"""
_PEOPLE_TAGS: Final = """
    ASSISTANT_DIRECTOR DIRECTOR_OF_PHOTOGRAPHY SOUND_ENGINEER ART_DIRECTOR PRODUCTION_DESIGNER
    CHOREGRAPHER COSTUME_DESIGNER ACTOR CHARACTER SORT_WITH WRITTEN_BY SCREENPLAY_BY EDITED_BY
    PRODUCER COPRODUCER EXECUTIVE_PRODUCER DISTRIBUTED_BY MASTERED_BY PRODUCTION_STUDIO THANKS_TO
    LEAD_PERFORMER ACCOMPANIMENT GENRE ORIGINAL_MEDIA_TYPE CONTENT_TYPE INITIAL_KEY PERIOD
    LAW_RATING RATING PRODUCTION_COPYRIGHT TERMS_OF_USE ORIGINAL INSTRUMENTS
    COM.APPLE.QUICKTIME.ARTIST COM.APPLE.QUICKTIME.AUTHOR COM.APPLE.QUICKTIME.COMMENT
    COM.APPLE.QUICKTIME.COPYRIGHT COM.APPLE.QUICKTIME.DESCRIPTION COM.APPLE.QUICKTIME.DISPLAYNAME
    COM.APPLE.QUICKTIME.TITLE COM.APPLE.QUICKTIME.KEYWORDS COM.APPLE.QUICKTIME.INFORMATION
"""
_OTHER_TAGS: Final = """
    PART_NUMBER PART_OFFSET TOTAL_PARTS TRACK TRACKNUMBER TRACKTOTAL TOTALTRACKS DISC DISCNUMBER BPS BITSPS
    BPM MEASURE TUNING DURATION NUMBER_OF_FRAMES NUMBER_OF_BYTES _STATISTICS_TAGS SOURCE_ID FPS
    REPLAYGAIN_GAIN REPLAYGAIN_PEAK REPLAYGAIN_TRACK_GAIN REPLAYGAIN_TRACK_PEAK
    REPLAYGAIN_ALBUM_GAIN REPLAYGAIN_ALBUM_PEAK R128_TRACK_GAIN R128_ALBUM_GAIN
    COM.ANDROID.CAPTURE.FPS COMPILATION
"""
_NOTHING_TAGS: Final = """
    ALPHA_MODE ROTATE LANGUAGE WAVEFORMATEXTENSIBLE_CHANNEL_MASK
"""
_TAGS: Final = (
    (LOCATION, _LOCATION_TAGS),
    (LOCATION | TIME, _LOCATION_TIME_TAGS),
    (DEVICE, _DEVICE_TAGS),
    (TIME, _TIME_TAGS),
    (PEOPLE, _PEOPLE_TAGS),
    (OTHER, _OTHER_TAGS),
    (NOTHING, _NOTHING_TAGS),
)
TAG_TELLS: Final[Mapping[str, Tells]] = MappingProxyType(
    {name: tells for tells, names in _TAGS for name in names.split()}
)
"""A dictionary from the name of a tag in capitals to the categories of its value, besides those that core's
tag_names.py knows, such as TITLE.
"""

_NUMBERED: Final = frozenset(f"{_OTHER_TAGS} {_NOTHING_TAGS}".split())
"""Tags whose values are numbers, except the tags in _SHAPES."""
_NUMBER: Final = re.compile(
    rb"|[A-Za-z]?[-+]?[0-9][-0-9.,:;/ ]{0,40}(?:of [0-9]{1,6})?(?:dB|LUFS|Hz|fps|bpm|bits?|kbps)?"
    rb"|0x[0-9A-Fa-f]{1,16}|true|false|yes|no|nan|[-+]?inf(?: dB)?",
    re.IGNORECASE,
)
_SHAPES: Final[Mapping[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        "SOURCE_ID": re.compile(rb"(?:0x)?[0-9A-Fa-f]{0,64}"),
        "_STATISTICS_TAGS": re.compile(rb"(?:(?:BPS|DURATION|NUMBER_OF_(?:FRAMES|BYTES)|SOURCE_ID)\s*){0,8}"),
    }
)

_LANGUAGE_SUFFIX: Final = re.compile(r"-[A-Z]{3}")


def tag_tells(name: bytes, value: bytes = b"") -> Tells:
    """Return the categories of the data in a tag with this name (UTF-8).

    A name that is not listed here may be one of taggers (core/tag_names.py); any other is UNKNOWN. Return
    UNKNOWN also if the name is that of a number or of a language, but the value is another text.
    """
    word = name.rstrip(b"\0").decode("utf-8", "replace").strip().upper().replace(" ", "_")
    if word not in TAG_TELLS and _LANGUAGE_SUFFIX.fullmatch(word[-4:]):
        word = word[:-4]
    if word not in TAG_TELLS:
        return UNKNOWN if is_odd_markup(word, value) else tells_of_name(word)
    return TAG_TELLS[word] if _fits(word, value.rstrip(b"\0").strip()) else UNKNOWN


def _fits(word: str, value: bytes) -> bool:
    if word == "LANGUAGE":
        return not value or is_language(value)
    if word in _SHAPES:
        return _SHAPES[word].fullmatch(value) is not None
    return word not in _NUMBERED or _NUMBER.fullmatch(value) is not None
