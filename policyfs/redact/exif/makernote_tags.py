"""The known tags of makers' own directories, and the categories of each tag.

Maker notes are not standardised. The authors of metadata readers found out the meaning of the tags over the
years (ExifTool, Exiv2 and libraw; for Apple, the names in its ImageIO). Tags of unknown meaning are in no
table. Such a tag stays only if its value has no information (empty_values.py). If only parts of a block are
known, the block has the categories of all data that some camera stores in it. Data that decoders of raw
pixels need (levels, matrices, curves, keys to decrypt them) has no category. (Nikon's key is an exception:
the serial number and the shutter count.)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME
from policyfs.redact.exif.rules import How, Rules, rules

_NO_PLACE: Final = DEVICE | TIME | PEOPLE | OTHER
"""Categories of blocks of firmware, counters, lenses or dates, which never hold a place."""
_DIRECTORY: Final = How.DIRECTORY
_PICTURE: Final = How.PICTURE

_PRINT_IM: Final = ("e00", OTHER)

_CANON: Final = rules(
    ("2 3 4 5 a 11 12 13 1a 1c 1d 26 27 3c 81 90 91 92 94 99 ae b1 b2 b3 b4 b6 d0 e f", OTHER),
    ("4005 4008 4009 4013 4018 4020 4021 4024 4025 4026 4028 403f", OTHER),
    ("4 29 98 9a a0 a1 a2 a3 a4 a9 aa b0 e0 4001 4002 4003 4015 4016", NOTHING),
    ("1", DEVICE | OTHER),  # settings, also of the lens
    ("6 7 8 c 10 15 1e 28 38 93 95 96 4019", DEVICE),
    ("9", DEVICE | PEOPLE),
    ("d 97", _NO_PLACE),
    ("23 24 25 2f 4010", PEOPLE),
    ("35", TIME, How.CITY),  # time zone, its city, daylight saving
)
_NIKON: Final = rules(
    ("1 2 3 4 5 6 7 8 9 b d e f 12 13 17 18 19 1a 1c 1e 1f 22 23 25 2a 34 35 80 81 85 86 87 88", OTHER),
    ("89 8b 8d 8f", OTHER),
    ("90 92 94 95 9c 9d 9e a9 aa ab ac ad b0 b1 b3 b7 b9 bb bd bf", OTHER),
    _PRINT_IM,
    ("c 14 16 1b 3d 3e 3f 45 4f 8c 93 96 97 99 9a a2 e22", NOTHING),
    ("11", NOTHING, _DIRECTORY, "Nikon preview"),
    ("e0e e1d", OTHER),
    ("e10", OTHER, _DIRECTORY, "Nikon scan"),
    # Serial number and shutter count are also the key to decrypt the colours of raws.
    ("1d 37 82 83 84 98 a0 a5 a6 a7 e09 e1e", DEVICE),
    ("10 2b 4e 91 a8 b8", _NO_PLACE),
    ("20", DEVICE | OTHER),
    ("24 b6", TIME),
    ("21", PEOPLE),
    ("39 c3", LOCATION),  # place names; the barometer's altitude
)
_NIKON_SCAN: Final = rules(("2 40 41 50 51 60 100 200 201 202", OTHER))
_PREVIEW: Final = rules(("fe 100 101 103 11a 11b 128 201 202 213", NOTHING))
_SONY: Final = rules(
    ("102 104 105 112 115 1000 1001 1002 1003 2002 2004 2005 2006 2007 2008 2009 200a 200b 200e", OTHER),
    ("200f 2011 2012 2013 2014 2016 2017", OTHER),
    ("201a 201b 201c 201d 201e 2020 2021 2022 2023 2026 2027 2028 2029 202b 202c 202d 202e 202f", OTHER),
    ("2032 2033 2034 2035 2036 2037 2039 b000 b020 b021 b022 b023 b024 b025 b026 b029", OTHER),
    ("b02b b02c b040 b041 b042 b043 b044 b047 b048 b049 b04a b04b b04e b04f b050 b052 b054", OTHER),
    _PRINT_IM,
    ("2001", OTHER, _PICTURE),
    ("2031 b001 b027 b02a", DEVICE),
    ("10 20 114 116 2010 202a 3000 900b 9050 9400 9401 9402 9403 9404 9405 9406 9407 9408 9409", _NO_PLACE),
    ("940a 940b 940c 940d 940e 940f 9411 9416", _NO_PLACE),
)
_FUJIFILM: Final = rules(
    ("0 1000 1001 1002 1003 1004 1005 1006 100a 100b 100e 100f 1010 1011 1020 1021 1022 1023", OTHER),
    ("102b 102d 102e 1030 1031 1032 1033 1034 1040 1041", OTHER),
    (
        "1044 1045 1047 1048 1049 104b 104c 104d 104e 1050 1100 1101 1103 1105 1106 1153 1154 1201 1210",
        OTHER,
    ),
    ("1300 1301 1302 1304 1400 1401 1402 1403 1404 1405 1406 1407 140b 1422 1425 1431 1436 1443", OTHER),
    ("1444 1445 1446 144d", OTHER),
    ("3803 3804 3806 3820 3821 3822 3824 8000 8002 8003 b211", OTHER),
    ("10", DEVICE | TIME),  # a serial number with the day of manufacture in it
    ("1438 1447 1448", DEVICE),
    ("4005 4100 4103 4200 4201 4203 4282", PEOPLE),
)
_OLYMPUS: Final = rules(
    ("0 40 88 89 200 201 202 203 204 205 206 20b 20c 300 301 302 303 304 403 1000 1001 1002 1003", OTHER),
    ("1004 1005 1006 1007 1008 1009 100a 100b 100c 100d 100e 100f 1010 1013 1014 1015 1019 101b", OTHER),
    ("101c 101d 101e 101f 1020 1021 1022 1023 1024 1025 1026 1027 1028 1029 102a 102b 102c 102d", OTHER),
    ("102e 102f 1030 1031 1033 1034", OTHER),
    ("1035 1036 1037 1038 1039 103a 103b 103c 103d 103e 103f f04 f05 f06", OTHER),
    _PRINT_IM,
    ("400 401 1011 1012 1017 1018", NOTHING),
    ("81 100 280", OTHER, _PICTURE),
    ("1 3 208", _NO_PLACE),
    ("104 207 209 20d 404 405 101a", DEVICE),
    ("2010", NOTHING, _DIRECTORY, "Olympus equipment"),
    ("2020", NOTHING, _DIRECTORY, "Olympus settings"),
    ("2030 2031", NOTHING, _DIRECTORY, "Olympus development"),
    ("2040", NOTHING, _DIRECTORY, "Olympus processing"),
    ("2050", NOTHING, _DIRECTORY, "Olympus focus"),
    ("3000", NOTHING, _DIRECTORY, "Olympus raw"),
    ("4000", NOTHING, _DIRECTORY, "Olympus"),
)
_OLYMPUS_EQUIPMENT: Final = rules(
    ("0", OTHER),
    (
        "100 101 102 103 104 201 202 203 204 205 206 207 208 20a 20b 301 302 303 304 403 1000 1001 1002 1003",
        DEVICE,
    ),
)
_OLYMPUS_SETTINGS: Final = rules(
    ("0 100 101 102 200 201 202 203 204 300 301 302 303 304 305 306 307 308 309 400 401 403 404", OTHER),
    ("405 406 500 501 502 503 504 505 506 507 509 50a 50b 50c 50d 50f 520 521 522 523 524 525", OTHER),
    ("526 527 529", OTHER),
    ("52c 52d 52e 52f 532 537 538 539 53a 53b 600 601 603 604 804 900 902 903 904", OTHER),
    ("901", LOCATION),  # metres above the sea, or below
    ("908", TIME),
)
_OLYMPUS_DEVELOPMENT: Final = rules(
    ("0 100 101 102 103 104 105 106 107 108 109 10a 10b 10c 10d 10e 10f 110 111 112 113 119 120 121", OTHER)
)
_OLYMPUS_PROCESSING: Final = rules(
    ("0 100 102 103 104 105 106 107 108 109 10a 10b 10c 10d 10e 10f 110 111 113 114 115 116 117", NOTHING),
    ("118 119 11a 11b 11c 11d 11e 11f 200 300 301 310 311 600 610 611 612 613 614 615 635 636", NOTHING),
    ("805 1010 1011 1012 101c", NOTHING),
    ("1103 1104 1112 1113 1306 1900 1901 1906", NOTHING),
    ("1200 1201 1202 1203 1207", PEOPLE),
)
_OLYMPUS_FOCUS: Final = rules(
    ("0 209 210 211 212 300 301 303 304 305 308 328 1201 1203 1204 1205 1208 1209 120a 1500 1600", OTHER)
)
_OLYMPUS_RAW: Final = rules(
    ("0 100 110 120 121 122 123 124 130 131 132 133 200 310 311 600 601 611 612 613 614 615 1000", NOTHING),
    ("1001 1010 1011 1012 1013", NOTHING),
    ("2000 2001 2002 2010 2020 2021 2022 2023", NOTHING),
)
_PANASONIC: Final = rules(
    ("1 3 7 f 1a 1c 1f 20 23 24 26 27 28 2a 2b 2c 2d 2e 30 31 32 34 35 38 39 3b 3c 3d 3e 40 41", OTHER),
    ("42 43 44 45 46 47 48 49 4b 4c 4d 59 5d", OTHER),
    ("62 70 76 77 79 7c 86 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94 96 9d 9e 9f a1 a3 a7 ab ac ad b3", OTHER),
    ("b4 b9 bb bc bd be bf c1 d1 d2 d6", OTHER),
    ("e8 ee 8000 8001 8002 8003 8004 8005 8006 8008 8009 8012", OTHER),
    _PRINT_IM,
    ("2 25 51 52 53 54 60 c4 c5 ca e4", DEVICE),
    ("29 36 3a af 2003", TIME),  # 3a: which of two time zones is in use: home or destination
    ("33 8010", TIME | PEOPLE),  # a person's age
    ("3f 4e 61 63 65 66", PEOPLE),
    ("67 69 6b 6d 6f 80", LOCATION),
)
_LEICA5: Final = rules(
    ("40a 40d 410 412 413", OTHER), ("303 305 500", DEVICE), ("407 408", DEVICE | TIME | PEOPLE)
)
_LEICA9: Final = rules(("304 311 312 359 35a 35b 35c 35d", OTHER), ("34c", PEOPLE))
_PENTAX: Final = rules(
    ("0 2 3 4 8 9 b c d e f 10 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 20 21 2d 32 33 34 35 3c", OTHER),
    ("3e 40 47 48 49 4d 4f 50 53 54 55 56 57 58 59 5a 5c 62 67 68 69 6c 6d 6e 6f 70 71 72 73 74", OTHER),
    ("79 7a 7b 7f 80 82 85 87 88 8b 92 95 96 205 206 208 209 20a 20b 21b 21f 222 224 226 22a 22b", OTHER),
    ("231 235 243 245", OTHER),
    _PRINT_IM,
    ("37 38 39 3d 7e 200 201 203 204 20d 20e 20f 210 211 212 213 214 21c 21d 220 221 22d 402 403", NOTHING),
    ("1 5 27 28 29 3f 41 5d 7d 207 216 229 230 239 23f", DEVICE),
    ("215", DEVICE | TIME),
    ("6 7 22 25 26", TIME),  # 22: which of two time zones is in use: home or destination
    ("60 76 77 227 228 22e 22f", PEOPLE),
    ("23 24 6b", LOCATION | TIME),
)
_SAMSUNG: Final = rules(
    ("1 11 20 21 41 43 a011 a012 a013 a014 a018 a019 a01a", OTHER),
    ("40 50 a010 a020 a021 a022 a023 a024 a025 a028 a030 a031 a032 a033 a034 a035 a036 a040 a041", NOTHING),
    ("a042 a043 a048 a050 a051 a052 a053 a054 a055 a056 a057", NOTHING),
    ("35", NOTHING, _DIRECTORY, "Nikon preview"),
    ("2 3 a001 a002 a003 a004 a005", DEVICE),
    ("100 120 123", PEOPLE),
    ("30 31", LOCATION),
)
_APPLE: Final = rules(
    ("1 2 4 5 6 7 8 a c d e f 10 12 13 14 19 1a 1b 1c 1d 1f 21 22 23 24 25 26 27 28 2c 2d 2e 2f", OTHER),
    ("30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d", OTHER),
    ("b 11 15 16 17 18 1e 20 29 2a 2b", DEVICE),  # ids of pictures, signatures, programs
    ("3", TIME),  # the time since the phone was started
)
_CASIO: Final = rules(("1 2 3 4 5 6 7 a b c d 14 16 17 18 19", OTHER), ("15", DEVICE | TIME))
_CASIO2: Final = rules(
    (
        "2 3 4 8 9 d 14 19 1d 1f 20 21 2011 2012 2021 2022 2034 2076 3000 3001 3002 3003 3007 3008 3009",
        OTHER,
    ),
    (
        "3011 3012 3013 3014 3015 3016 3017 301b 301c 301d 3020 302a 302b 3030 3031 3103 310b 4001 4003",
        OTHER,
    ),
    _PRINT_IM,
    ("2000", OTHER, _PICTURE),
    ("2001", DEVICE | TIME),
    ("2089 211c", PEOPLE),
    ("3006", LOCATION),
)
_MINOLTA: Final = rules(
    ("0 18 20 40 88 89 100 101 102 103 104 105 107 109 10a 10b 111 112 113 115", OTHER),
    _PRINT_IM,
    ("81", OTHER, _PICTURE),
    ("10c", DEVICE),
    ("1 3 4 10 114 f00", _NO_PLACE),
)
_SIGMA: Final = rules(
    ("3 4 5 6 7 8 9 b c d e f 10 11 12 14 15 16 19 1a 1b 1c 1d 1e 1f 22 24 26 2c 30 31 32 33 34", OTHER),
    ("35 39 3a 3c 3d 48 49 4a 4b 4d 55 56 58 59 86 87 88", OTHER),
    ("11f 120 121", OTHER),
    ("2 a 17 18 27 2a 2b 3b 57 84 8c", DEVICE),
)
_DJI: Final = rules(
    ("6 8 9 b", OTHER),
    ("1", DEVICE),
    ("3 4 5 7 a", LOCATION | OTHER),  # the drone's speed and direction
)
_RICOH: Final = rules(
    ("1 1000 1002 1003 1004 1006 1007 1009 100a 100b 100c 100d 100e 100f 1010 1011 1012 1013", OTHER),
    ("1014 1015 1016 1017 1018 1019 101a 1200 1201 1202 1203 1204 1205 1307 1308 1500 1601 1602", OTHER),
    ("1603 1604", OTHER),
    _PRINT_IM,
    ("2 5", DEVICE),
    ("1001", TIME | OTHER),
)
_NIKON2: Final = rules(("3 4 5 6 7 8 a b", OTHER))

_MOTOROLA: Final = rules(
    ("6420 64d0", OTHER),
    ("5500 5501 665e", DEVICE),
    ("6705", DEVICE | TIME),  # the camera's day of manufacture
)

NOTE_TABLES: Final[Mapping[str, Rules]] = MappingProxyType(
    {
        "Apple": _APPLE,
        "Canon": _CANON,
        "Casio": _CASIO,
        "Casio type 2": _CASIO2,
        "DJI": _DJI,
        "FujiFilm": _FUJIFILM,
        "Leica 5": _LEICA5,
        "Leica 9": _LEICA9,
        "Minolta": _MINOLTA,
        "Motorola": _MOTOROLA,
        "Nikon": _NIKON,
        "Nikon preview": _PREVIEW,
        "Nikon scan": _NIKON_SCAN,
        "Nikon type 1": _NIKON2,
        "Olympus": _OLYMPUS,
        "Olympus development": _OLYMPUS_DEVELOPMENT,
        "Olympus equipment": _OLYMPUS_EQUIPMENT,
        "Olympus focus": _OLYMPUS_FOCUS,
        "Olympus processing": _OLYMPUS_PROCESSING,
        "Olympus raw": _OLYMPUS_RAW,
        "Olympus settings": _OLYMPUS_SETTINGS,
        "Panasonic": _PANASONIC,
        "Pentax": _PENTAX,
        "Ricoh": _RICOH,
        "Samsung": _SAMSUNG,
        "Sigma": _SIGMA,
        "Sony": _SONY,
    }
)
"""A dictionary from the role of a directory in a maker note ("Canon") to the rules for its tags."""

PREVIEWS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = MappingProxyType(
    {
        "Casio type 2": ((0x0004, 0x0003),),
        "Minolta": ((0x0088, 0x0089),),
        "Nikon preview": ((0x0201, 0x0202),),
        "Olympus": ((0x0088, 0x0089), (0x1036, 0x1037)),
        "Olympus settings": ((0x0101, 0x0102),),
        "Pentax": ((0x0004, 0x0003),),
        "Sigma": ((0x001C, 0x001D), (0x001A, 0x001B)),
    }
)
"""Role of a directory -> pairs of tags: the offset and the length of a preview in the file."""
