"""Coordinates, codes of places and links to maps in text, in the spellings of many programs and languages.

_PATTERNS are searched in all texts. Each pattern of _MORE has *hints*: words or signs. Every text that the
pattern matches has one of these hints. The search for a hint is quick, so the hint is searched first.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from itertools import product
from typing import Final
from urllib.parse import unquote

_BEGIN: Final = r"(?<![^\W_])"
_END: Final = r"(?![^\W_])"
"""Patterns of the borders of a word, also beside an underscore: IMG_N47.8_E13.0.jpg."""
_UNIT: Final = r"(?:0{1,3}|0{0,2}1)[.,]\d{3,}(?!\d)"
"""A number below 2: a corner of a mask, a chromaticity. A place on land has at most one."""
_GAP: Final = r"[^\w\n]{0,64}"
"""Pattern of the characters between a name and its value: programs align values with dots and blanks."""
_VALUE: Final = rf"{_GAP}(?:is\s)?[nsew]?[^\w\n]{{0,3}}\d"
_VALUE_BELOW: Final = rf"{_GAP}\n{_GAP}[nsew]?[^\w\n]{{0,3}}\d{{1,3}}[.,]\d\d"
"""Pattern of a decimal number on the line below its name."""
_BETWEEN: Final = r"(?:[^\d\n]{1,16}|[^\w\n]{17,80})"
"""Pattern of the characters between the two numbers of a pair: some words, or any row of blanks and dots."""
_FIRST: Final = rf"[-+]?(?<!\d)(?<!\d\.)(?!{_UNIT}{_BETWEEN}{_UNIT})"
"""Pattern of what comes before the first number of a pair."""
_DECIMAL: Final = rf"{_FIRST}\d{{1,3}}[.,]\d{{3,}}"
_WHOLE: Final = r"\d{1,3}[.,](?:\d{4,}|\d{3}(?!\d|\.\d{1,3}\.\d))"
"""Pattern of a decimal number that is not the start of an IP address (192.168.123.101)."""
_OLC: Final = "[23456789CFGHJMPQRVWX]"
_OLC_LOWER: Final = _OLC.lower()
_SIGN: Final = r"(?:[°º˚∘]|deg\b|\u00c2\u00b0|&deg;|&#(?:176|xb0);|\\u00b0|%c2%b0)"
"""Signs for degrees, also in HTML, JSON and links, and in UTF-8 that was read as Latin-1."""
_DEGREES: Final = r"(?<!\d)(?<!\d\.)0{0,3}(?!(?:180|[2-9]\d\d)\D)\d{1,3}(?:[.,]\d+)?"
"""Pattern of degrees below 200, except 180, which is the name of a sort of video ("VR 180°")."""
_PRIME: Final = "['\u2019\u2032\u00b4]"
_SIGN_HINTS: Final = ("deg", "&#", "\\u00", "%c2")
_PATTERNS: Final = (
    # "latitude": 47.8 / GPS N47 / lon=13
    (
        ("gps", "lat", "lon", "lng", "geo", "coord"),
        (
            rf"\b(?:gps\w{{0,20}}|lat(?:itude)?|lon(?:gitude)?|lng|geo|coord\w{{0,20}}|latlo?ng?)\b"
            rf"(?:{_VALUE}|{_VALUE_BELOW})"
        ),
    ),
    # long: 13 / long 13.04, but not "so long 2023"
    (("long",), rf"\blong\b(?={_GAP}(?:[:=]|[nsew]?[^\w\n]{{0,3}}\d{{1,3}}(?:[.,]\d|\s?{_SIGN}))){_VALUE}"),
    (
        ("latitude", "longitude"),
        rf"(?:latitude|longitude)\w{{0,4}}(?:[^\w\n]{{1,64}}(?:is\s)?[nsew]?[^\w\n]{{0,3}}\d|{_VALUE_BELOW})",
    ),
    # startLat=47.8, lat_deg: 47.8
    (
        ("lat", "lon", "lng"),
        rf"(?:(?-i:[a-z]L(?:at|on|ng|ong))|\b(?:lat|lon|lng|long)_?deg\w{{0,4}})\b{_VALUE}\d{{0,2}}[.,]\d",
    ),
    # 47°48'16" / 47 deg 48', but not "360° 4K" or "VR 180° 3D"
    (_SIGN_HINTS, rf"{_DEGREES}\s?{_SIGN}\s?(?:\d{{1,2}}|[nsew]\b)"),
    # 47.8°, 13.0°
    (_SIGN_HINTS, rf"\d[.,]\d{{1,12}}\s?{_SIGN}\s?[,;/|]\s?[-+]?\d{{1,3}}[.,]\d{{1,12}}\s?{_SIGN}"),
    (
        ("'",),
        rf"\d{{1,3}}\s\d{{1,2}}(?:[.,]\d+)?{_PRIME}\s?(?:\d{{1,2}}(?:[.,]\d+)?[\"\u201d\u2033]?)?\s?[nsew]\b",
    ),
    # N47.804
    ((), rf"{_BEGIN}[nsew]\s?\d{{1,3}}[.,]\d{{2,}}+(?![^\W_nsew])"),
    # 47.804N, but not the end of a version (1.0.177471000n). A comma may be before the number
    # (IMG_1,48.85830N)
    ((), rf"(?<!\d)(?:(?<!\d\.)\d{{1,3}}\.|\d{{1,3}},)\d{{3,}}\s?[nsew]{_END}"),
    # NMEA 0183 sentences
    (("$",), r"\$(?:gp|gn|gl|ga|gb|gi|gq|bd|qz)(?:gga|rmc|gll|gns|gsa|vtg)\b"),
    # links to a spot on a map
    (
        ("geo:", "maps"),
        r"\bgeo:[-+]?\d|maps\.google|google\.[a-z.]{2,6}/maps|goo\.gl/maps|maps\.app|maps\.apple",
    ),
    (
        ("openstreetmap", "osm.org", "bing.com", "what3words", "w3w.co"),
        r"openstreetmap\.org|osm\.org|bing\.com/maps|what3words|w3w\.co",
    ),
    # Open Location Code
    (
        ("+",),
        (
            rf"(?-i:{_BEGIN}(?:{_OLC}{{4,8}}\+{_OLC}{{2,4}}|{_OLC_LOWER}{{4,8}}\+{_OLC_LOWER}{{2,4}}){_END}"
            rf"|\b(?:{_OLC}{{2,6}}|{_OLC_LOWER}{{2,6}})(?:00){{1,3}}\+(?!\w))"
        ),
    ),
)
_PAIR: Final = re.compile(rf"{_FIRST}({_WHOLE})(?={_BETWEEN}({_WHOLE}))")
"""Pattern of a decimal number before another one: 47.80453, 13.04229 or +47.8045+013.0423/ (ISO 6709)."""
_COORDINATES: Final = tuple(
    (hints, re.compile(pattern, re.IGNORECASE)) for hints, pattern in _PATTERNS if hints
)
_OF_DECIMALS: Final = tuple(re.compile(pattern, re.IGNORECASE) for hints, pattern in _PATTERNS if not hints)
"""Patterns without hints: a text that they match has a decimal number (_DECIMALS)."""
_BEFORE_NUMBERS: Final = tuple(" \t:;=,/|([{<>\"'")
"""Characters before a number in text."""
_DECIMALS: Final = re.compile(r"[.,]\d\d")
_DIGIT: Final = re.compile(r"\d")
_PART: Final = r"[.,]\d{1,6}"
_APART: Final = r"[\s,;/|_-]"
_MINUTES: Final = r"[0-5]?\d(?:[.,]\d{1,6})?"
_PARTED: Final = rf"\d{{1,3}}[ :-]\s?{_MINUTES}(?:[ :-]\s?{_MINUTES})?"
_WITHOUT_SIGNS: Final = re.compile(
    # N47 48.272 E013 02.537
    rf"{_BEGIN}[ns]\s?{_PARTED}{_APART}{{1,40}}[ew]\s?\d{{1,3}}[ :-]\s?{_MINUTES}"
    # 47-48-16N 013-02-32E
    rf"|(?<![\d.,:-]){_PARTED}\s{{0,2}}[ns]{_END}{_APART}{{0,40}}{_PARTED}\s{{0,2}}[ew]{_END}"
    # 4748.272,N,01302.537,E / 474816N 0130232E
    rf"|(?<!\d)\d{{4}}(?:\d\d)?(?:[.,]\d{{1,6}})?,?\s?[ns]{_APART}{{0,40}}"
    rf"[01]\d{{4}}(?:\d\d)?(?:[.,]\d{{1,6}})?,?\s?[ew]{_END}"
    # N474816 E0130232 / N:4748.27 E:01302.53
    rf"|{_BEGIN}[ns][\s:]{{0,2}}\d{{4}}(?:\d\d)?(?:[.,]\d{{1,6}})?{_APART}{{0,40}}[ew][\s:]{{0,2}}[01]\d{{4}}"
    # 47.8N 13.0E / 13.0E 47.8N / N47.8 E13.0 / N:47.8 E:13.0
    rf"|(?<![\d.])\d{{1,2}}{_PART}\s{{0,2}}[ns]{_END}{_APART}{{1,40}}\d{{1,3}}{_PART}\s{{0,2}}[ew]{_END}"
    rf"|(?<![\d.])\d{{1,3}}{_PART}\s{{0,2}}[ew]{_END}{_APART}{{1,40}}\d{{1,2}}{_PART}\s{{0,2}}[ns]{_END}"
    rf"|{_BEGIN}[ns][\s:]{{0,2}}\d{{1,2}}[.,]\d{{1,6}}\s?[°º]?{_APART}{{1,40}}[ew][\s:]{{0,2}}\d{{1,3}}[.,]\d"
    # 47.8N13.0E
    rf"|(?<![\d.])\d{{1,2}}\.\d{{1,6}}\s?[ns]\d{{1,3}}\.\d{{1,6}}\s?[ew]{_END}"
    # 47,48,16N (XMP)
    rf"|(?<![\d.,])\d{{1,3}},[0-5]?\d,[0-5]?\d[nsew]{_END}",
    re.IGNORECASE,
)
"""Both coordinates in degrees with minutes or decimals, without their signs."""
_NORTH_OR_SOUTH: Final = re.compile(
    rf"\d\W{{0,2}}[ns]{_END}|{_BEGIN}[ns]\W{{0,2}}\d|\d\W{{0,2}}[ns]\d|,\d\d?[ew]{_END}", re.IGNORECASE
)
"""A quick search: every text that _WITHOUT_SIGNS matches matches this."""
_QUERY: Final = re.compile(
    r"[?&#](?:ll|sll|cbll|q|map|center|cp|at|pt|daddr|pin|loc|pos|view|coords?|latlng)="
    r"(?:\d{1,2}(?:\.\d{1,4})?/)?[-+]?\d{1,3}\.\d{1,10}(?:,|%2c|~|/|;)[-+]?\d"
    r"|/@-?\d{1,3}\.\d{1,10},-?\d",
    re.IGNORECASE,
)
"""Parts of links to maps that hold coordinates."""
_MAPS: Final = (
    *(
        "waze.com/ul",
        "mapquest.com/",
        "wego.here.com/",
        "share.here.com/",
        "mapy.cz/",
        "mapy.com/",
        "amap.com/",
    ),
    *(
        "comgooglemaps:",
        "google.navigation:",
        "maps.me/",
        "plus.codes/",
        "geohash.org/",
        "omaps.app/",
        "ge0.me/",
    ),
    *("ge0://", "osmand.net/", "geohack.php", "naver.me/", "kko.to/", "foursquare.com/v", "4sq.com/"),
    *("swarmapp.com/", "/explore/locations/", "mapcarta.com/", "wikimapia.org/", "map.geo.admin.ch"),
    *("caltopo.com/", "gaiagps.com/", "alltrails.com/", "wikiloc.com/", "coord.info/gc", "g.co/maps"),
    *("strava.com/activities/", "strava.com/routes/", "strava.com/segments/"),
)
"""Parts of links to places on the maps of further services."""
_SEVERAL_MAPS: Final = re.compile(
    r"(?=[myko2])(?:yandex\.[a-z.]{2,6}/maps|\bmaps?\.(?:baidu|naver|kakao|qq|yandex)\."
    r"|komoot\.[a-z]{2,3}/tour|\b2gis\.[a-z]{2,3}/|\bom://)",
    re.IGNORECASE,
)
"""Maps with several addresses, or with one that may end a longer word (``om://`` in ``wisdom://``)."""
_NORTH: Final = (
    r"(?:[nsew]\b|north|south|east|west|nord|süd|sud|ost|est|ouest|norte|sur|este|oeste|nördl|südl|östl|westl"
    r"|с\.?\s?ш|ю\.?\s?ш|в\.?\s?д|з\.?\s?д)"
)
_SOME_NUMBER: Final = r"[-+]?\d{1,3}\.\d{1,10}"
_MORE: Final = (
    # 47 degrees 48 minutes north, 47.8 degrees north (but not 180 degrees 20 minutes)
    (
        ("degr", "grad", "град", "graus"),
        (rf"\b[nsew]\s?\d{{1,3}} degrees \d{{1,2}}(?:\.\d+)? min"
        r"|\d\s?(?:degr(?:ee|é)s?|grad(?:os?|i|en)?|graus|градус\w{0,3})[\s,]{1,40}"
        rf"(?:{_NORTH}|\d{{1,2}}(?:[.,]\d+)?\s?(?:{_PRIME}|min\w{{0,5}}[\s,]{{1,40}}(?:{_NORTH}|\d{{1,2}}|and\s\d)))"),
    ),
    # 北緯35度41分22秒, 위도: 37.56
    (
        ("緯", "経", "經", "纬", "经", "위", "경", "度"),
        (r"(?=[北南東西东緯纬経經经위경북남동서\d])(?:(?:[北南][緯纬]|[東西东][経經经]|[緯纬経經经]度|위도|경도|북위|남위|동경|서경)[^\w\n]{0,64}[nsew]?[^\w\n]{0,3}\d"
        r"|\d{1,3}度\d{1,2}(?:\.\d+)?分\d{1,2}(?:\.\d+)?秒)"),
    ),
    # labels in other languages
    (
        ("latitud", "longitud", "graad", "breite", "länge", "широт", "долгот", "geo", "szeroko"),
        (r"(?=[lbgшдsd])(?:latitud(?:ine|en)?|longitudine|(?:breedte|lengte)graad|(?:breiten|längen)grad|широт[аы]|долгот[аы]"
        r"|geo\w{0,8}\.?\s(?:breite|länge)|(?:szerokość|długość)\sgeo\w{0,12}\.?)[^\w\n]{1,64}[nsew]?\s?[-+]?\d"),
    ),
    (
        ("grad", "aste", "piiri", "enlem", "boylam", "zeměpisn", "földrajzi", "довгот", "γεωγραφικ", "độ",
        "ละติจูด", "ลองจิจูด", "अक्षांश", "देशांतर", "خط", "lintang", "bujur"),
        (r"(?:(?:bredde?|l[æeä]ngde?)grad|(?:leveys|pituus)(?:aste|piiri)|enlem|boylam|(?:zeměpisn|földrajzi|γεωγραφικ)\w{0,3}\s\w{5,12}"
        r"|довгот\w|(?:vĩ|kinh)\s?độ|ละติจูด|ลองจิจูด|अक्षांश|देशांतर|خط\s(?:ال)?(?:عرض|طول)|lintang|bujur|(?:breite|länge)\s\(grad\))"
        r"[^\w\n]{1,64}(?:[nsew]\s?)?[-+]?\d{1,3}[.,]\d"),
    ),
    # Breite: 47.804, szer. geogr. 47,804, but not the width of a thing: Breite: 47.500 mm
    (
        ("breite", "länge", "bredd", "längd", "længd", "lengd", "breedte", "lengte", "szer", "dł", "шир",
         "долг", "šířka", "délka"),
        (r"\b(?:breite|länge|bredde?|(?:l[äæ]ng|leng)de?|breedte|lengte|(?:szer|dł)\w{0,6}\.?(?:\sgeogr?\.?)?|шир\.?|долг\.?"
        r"|šířka|délka)[^\w\n]{1,64}[nsew]?\s?[-+]?\d{1,3}[.,]\d{3,}(?!\d|\s?(?:[cdkmµ]?m|px|pt|mi|in|ft|м|мм)\b)"),
    ),
    # 47d48'16", 47* 48' 16"
    (
        ("d", "*"),
        (rf"{_BEGIN}(?:[nsew]\d{{1,3}}\s?[d*]\s?\d{{1,2}}\s?{_PRIME}"
        rf"|[nsew]?\d{{1,3}}\s?[d*]\s?\d{{1,2}}(?:\.\d+\s?{_PRIME}|\s?{_PRIME}\s?(?:\d|[nsew]\b)))"
        rf"|{_BEGIN}[nsew]?\d{{1,3}}d\d{{1,2}}m\d{{1,2}}(?:\.\d+)?s[nsew]?{_END}"),
    ),
    # ISO 6709 in its other forms: +47.8+013.0/, +4748.27+01302.54/, +474816+0130232+440CRSWGS_84/
    (
        ("/",),
        (r"(?<![^\W_])(?<!\.)[-+]\d\d(?:\d\d){0,2}(?:\.\d{1,8})?[-+]\d{3}(?:\d\d){0,2}(?:\.\d{1,8})?"
        r"(?:[-+]\d{1,5}(?:\.\d{1,4})?)?(?:CRS\w{1,12})?/(?!\d)"),  # no telephone number: +49-170/1234567
    ),
    # the fractions of EXIF: 47/1 48/1 1632/100
    (("/1",), r"(?<![\d/])\d{1,3}/1[,\s]{1,2}\d{1,2}/1[,\s]{1,2}\d{1,9}/10{0,8}(?![\d/])"),
    # the same as lists of Python: ((47, 1), (48, 1), (1632, 100)), [47, 48, 1632/100], (47.0, 48.0, 16.32)
    (
        (", ",),
        (r"\(\d{1,3}, 1\), ?\([0-5]?\d, 1\), ?\(\d{1,9}, 10{0,8}\)|\[\d{1,3}, [0-5]?\d, \d{1,9}/\d{1,9}\]"
        r"|\(\d{1,3}\.0, [0-5]?\d\.0, [0-5]?\d\.\d{2,15}\)"),
    ),
    # an escaped comma, blank or semicolon between two numbers (47.804%2C13.042); an escaped plus in an Open
    # Location Code (8FWH4HX8%2BQC)
    (
        ("%2", "%3b", "&#", "\\u00"),
        (rf"{_DECIMAL}(?:[^\S\n]|%2[c0]|%3b|&#(?:44|32|59);|\\u00(?:2c|20|3b)){{1,3}}[-+]?\d{{1,3}}[.,]\d{{3,}}"
        rf"|\b{_OLC}{{8}}%2b{_OLC}{{2,4}}\b"),
    ),
    # start_lat: 47.80, lat_e7=478045300
    (
        ("lat", "lon", "lng"),
        r"_(?:lat|lon|lng)\b[^\w\n]{1,64}(?:is\s)?(?:[nsew]\s?)?[-+]?\d{1,3}\.\d|\b(?:lat|lon|lng)_?e[5-7]\b[^\w\n]{1,64}[-+]?\d{5}",
    ),
    # lat_47.80453_lon_13.04
    (("lat_", "lon_", "lng_"), r"(?:\b|_)(?:lat|lon|lng)_[-+]?\d{1,3}\.\d"),
    # a sentence of NMEA in the cipher of a dash-cam (Roadhawk)
    (("~",), r"(?<=[+-R]{40})\*[0-9A-F]{2}~"),
    # POINT(13.04 47.80), WGS84 47.80 13.04, coordinates are 47.80 and 13.04
    (
        ("point", "wgs", "4326", "coord", "koord"),
        (rf"\bpoint\s?z?\s?\(\s?{_SOME_NUMBER}\s{_SOME_NUMBER}"
        rf"|(?:\bwgs[\s-]?84|\bepsg:4326|\b[ck]oord\w{{1,8}}(?:\sare)?)[^\w\n]{{1,64}}{_SOME_NUMBER}\D{{1,6}}\d"),
    ),
    # https://example.org/#15/47.8045/13.04, ?x=13.04&y=47.80
    (("://",), r"://\S{1,300}?[=/#@,]-?\d{1,3}\.\d{2,10}(?:[,/:+~;]|%2[c0]|&\w{1,9}=)-?\d{1,3}\.\d{2,10}(?![\d.])"),
    # geohash: u23hb1c; ///filled.count.soap; QTH JN67ms45
    (
        ("geohash", "///", "qth", "maidenhead", "locator"),
        (r"\bgeohash\b[^\w\n]{1,64}(?=[b-z]{0,11}\d)[0-9b-hjkmnp-z]{5,12}\b"
        r"|(?<![:/\w])///[^\W\d_]{2,24}\.[^\W\d_]{2,24}\.[^\W\d_]{2,24}(?!\w)"
        r"|\b(?:(?:maidenhead|qth)\b[^\w\n]{1,64}(?:loc\w{0,6}[^\w\n]{1,3})?|locator[^\w\n]{1,64}(?=\w{6}))"
        r"[a-r]{2}\d\d(?:[a-x]{2}(?:\d\d(?:[a-x]{2})?)?)?\b"),
    ),
    # MGRS 33TWN1234567890, UTM 33U 353000 5297000, CH1903 651972 / 240780, LV95 2'651'972, OS grid SU 460 971
    (("mgrs", "utm", "usng", "ch1903", "lv95", "lv03", "grid", "osg", "ngr"),
                             (r"\b(?:ch1903\+?(?:\s?/\s?lv95)?|lv95|lv03|swiss\sgrid)\W{1,8}"
                              r"(?:[12]['’ ])?\d{3}['’ ]?\d{2}"
                              r"|\b(?:(?:os|national)\sgrid(?:\sref\w{0,6})?|grid\sref\w{0,6}|osgb(?:36)?|osgr|ngr)"
                              r"\W{1,8}[a-z]{2}\s?\d{2}"
                              r"|\b(?:mgrs|utm|usng)\b[^\w\n]{1,64}(?:zone\s)?\d{1,2}\s?[c-x]\b"
                              r"|\b(?:mgrs|usng)\b[^\w\n]{1,64}\d{1,2}\s?[c-x]\s?[a-z]{2}\s?\d{2}")),
)  # fmt: skip
_Rows = tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]
_FRACTIONS: Final = re.compile(r"(?<![\d/])\d{1,9}/\d{1,9}(?:[,\s]{1,2}\d{1,9}/\d{1,9})*(?![\d/])")
_OF_A_LENS: Final = 4
"""Number of fractions in a row that describe a lens (Exif LensSpecification): "24/1 70/1 28/10 28/10"."""
_WITH_HINTS: Final = tuple((hints, re.compile(pattern, re.IGNORECASE)) for hints, pattern in _MORE)
_OF_NO_DIGIT: Final = frozenset({"$", "geo:", "openstreetmap", "+", "~", "geohash"})
"""First hints of the only patterns that match texts without digits: NMEA, links to maps, codes of places."""
_COORDINATES_IN_WORDS: Final = tuple(row for row in _COORDINATES if row[0][0] in _OF_NO_DIGIT)
_WITH_HINTS_IN_WORDS: Final = tuple(row for row in _WITH_HINTS if row[0][0] in _OF_NO_DIGIT)
_GRID: Final = re.compile(
    rf"{_BEGIN}(?:[1-9]|[1-5]\d|60)(?:[C-HJ-NP-X] [A-HJ-NP-Z]{{2}} \d{{4,5}} \d{{4,5}}"
    r"|[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]\d{10}"
    r"| ?[C-HJ-NP-X] [1-9]\d{5}(?:\.\d{1,3})?\s?m?\s?E?[,;\s]{1,2}\d{7}(?:\.\d{1,3})?(?:\s?m)?(?:\s?[NS])?)"
    rf"{_END}"
)
"""33T WN 12345 67890, 33TWN1234567890 (MGRS), 33U 353000 5297000, 33 U 353000.00 m E 5297000.00 m N (UTM)."""
_NUMBER_LINE: Final = r"[^\S\n]*[-+]?\d{1,3}[.,]\d{4,12}[^\S\n]*"
_TWO_LINES: Final = re.compile(
    rf"(?:(?<=[\n(\[{{<>\"'「:])|\A){_NUMBER_LINE}\n{_NUMBER_LINE}(?=[\n)\]}}<>\"'」]|\Z)"
)
"""Two numbers on lines of their own. Between two other numbers, they belong to a longer list."""
_NUMBER_ABOVE: Final = re.compile(r"(?:\A|\n)\s*[-+]?\d[\d.,]*\s*\Z")
_NUMBER_BELOW: Final = re.compile(r"\s*[-+]?\d[\d.,]*\s*(?:\n|\Z)")
_LINE: Final = r"[-+]?\d{1,3}\.\d{4,12}(?!\d)"
_LINES: Final = re.compile(
    rf"(?<![\d.,])(?![-+]?{_UNIT}[,;]\s+[-+]?{_UNIT}){_LINE}(?:[,;][^\S\n]*\n\s*{_LINE})+(?!\s*[,;]\s*[-+]?\d)"
)
_LINE_ENDS: Final = re.compile(r"[,;][^\S\n]*\n")
_BESIDE: Final = 100
_LISTED: Final = re.compile(r"\d[,;]\s*\Z")
"""Pattern of a list of numbers on lines of their own, with a comma behind each."""
_PLACE_WORDS: Final = (
    r"(?:places?|locations?|countr(?:y|ies)|cit(?:y|ies)|geo(?:graphy|graphie|grafia)?|orte?|länder|lieux?|pays"
    r"|lugar(?:es)?|luogh?[oi]|plaats(?:en)?|locatie|miejsca?|места|место)"
)
_BELOW: Final = tuple("|/\\>")
_PLACES: Final = re.compile(rf"\b{_PLACE_WORDS}\s?[|/\\>]", re.IGNORECASE)
_KEYWORD: Final = r"[\w .,'’()&+-]{1,60}"
_BELOW_PLACES: Final = re.compile(
    rf"(?:{_KEYWORD}[|/\\>]){{0,8}}?\s?{_PLACE_WORDS}\s?(?:[|/\\>]{_KEYWORD}){{1,8}}", re.IGNORECASE
)
"""Pattern of a keyword in a tree of keywords, below a keyword for places, as photo managers write it."""
_BETWEEN_KEYWORDS: Final = re.compile(r"[;\n\0]|, ")
_PLAIN: Final = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {
    0x066B: ord("."),  # the Arabic decimal separator
    0x060C: ord(","),
    0x3001: ord(","),
    0x2212: ord("-"),
}
"""Signs of other scripts -> those of ASCII. Patterns match the digits of any script."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{20,}")
_HEX: Final = re.compile(r"(?:(?:0x|\\x)?[0-9A-Fa-f]{2}(?:[,;] ?|[: -])?){10,}")
_NO_HEX: Final = re.compile(r"0x|[^0-9A-Fa-f]")
_BYTES: Final = re.compile(r"(?:\d{1,3}(?:[,;] ?| )){10,}\d{1,3}")
"""Pattern of bytes as numbers: ImageMagick writes a comment of EXIF so, in a text of a PNG."""
_NUMBERS: Final = re.compile(r"\d+")
_PRINTED: Final = re.compile(rb"[\0\t\n\r\x20-\x7e]{12,}")
_FEWEST_ENCODED: Final = 20
"""Minimum number of characters that _BASE64, _HEX or _BYTES match."""
_STANDARD: Final = str.maketrans("-_", "+/")
_JSON_ESCAPE: Final = re.compile(r"\\+(?:u([0-9A-Fa-f]{4})|([nrt]))?")
_LONG_REFERENCE: Final = re.compile(r"&#[0-9]{1000,};?")
"""Reference of HTML to a character, with more digits than int() may accept (sys.set_int_max_str_digits)."""


_MOST_DECODED: Final = 4
"""Number of encodings that are decoded one after another: base64 of base64, escaped escapes."""


def holds_place(text: str, depth: int = _MOST_DECODED) -> bool:
    """Return True if a text holds coordinates, a code of a place or a link to a map.

    The place may also be encoded as base64 or hexadecimal digits, or have the escapes of links, HTML or JSON.
    depth: how many such encodings may lie one in another.
    """
    return _holds_place(text) or any(holds_place(decoded, depth - 1) for decoded in _decoded(text) if depth)


def is_below_places(text: str) -> bool:
    """Return True for a keyword below one for places ("Places|Austria|Hallstatt"), also in a list."""
    if not any(map(text.__contains__, _BELOW)) or _PLACES.search(text) is None:
        return False
    return any(_BELOW_PLACES.fullmatch(keyword.strip()) for keyword in _BETWEEN_KEYWORDS.split(text))


def _decoded(text: str) -> Iterator[str]:
    """Yield the text without its escapes, then all texts encoded in it (base64, hexadecimal, numbers)."""
    plain = unquote(text) if "%" in text else text
    plain = unescape(_LONG_REFERENCE.sub("\ufffd", plain)) if "&" in plain and ";" in plain else plain
    plain = _JSON_ESCAPE.sub(_unescaped, plain) if "\\" in plain else plain
    if plain != text:
        yield plain
    if len(text) < _FEWEST_ENCODED:
        return
    parts = [bytes.fromhex(_NO_HEX.sub("", run)) for run in _HEX.findall(text)]
    for run in _BYTES.findall(text):
        with suppress(ValueError):
            parts.append(bytes(map(int, _NUMBERS.findall(run))))
    parts += [run for data in parts for run in _PRINTED.findall(data)]  # without other numbers beside them
    for run in _BASE64.findall(text):
        digits = run.translate(_STANDARD)
        with suppress(ValueError):
            parts.append(b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + "=="))
    if found := [part for data in parts for part in _readable(data)]:
        yield "\n\n\n".join(found)


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else "\n" if found[2] == "n" else " "


def _readable(data: bytes) -> Iterator[str]:
    """Yield the bytes as text if they are printable text in UTF-8, or in UTF-16 with only ASCII letters."""
    try:
        text = data.replace(b"\0", b"").decode("utf-8")
    except UnicodeDecodeError:
        return
    if all(char.isprintable() or char in "\t\r\n" for char in text):
        yield text


def _holds_place(text: str) -> bool:
    if not text.isascii():
        text = text.translate(_PLAIN)
    lower = text.lower()
    if _DIGIT.search(text) is None:  # most patterns need a digit
        return (
            _finds(_COORDINATES_IN_WORDS, text, lower, always=not text.isascii())
            or _links_to_map(text, lower)
            or _finds(_WITH_HINTS_IN_WORDS, text, lower)
        )
    if _has_coordinates(text, lower) or (("=" in text or "@" in text) and _QUERY.search(text)):
        return True
    if _NORTH_OR_SOUTH.search(text) is not None and _WITHOUT_SIGNS.search(text) is not None:
        return True
    if _links_to_map(text, lower):
        return True
    if "/1" in text:
        text = _FRACTIONS.sub(_without_lens, text)
    if _finds(_WITH_HINTS, text, lower) or _GRID.search(text) is not None:
        return True
    return "\n" in text and (
        any(map(_is_two_lines, _TWO_LINES.finditer(text)))
        or (_LINE_ENDS.search(text) is not None and any(map(_is_pair, _LINES.finditer(text))))
    )


def _finds(rows: _Rows, text: str, lower: str, *, always: bool = False) -> bool:
    """Return True if any of the patterns matches that have a hint in the text, or (*always*) any of all."""
    for hints, pattern in rows:
        for hint in hints:
            if always or hint in lower:
                if pattern.search(text) is not None:
                    return True
                break
    return False


def _links_to_map(text: str, lower: str) -> bool:
    found = ":" in text or "/" in text
    return found and (any(map(lower.__contains__, _MAPS)) or _SEVERAL_MAPS.search(text) is not None)


def _has_coordinates(text: str, lower: str) -> bool:
    """Return True if a pattern of _PATTERNS matches, or a pair. Most texts have no hint for most patterns."""
    if _DECIMALS.search(text) is not None:
        several = text.count(".") + text.count(",") > 1
        if several and any(map(_is_on_earth, _PAIR.finditer(text))):
            return True
        if any(pattern.search(text) for pattern in _OF_DECIMALS):
            return True
    return _finds(_COORDINATES, text, lower, always=not text.isascii())


def _is_on_earth(pair: re.Match[str]) -> bool:
    """Return True for a latitude and a longitude; a first digit may be a byte of data before the text."""
    before, between = pair.string[max(0, pair.start() - 1) : pair.start()], pair.string[pair.start(2) - 1]
    first, second = ([number.replace(",", ".")] for number in pair.groups())
    if before not in _BEFORE_NUMBERS:
        first.append(first[0][1:])
    if not between.isprintable() and between not in _BEFORE_NUMBERS:
        second.append(second[0][1:])
    sorts = (sorted(map(float, numbers)) for numbers in product(first, second))
    return any(low <= 90 and high <= 180 for low, high in sorts)


def _is_two_lines(lines: re.Match[str]) -> bool:
    before = lines.string[max(0, lines.start() - _BESIDE) : lines.start()]
    return _NUMBER_ABOVE.search(before) is None and _NUMBER_BELOW.match(lines.string, lines.end()) is None


def _is_pair(lines: re.Match[str]) -> bool:
    """Return True for a list of two numbers. A longer list has other numbers than coordinates."""
    before = lines.string[max(0, lines.start() - _BESIDE) : lines.start()]
    return len(lines[0].split()) == 2 and _LISTED.search(before) is None


def _without_lens(fractions: re.Match[str]) -> str:
    return " " if fractions[0].count("/") == _OF_A_LENS else fractions[0]
