"""Categories of the named metadata in QuickTime and MPEG-4 files.

The tables list four-letter types of ``udta`` and ``ilst``, and names of QuickTime keys. (Names of iTunes'
free-form items are in core/tag_names.py.) A name in no table is unknown: every word of a policy removes its
value. Sources: QuickTime File Format ("User data", "Metadata"), 3GPP TS 26.244 section 8, ISO/IEC 14496-12;
for names in no standard, the files of cameras, phones and editors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.tag_names import is_odd_markup, tells_of_name

_L: Final = Tells.LOCATION
_D: Final = Tells.DEVICE
_T: Final = Tells.TIME
_P: Final = Tells.PEOPLE
_O: Final = Tells.OTHER


def _table(*rows: tuple[Tells, str]) -> Mapping[bytes, Tells]:
    """Return a table from types (four characters, commas between, ``(`` for the copyright sign) to
    categories.
    """
    return MappingProxyType(
        {
            name.replace("(", "\xa9").encode("latin-1"): tells
            for tells, names in rows
            for name in names.split(",")
        }
    )


TEXT_ATOMS: Final = _table(
    (_L, "(xyz,(loc,(gps,(cty,(cou,(sta"),
    (_D, "(mak,(mod,(swr,(too,(enc,(hst,(mdl,(mal,(req,(uid,(cam,(sfw,(ser,(lns"),
    (_T, "(day,(TIM,(TSC,(TSZ,(dat,(tim"),
    (
        _P,
        (
            "(nam,(ART,(alb,(arg,(ark,(aut,(cmt,(cok,(com,(cpy,(dir,(dis,(des,(gen,(grp,(inf,(isr,(key,(lab,(lal,"
            "(lyr,(nrt,(ope,(pdk,(phg,(prd,(prf,(prk,(prl,(pub,(snk,(snm,(sol,(src,(st3,(swf,(swk,(url,(wrt,(PRD,"
            "(wrk,(mvn,(con,(ldr,(aad,(art,(xpd"
        ),
    ),
    (_P | _T, "(ed1,(ed2,(ed3,(ed4,(ed5,(ed6,(ed7,(ed8,(ed9"),
    (_L | _O, "(xsp,(ysp,(zsp,(fyw,(gyw"),  # speed and heading of a drone, heading of its camera
    (_O, "(fmt,(trk,(dsk,(mvi,(mvc,(fpt,(frl,(gpt,(grl,(set,(for,(cpl"),
)
"""A dictionary from the types of international text in ``udta`` to the categories of the text."""

USER_DATA: Final = _table(
    (_L, "loci"),
    (_P, "name,titl,auth,cprt,dscp,perf,gnre,albm,kywd,clsf,rtng,coll,chpl,tnam,tagc,scen,shot,urat"),
    (_T, "yrrc,date"),
    (_D, "manu,modl,cmnm,cmid,slno,CNCV,CNMN,CNFV,FIRM,LENS,CAME,MUID,GUMI,BCID,vndr"),
    (_D | _P, "clfn,clid,reel"),
    (_D | _T | _P, "hnti"),
    (_O, "hinf"),
    (_O, "LOOP,SelO,AllF,WLOC,ptv ,angl,apmd,hinv,tsel,strk,kgtt,ludt,HMMT,SETT,SDLN"),
)
"""Other types of ``udta`` (3GPP, QuickTime, cameras) -> categories of their content."""

ITEMS: Final = _table(
    (_L, "(xyz"),
    (_L | _D, "sfID"),  # the country of the shop
    (_D, "(too,(enc,(mak,(mod,(swr,tool,akID,cnID,atID,plID,geID,cmID,xid ,itnu"),
    (_D | _P, "apID,ownr"),
    (_T, "(day,purd,rldt"),
    (
        _P,
        (
            "(nam,(ART,(alb,(cmt,(com,(wrt,(gen,(grp,(lyr,(cpy,(dir,(prd,(des,(nrt,(pub,(wrk,(mvn,(con,(aut,(key,"
            "(arg,(ope,(sol,(st3,(url,(src,(inf,(prf,aART,desc,ldes,sdes,cprt,keyw,catg,tvsh,tven,tvnn,tves,tvsn,"
            "sonm,soar,soaa,soal,soco,sosn,gnre,purl,egid,titl,auth,perf,dscp,albm,snal,prID,AARL,@PST,@ppi,@PUB,"
            "@PTI,@sti,@nrt,VERS,CDEK,CDET"
        ),
    ),
    (_O, "trkn,disk,tmpo,cpil,pgap,pcst,hdvd,stik,rtng,rate,shwm,(mvi,(mvc,akgn,grup,hdtv,@ver"),
    (NOTHING, "covr"),
)
"""Types of items in an iTunes ``ilst`` -> categories. A cover is cleaned as a picture."""

_KEYS: Final[tuple[tuple[Tells, str], ...]] = (
    (
        _L,
        (
            "location.iso6709 location.name location.body location.note location.role "
            "location.accuracy.horizontal location direction.facing direction.motion gps city country state "
            "locality camera.direction location-eng latitude longitude altitude place"
        ),
    ),
    (
        _D,
        (
            "make model software camera.identifier camera.framereadouttimeinmicroseconds camera.lens_model "
            "camera.lens camera.focal_length.35mm_equivalent content.identifier version manufacturer encoder "
            "encoded_by tool originating.signature device host serial serialnumber firmware camera.make "
            "camera.model still-image-identifier uuid smrdversion smrdmanufacturer camera.serial-number"
        ),
    ),
    (
        _T,
        (
            "creationdate creation_time date year utc_offset creation.date modificationdate timecode "
            "clip.creationdate datetimeoriginal"
        ),
    ),
    (
        _P,
        (
            "title displayname artist author album comment copyright description information keywords "
            "director producer performer publisher composer arranger genre synopsis show lyrics grouping "
            "owner cameraman credits originalartist album_artist episode_id network reel reelname scene shot "
            "detected-face caption collection.user detected-human-body detected-cat-body detected-dog-body "
            "is-montage.user phonogram-rights songwriter people subject"
        ),
    ),
    (
        _O,
        (
            "rating.user live-photo.auto live-photo.vitality-score live-photo.vitality-scoring-version "
            "live-photo-info still-image-time still-image-transform "
            "still-image-transform-reference-dimensions "
            "full-frame-rate-playback-intent is-montage capture.fps capturemode player.version "
            "player.movie.visual.brightness player.movie.visual.color player.movie.visual.tint "
            "player.movie.visual.contrast "
            "player.movie.audio.gain player.movie.audio.treble player.movie.audio.balance track "
            "player.movie.audio.bass player.movie.audio.pitchshift player.movie.audio.mute scene-illuminance "
            "variation-identifier camera.debuginfo compatible_brands major_brand minor_version "
            "cinematic-video video-orientation-info spatial-overcapture-quality-score "
            "spatial-overcapture-quality-scoring-version video.presentation.disparity"
        ),
    ),
    (NOTHING, "video-orientation video.orientation"),
)
_PREFIXES: Final = (
    "com.apple.quicktime.",
    "com.apple.photos.",
    "com.apple.",
    "com.android.",
    "com.samsung.android.",
    "samsung.android.",
    "com.google.android.",
    "mdta.",
)
_BY_KEY: Final = MappingProxyType({name: tells for tells, names in _KEYS for name in names.split()})
_STEMS: Final = MappingProxyType(
    {
        "detected-face": _P,
        "detected-human-body": _P,
        "detected-cat-body": _P,
        "detected-dog-body": _P,
        **dict.fromkeys(["live-photo-info", "still-image-transform", "video-orientation-info"], _O),
    }
)
"""First part of a key (``detected-face`` of ``detected-face.bounds``) -> categories."""
_PLACE: Final = re.compile("gps|geo|lat|lon|loc|place|city|country|coord|address|altitude")


def key_tells(name: bytes) -> Tells:
    """Return the categories of the value of a QuickTime key (``com.apple.quicktime.make``)."""
    text = name.decode("latin-1").strip("\0 ").lower()
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            text = text.removeprefix(prefix)
            break
    if text.startswith("location"):
        return _L | _T if "date" in text or "time" in text else _L
    known = _BY_KEY.get(text)
    stem = text
    while known is None and "." in stem:
        stem = stem.rpartition(".")[0]
        known = _STEMS.get(stem)
    return UNKNOWN if known is None or (stem != text and _PLACE.search(text)) else known


def free_form_tells(name: bytes, value: bytes = b"") -> Tells:
    """Return the categories of the value of an iTunes free-form item (``----``) with this name."""
    text = name.decode("latin-1").strip("\0 ")
    return UNKNOWN if is_odd_markup(text, value) else tells_of_name(text)
