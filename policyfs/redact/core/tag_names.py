"""Categories of named texts in pictures and sound: PNG keywords, tags of music and recordings.

Formats have many names for the same few things ("Creation Time", DATE_RECORDED, ICRD). A name is looked up in
lower case without blanks and punctuation. A text with a name that is not in the tables may tell anything.
Values are searched, too: a title that holds coordinates tells a place.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.free_text import MAX_TEXT_BYTES, decode, readings, told_in_text

_L, _D, _T, _P, _O = Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE, Tells.OTHER

_PUNCTUATION: Final = re.compile(r"[\s_\-./()\[\]]+")
_MONTHS: Final = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE: Final = re.compile(
    r"(?<!\d)(?:19|20)\d\d(?:[-:./](?:0?[1-9]|1[0-2])[-:./](?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d))"
    r"|(?<!\d)(?:(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])[-./](?:1[3-9]|2\d|3[01]))"
    r"[-./](?:19|20)\d\d(?!\d)"
    rf"|\b(?:{_MONTHS})[a-z]*\.?\s+\d{{1,2}}\b.{{0,20}}\b(?:19|20)\d\d\b"
    rf"|\b\d{{1,2}}\.?\s+(?:{_MONTHS})[a-z]*\.?,?\s+(?:19|20)\d\d\b",
    re.IGNORECASE,
)
_PROGRAM: Final = re.compile(
    r"\b(?:created|made|generated|edited|encoded|captured|shot|taken|recorded|exported|saved)"
    r"\s+(?:with|using)\b|\b(?:ezgif|gifsicle|libvorbis|libopus|lame\s?\d|iphone|ipad)\b",
    re.IGNORECASE,
)
_MAX_DATED_CHARS: Final = 1 << 20
_MAX_RAW_BYTES: Final = 4 * MAX_TEXT_BYTES
"""Maximum size of a searched text in any encoding. A longer one counts as telling anything."""

_MAX_UNNAMED_BYTES: Final = 4096
"""Maximum size of a text with an unknown name that is searched."""

NAMES: Final = MappingProxyType(
    {
        Tells.LOCATION: (
            "location locations locationname locationgps gps geo geotag coordinates latitude longitude "
            "altitude place city state country countrycode province sublocation region address venue "
            "recordinglocation recordlocation locationrecorded releasecountry musicbrainzreleasecountry "
            "musicbrainzalbumreleasecountry"
        ),
        Tells.DEVICE: (
            "software source make model cameramake cameramodel device devicename devicemodel lens "
            "lensmodel serial serialnumber lensserialnumber bodyserialnumber imageuniqueid lensmake "
            "cameraserialnumber camera hostcomputer encoder encodedby encodersettings encoding "
            "encodingsettings encodeddby tool application producer writingapplication originalmedium "
            "ripper ripping cdtool tenc tsse vendor toolname toolversion encoderoptions androidversion "
            "comandroidversion comandroidmanufacturer comandroidmodel voicememouuid itunescddb1 "
            "itunescddbids itunescddbtracknumber rippingtool sourceid vendorid provider "
            "generator statisticswritingapp"
        ),
        Tells.TIME: (
            "date time datetime year creationtime creationdate createdate created datecreated "
            "modificationtime modifydate modified modificationdate datemodified datetimeoriginal "
            "recordingdate daterecorded daterelease releasedate originaldate originalyear "
            "originalreleasedate encodingtime taggingtime taggingdate tdtg tden timestamp "
            "datetimedigitized subsectime subsectimeoriginal subsectimedigitized offsettime "
            "offsettimeoriginal offsettimedigitized datecreate datemodify datetimestamp dateencoded "
            "datetagged datepurchased purchasedate retaildate thumbmtime acquisitiontime dateadded "
            "retrievaldate ripdate origyear releasetime releaseyear tdrl timecode firstplayed lastplayed "
            "statisticswritingdateutc"
        ),
        Tells.PEOPLE: (
            "title subtitle author artist artists artistsort albumartist albumartistsort albumartists "
            "album albumsort titlesort composer composersort conductor performer performers lyricist "
            "writer remixer arranger mixer djmixer engineer producername publisher label organization "
            "organisation copyright license rights disclaimer comment comments description caption "
            "warning keywords keyword subject lyrics unsyncedlyrics syncedlyrics contact email url "
            "website www owner copyrighted credits ensemble soloists originalartist originalalbum "
            "originaltitle originallyricist grouping work movementname movement part opus synopsis "
            "summary show series episode tvshow abstract headline imagedescription usercomment "
            "cameraownername xpauthor xpcomment xpkeywords xpsubject xptitle name people person persons "
            "notes note mood podcast podcasturl podcastid podcastdesc podcastkeywords podcastcategory "
            "purchaser purchaseowner account director directors lyricistsort writersort performersort "
            "conductorsort remixersort arrangersort producersort artistssort albumartistssort showsort "
            "itunextc itunmovi licence licensing permission attribution homepage authorurl userurl "
            "wwwaudiofile wwwartist officialurl buycdurl copyrighturl paymenturl publisherurl "
            "radiostationurl remixedby mixedby mixartist origartist origalbum band instrumentalist "
            "involvedpeople musiciancredits narrator narratedby setsubtitle contentgroup seriespart "
            "itunesalbumsort sortalbum sortname albumshortname alternatetitle coverartdescription theme "
            "occasion songrights plot network version supplier accountid"
        ),
        Tells.OTHER: (
            "genre track tracknumber tracktotal totaltracks disc discnumber disctotal totaldiscs "
            "discsubtitle part partnumber bpm tempo compilation isrc barcode upc ean ean8 ean13 labelno "
            "catalognumber catalog asin media mediatype length initialkey key language lang rating "
            "xmprating ratingwmp fmpsrating playcounter gapless itunesgapless itunsmpb "
            "itunescompilation releasestatus releasetype script musicbrainzalbumid musicbrainzartistid "
            "musicbrainztrackid musicbrainzreleasetrackid musicbrainzalbumartistid musicbrainzdiscid "
            "musicbrainztrmid musicbrainzworkid musicbrainzalbumtype musicbrainzalbumstatus "
            "musicbrainzreleasegroupid musicbrainzrecordingid musicbrainzalbumreleasegroupid acoustidid "
            "acoustidfingerprint musicipfingerprint musicippuid cddb accuraterip accurateripid cuesheet "
            "channels channelmask waveformatextensiblechannelmask majorbrand minorversion "
            "compatiblebrands quality signaltonoise collection dimensions gamma colorspace colourspace "
            "resolution dpi aspectratio thumbimagewidth thumbimageheight thumbsize thumbmimetype "
            "thumbdocumentpages imagewidth imageheight sortorder replaygainreferenceloudness "
            "movementcount movementtotal movementnumber showmovement discid cddbdiscid key fingerprint "
            "musicmagicfingerprint musicmagicdata itunnorm itunpgap encodingparams contentrating "
            "itunesadvisory itunesmediatype style acoustid labelid eanupn upn iswc mcn isbn period energy "
            "energylevel fbpm ratingmm fmpsplaycount fmpsratingamarokscore playcount dynamicrange "
            "albumdynamicrange cdtoc cdindex songtype explicit spotifyid tidaltrackid itunesartistid "
            "itunescatalogid itunespodcast lawrating icra tmdb tvdb tvdb2 imdb audibleasin trackid mvnm "
            "mvin trackc discc equ quickloudness isvbr audiomd5 episodeid episodesort seasonnumber "
            "hdvideo gaplessplayback coverartmime musicmatchmood musicmatchtempo bps duration "
            "numberofframes numberofbytes statisticstags cicp chromaticities pixelaspectratio bitdepth"
        ),
    }
)
"""Categories -> names of texts in any container, also of taggers (Picard, iTunes, Mp3tag, EAC)."""

_IDENTIFIED: Final = ("stref", "xmpmm", "xapmm")
_EXACT: Final = {name: tells for tells, names in NAMES.items() for name in names.split()} | {
    "parameters": _P | _D,  # the prompt and the programs that generated the picture
    "prompt": _P | _D,
    "workflow": _P | _D,
    "dream": _P | _D,
    "sdmetadata": _P | _D,
    "invokeaimetadata": _P | _D,
    "invokeaigraph": _P | _D,
    "producer": _P | _D,
    "encodedby": _P | _D,
    "source": _P | _D,
    "cameraownername": _P | _D,
    "originalfilename": _P | _T,
    "document": _P,
    "creator": _P | _D,
    "handlername": _P | _D,
    "transcoded": _D | _O,
    # ImageMagick's copies of XMP properties
    **dict.fromkeys(("dc:format", "dc:type", "pdf:version", "pdf:hiresboundingbox", "xmprights:marked"), _O),
    **dict.fromkeys(("xmp:metadatadate", "xap:metadatadate", "stref:lastmodifydate"), _T),
    **dict.fromkeys(
        ("dc:identifier", "xmp:creatortool", "xap:creatortool", "aux:lensid", "aux:lensinfo"), _D
    ),
    **dict.fromkeys((f"{at}:{name}id" for at in _IDENTIFIED for name in ("document", "instance")), _D),
    **dict.fromkeys((f"{at}:originaldocumentid" for at in _IDENTIFIED), _D),
    **dict.fromkeys(("xmpmm:derivedfrom", "xapmm:derivedfrom"), _D),
}
_PREFIXES: Final = (
    ("replaygain", _O),
    ("r128", _O),
    ("chapter", _P),
    ("musicbrainz", _O),
    ("discogs", _O),
    ("mp3gain", _O),
    ("accuraterip", _O),
    ("ctdb", _O),
    ("performer", _P),
    ("lyrics", _P),
    ("comment", _P),
    ("description", _P),
)
_LOCALS: Final = MappingProxyType(
    {
        "date": (re.compile(r"create|modify|timestamp"), _T),
        "icc": (re.compile(r"brand|copyright|description|manufacturer|model"), _O),
        "png": (
            re.compile(
                r"ihdr(?:bitdepth(?:orig)?|colortype(?:orig)?|interlacemethod|width|height|width,height)"
                r"|pltenumbercolors|bkgd|chrm|gama|srgb|phys|time|trns|offs|iccp|sbit|vpag|cant|canv|exif|text"
            ),
            _O,
        ),
        "tiff": (
            re.compile(r"alpha|endian|photometric|rowsperstrip|fillorder|predictor|subfiletype|tilegeometry"),
            _O,
        ),
        "exif": (
            re.compile(r"(?:thumbnail:)?interoperability(?:index|version)|spectralsensitivity|cfapattern"),
            _O,
        ),
    }
)
"""A dictionary from the prefixes of ImageMagick's names ("png:IHDR.width") to their known local names."""
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PLACE_WORDS: Final = frozenset(NAMES[_L].split()) | {"lat", "lon", "lng"}
_MAX_NAME_CHARS: Final = 1000
_PLACE: Final = re.compile(r"location|latitude|longitude|coordinate|geotag|gps")
_EXIF_NUMBER: Final = re.compile(
    r"(?:exif|tiff):(?!.*(?:gps|maker|comment|serial|padding))[\w:]{1,60}", re.IGNORECASE
)
_NUMBERS: Final = re.compile(rb"-?\d{1,10}(?:[/.]\d{1,10})?(?:, -?\d{1,10}(?:/\d{1,10})?){0,5}\0*")
"""Numbers as text: ImageMagick also writes EXIF tags as named texts ("exif:ExposureTime", "1/250")."""
_MARKUP: Final = re.compile(
    r"^\s*(?:[<{]|\[\s*(?:[\[{\"']|-?\d[\d.]*\s*(?:,|\]\s*$)))|<\?xpacket|<x:xmpmeta|<rdf:|<\?xml",
    re.IGNORECASE,
)
_STRUCTURED: Final = frozenset(
    {"parameters", "prompt", "workflow", "sdmetadata", "invokeaimetadata", "invokeaigraph", "itunmovi"}
)


def plain_name(name: str) -> str:
    """Return a name in the form of the tables: "Creation Time" and CREATION_TIME become ``creationtime``."""
    return _PUNCTUATION.sub("", name.strip().lower())


def tells_of_name(name: str) -> Tells:
    """Return the categories of a text with this name; UNKNOWN for an unknown name."""
    return _tells_of_name(name) | (_L if _names_place(name) else NOTHING)


def _names_place(name: str) -> bool:
    """Return True if any word of a name is a name of a place ("Comment (city)"), or the name is very long."""
    if len(name) > _MAX_NAME_CHARS:
        return True
    words = {word.lower() for word in _WORD.findall(name)}
    return not words.isdisjoint(_PLACE_WORDS) or _PLACE.search(plain_name(name)) is not None


def _tells_of_name(name: str) -> Tells:
    space, colon, local = name.lower().partition(":")
    lower = plain_name(local if colon else space)
    if colon and space in _LOCALS and _LOCALS[space][0].fullmatch(lower):
        return _LOCALS[space][1]
    if lower.startswith(("gps", "exifgps")):
        return Tells.LOCATION
    if space == "exif":
        lower = lower.removeprefix("thumbnail:")
    if space == "thumb":
        lower = "thumb" + lower.replace(":", "")
    found = _EXACT.get(f"{space}:{lower}", _EXACT.get(lower))
    if found is not None:
        return found
    return next((tells for prefix, tells in _PREFIXES if lower.startswith(prefix)), UNKNOWN)


def tells_time(text: str) -> bool:
    """Return True if a text holds a date (year, month and day), or is too long to be searched."""
    return len(text) > _MAX_DATED_CHARS or _DATE.search(text) is not None


def told(hide: Tells, tells: Tells, value: bytes, budget: Budget | None = None) -> Tells:
    """Return the categories of the data in a text that has a name, but only categories in `hide`.

    tells: the categories of the text's name. If one of these categories is hidden, the value is not searched.
    Otherwise the value is searched for coordinates, dates, devices and programs. If the value is too long, or
    the file's budget for texts is used up, the text counts as if it held data of all categories.

    A short text with an unknown name is searched, too. If nothing is found, the result is UNKNOWN, although
    this includes categories that are not in `hide`. Then a rule with ``no`` searches the bytes again, like
    all bytes of unknown data (verdict.py).
    """
    found = tells & hide
    if found and tells == UNKNOWN and len(value) <= _MAX_UNNAMED_BYTES:
        return told(hide, NOTHING, value, budget) or UNKNOWN
    if found or not value:
        return found
    if len(value) > _MAX_RAW_BYTES or (budget is not None and not budget.look(len(value))):
        return hide & UNKNOWN
    if holds_metadata(value):
        return hide & UNKNOWN
    for text in readings(value):
        found |= told_in_text(text, hide)
        if hide & Tells.TIME and tells_time(text):
            found |= Tells.TIME
        if hide & Tells.DEVICE and _PROGRAM.search(text[:_MAX_DATED_CHARS]) is not None:
            found |= Tells.DEVICE
    return found


def told_by_named(hide: Tells, name: str, value: bytes, budget: Budget | None = None) -> Tells:
    """Return the categories of the data in a text with this name ("caption"), but only categories in `hide`.

    Like told(), with two more rules. Markup counts as a text that may hold data of all categories, except
    under the names in _STRUCTURED (settings of picture generators). A number under an unknown name of EXIF
    ("exif:ExposureTime") counts as other metadata.
    """
    if len(value) > _MAX_RAW_BYTES:
        return hide & UNKNOWN
    tells = tells_of_name(name)
    number = _EXIF_NUMBER.fullmatch(name) and _NUMBERS.fullmatch(value)
    if tells == UNKNOWN and number and not _names_place(name):
        tells = Tells.OTHER
    if is_odd_markup(name, value):
        tells = UNKNOWN
    return told(hide, tells, value, budget)


def is_odd_markup(name: str, value: bytes) -> bool:
    """Return True if a text is XML or JSON, except under a name with which programs write such text."""
    return plain_name(name) not in _STRUCTURED and _MARKUP.search(decode(value[:_MAX_RAW_BYTES])) is not None


def is_blank(data: bytes) -> bool:
    """Return True if all bytes are zeros and blanks."""
    return not data.strip(b"\0 \t\r\n")


_LANGUAGE: Final = re.compile(
    rb"[A-Za-z]{2,3}(?:-[A-Za-z]{3})?(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?(?:-[0-9][0-9A-Za-z]{3})?"
)


def is_language(data: bytes) -> bool:
    """Return True for a common language tag (RFC 5646) without private use: "ger", "zh-Hans-CN"."""
    return _LANGUAGE.fullmatch(data) is not None
