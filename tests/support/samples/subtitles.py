"""Subtitles beside films, with a place in a cue or elsewhere."""

from __future__ import annotations

from tests.support.samples.media import HOME

SUBRIP, SBV, SCRIPT = "application/x-subrip", "application/x-sbv", "application/x-ssa"
VTT = "application/x-location+vtt"
PLACE = f"{HOME.latitude}, {HOME.longitude}"


def subrip(*cues: str, end: str = "\n") -> bytes:
    """SubRip with a cue for each text."""
    clocks = [f"{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}" for n in range(1, len(cues) + 1)]
    rows = enumerate(zip(clocks, cues, strict=True), 1)
    times = [f"{number}\n{clock},000 --> {clock},900\n{text}\n" for number, (clock, text) in rows]
    return "\n".join(times).replace("\n", end).encode()


def vtt(*cues: str, head: str = "") -> bytes:
    times = [f"00:{n:02}.000 --> 00:{n:02}.900 line:0 align:left\n{text}\n" for n, text in enumerate(cues)]
    return "\n".join((f"WEBVTT{head}\n", *times)).encode()


def sbv(*cues: str) -> bytes:
    return "\n".join(f"0:00:{n:02}.000,0:00:{n:02}.900\n{text}\n" for n, text in enumerate(cues)).encode()


def script(*lines: str, head: str = "", style: str = "Default", behind: str = "") -> bytes:
    """A script of ASS with a line for each text."""
    words = "".join(
        f"Dialogue: 0,0:00:0{n}.00,0:00:0{n}.90,{style},,0,0,0,,{line}\n" for n, line in enumerate(lines)
    )
    return (
        f"[Script Info]\nScriptType: v4.00+\n{head}\n[Events]\n"
        f"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n{words}{behind}"
    ).encode()


def drone(number: int, place: str) -> str:
    """A cue of a drone's film."""
    return (
        f'<font size="28">SrtCnt : {number}, DiffTime : 33ms\n2021-07-23 17:46:08.{number:03}\n'
        f"[iso : 100] [shutter : 1/2000.0] [fnum : 2.8] {place} [rel_alt: 12.300 abs_alt: 437.250] </font>"
    )


_BRACKETS = f"[latitude: {HOME.latitude}] [longitude: {HOME.longitude}]"
FLIGHT = subrip(*(drone(n, _BRACKETS) for n in range(1, 6)), "Rosa flies")
_PAIR = f"{HOME.longitude},{HOME.latitude}"
_OLD = f"HOME({_PAIR}) 2021.07.23 17:46:08\nGPS({_PAIR},16) BAROMETER:12.3"
HIDING: dict[str, tuple[str, bytes]] = {
    "SubRip": (SUBRIP, subrip("Hello.", f"at {PLACE}")),
    "SubRip of Windows": (SUBRIP, b"\xef\xbb\xbf" + subrip("Hello.", f"at\n{PLACE}", end="\r\n")),
    "SubRip in UTF-16": (SUBRIP, subrip("Hello \U0001f642", f"\U0001f642 {PLACE}").decode().encode("utf-16")),
    "coordinates on two lines": (SUBRIP, subrip(f"{HOME.latitude}\n{HOME.longitude}")),
    "coordinates around a blank line": (SUBRIP, subrip(f"{HOME.latitude},\n\n{HOME.longitude}")),
    "drone": (SUBRIP, FLIGHT),
    "older drone": (SUBRIP, subrip(_OLD, _OLD)),
    "cue without a place's word": (SUBRIP, subrip(drone(1, _BRACKETS), f"{HOME.latitude} only")),
    "coordinates in two cues": (SUBRIP, subrip(f"{HOME.latitude}", f"{HOME.longitude}")),
    "number of a cue": (
        SUBRIP,
        subrip("a", PLACE).replace(b"2\n00:00:02", f"{HOME.latitude}\n00:00:02".encode()),
    ),
    "style of ASS": (SCRIPT, script("a", style=f"N{HOME.latitude} E{HOME.longitude}")),
    "lines of ASS": (SCRIPT, script(f"{HOME.latitude}", f"{HOME.longitude}")),
    "behind a time": (
        SUBRIP,
        subrip("Hello.") + f"\n2\n00:00:03,000 --> 00:00:04,000 {PLACE}\nHi.\n".encode(),
    ),
    "line and position of WebVTT": (
        VTT,
        vtt("Hello.").replace(b"line:0", f"line:{HOME.latitude} position:{HOME.longitude}".encode()),
    ),
    "before the first time": (SUBRIP, subrip("a") + f"\n{PLACE}\n\n".encode() + subrip("b")),
    "WebVTT": (VTT, vtt("Hello.", f"<v Rosa>at {PLACE}")),
    "head of WebVTT": (VTT, vtt("Hello.", head=f" - {PLACE}")),
    "note of WebVTT": (VTT, vtt("Hello.", head=f"\n\nNOTE {PLACE}")),
    "style of WebVTT": (VTT, vtt("Hello.", head=f"\n\nSTYLE\n::cue {{ /* {PLACE} */ }}")),
    "name of a cue": (VTT, vtt(f"Hello.\n\n{PLACE}")),
    "SBV": (SBV, sbv("Hello.", f"at {PLACE}")),
    "ASS": (SCRIPT, script("Hello.", f"at {PLACE}")),
    "speaker of ASS": (SCRIPT, script("a").replace(b"Default,,", f"Default,{HOME.latitude}N,".encode())),
    "comment of ASS": (SCRIPT, script("a", behind=f"Comment: 0,0:00:00.00,0:00:00.00,,,0,0,0,,{PLACE}\n")),
    "header of ASS": (SCRIPT, script("a", head=f"Title: {PLACE}\n; {PLACE}\nOriginal Script: {HOME.city}\n")),
    "fonts of ASS": (SCRIPT, script("a", behind=f"\n[Fonts]\nfontname: {PLACE}\nABCDEF\n")),
}
"""Content kind and file, by the part that has the place."""
SEEDS = tuple(HIDING.values())
