"""SVG drawings, with a place in each part that does not have to stay."""

from __future__ import annotations

import base64

from tests.support.samples.jpegs import exif, photo_with, xmp_packet
from tests.support.samples.media import HOME

KIND = "image/svg+xml"
PLACE = f"{HOME.latitude}, {HOME.longitude}"
SPACES = {
    "": "http://www.w3.org/2000/svg",
    "xlink": "http://www.w3.org/1999/xlink",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "cc": "http://creativecommons.org/ns#",
    "inkscape": "http://www.inkscape.org/namespaces/inkscape",
    "sodipodi": "http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd",
    "other": "http://example.org/other",
}
SHAPE = '<path d="M1.5 2.25L7,8z" id="a" style="fill:#f00;stroke-width:12.345"/>'
WORK = '<rdf:RDF><cc:Work rdf:about=""><dc:format>image/svg+xml</dc:format>{}</cc:Work></rdf:RDF>'


def svg(
    *parts: str, attributes: str = "", head: str = "", behind: str = "", encoding: str = "utf-8"
) -> bytes:
    """A drawing with a shape and some parts."""
    names = " ".join(f'xmlns{":" * bool(prefix)}{prefix}="{uri}"' for prefix, uri in SPACES.items())
    inside = "\n".join((SHAPE, *parts))
    root = f'<svg {names} viewBox="0 0 24 24" width="24" height="24"{attributes}>{inside}</svg>'
    return f"{head}{root}{behind}\n".encode(encoding)


def photo() -> str:
    """A photo with a place, in base64."""
    return base64.b64encode(photo_with(exif("MM"))).decode()


def described(*parts: str) -> bytes:
    return svg("<metadata>" + WORK.format("".join(parts)) + "</metadata>")


_PACKET = xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>").decode()
_HIDDEN = "".join(f"&#{ord(letter)};" for letter in PLACE)
HIDING = {
    "title": svg(f"<title>{PLACE}</title>"),
    "description of a shape": svg(f"<g><desc>at\n{PLACE}</desc>{SHAPE}</g>"),
    "references": svg(f"<title>{_HIDDEN}</title>"),
    "CDATA": svg(f"<desc><![CDATA[{PLACE}]]></desc>"),
    "title in pieces": svg(f"<title>{HOME.latitude}<!-- a -->,<other:x/> {HOME.longitude}</title>"),
    "comments of a style": svg(f"<style>/*{HOME.latitude}*/ .a {{}} /*, {HOME.longitude}*/</style>"),
    "comment": svg(f"<!-- {PLACE} -->"),
    "comment before": svg(head=f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {PLACE} -->\n'),
    "comment behind": svg(behind=f"<!-- {PLACE} -->"),
    "instruction": svg(f"<?where {HOME.city}?>"),
    "place of the metadata": described(f"<dc:coverage>{HOME.city}</dc:coverage>"),
    "title of the metadata": described(f"<dc:title>{PLACE}</dc:title>"),
    "unknown metadata": described(f"<other:x>{HOME.city}</other:x>"),
    "text of the metadata": svg(f"<metadata>{HOME.city}</metadata>"),
    "other metadata": svg(f"<metadata><other:x y='{HOME.city}'/></metadata>"),
    "packet": svg(f"<metadata>{_PACKET}</metadata>"),
    "unknown element": svg(f"<other:x>{HOME.city}</other:x>"),
    "unknown element of SVG": svg(f"<place>{HOME.city}</place>"),
    "unknown attribute": svg(f'<g data-place="{HOME.city}"/>'),
    "unknown namespace": svg(f'<g other:place="{HOME.city}"/>'),
    "editor's place": svg(f'<sodipodi:namedview inkscape:city="{HOME.city}" id="b"/>'),
    "editor's words": svg(f'<g inkscape:label="{PLACE}"/>'),
    "editor's text": svg(f"<sodipodi:namedview>{PLACE}</sodipodi:namedview>"),
    "link": svg(f'<a xlink:href="https://maps.google.com/?q={PLACE}">{SHAPE}</a>'),
    "label": svg(f'<g aria-label="{PLACE}"/>'),
    "script": svg(f"<script>var place = [{PLACE}];</script>"),
    "event": svg(f'<g onclick="go({PLACE})"/>'),
    "comment of a style": svg(f"<style>/* {PLACE} */ .a {{stroke-width: 12.345}}</style>"),
    "script in a CDATA section": svg(f"<script>//<![CDATA[\nplace('{PLACE}')\n//]]></script>"),
    "by an empty picture": svg(f"<style>a {{fill: url(data:;base64,<g id='{PLACE}'/>)}}</style>"),
    "text outside": svg(f"<g>{HOME.city}</g>"),
    "photo": svg(f'<image xlink:href="data:image/jpeg;base64,{photo()}" width="9" height="9"/>'),
    "photo of a style": svg(f"<style>.a {{fill: url('data:image/jpeg;base64,{photo()}')}}</style>"),
    "among drawn words": svg(f'<text x="1">a<other:x>{HOME.city}</other:x>b</text>'),
    "UTF-16": b"\xff\xfe" + svg(f"<title>{PLACE}</title>", encoding="utf-16-le"),
    "Latin-1": svg(
        f"<title>Gr\u00f6\u00dfe {PLACE}</title>",
        head='<?xml version="1.0" encoding="ISO-8859-1"?>',
        encoding="latin-1",
    ),
}  # fmt: skip
IN_PARTS = f"{HOME.latitude},<!-- --> {HOME.longitude}"
REFUSED = {
    "words": svg(f"<text>{PLACE}</text>"),
    "words in pieces": svg(f"<text>{HOME.latitude},<tspan> {HOME.longitude}</tspan></text>"),
    "words of a page": svg(
        f'<foreignObject><div xmlns="http://www.w3.org/1999/xhtml">{PLACE}</div></foreignObject>'
    ),
    "words of a style": svg(f"<style>.a::after {{content: '{PLACE}'}}</style>"),
    "words of a style in parts": svg(f"<style>.a::after {{content: '{IN_PARTS}'}}</style>"),
    "comment of a style in parts": svg(f"<style>/* {IN_PARTS} */ .a {{}}</style>"),
    "script in parts": svg(f"<script>/* {IN_PARTS} */</script>"),
    "photos of a style around an element": svg(
        f"<style>.a {{fill: url('data:image/jpeg;base64,{photo()[:-100]}<g/>{photo()}')}}</style>"
    ),
    "document type": svg(
        head=f'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/{PLACE.replace(", ", "-")}">'
    ),
    "name of a shape": svg(f'<g id="{PLACE}"/>'),
    "shape": svg('<path d="N47.80453 E13.04229"/>'),
    "style": svg(f'<g style="gps: {PLACE}"/>'),
    "reference": svg(f'<image href="geo:{HOME.latitude},{HOME.longitude}"/>'),
    "drawing in a drawing": svg(f'<image href="data:image/svg+xml,&lt;svg>{HOME.city}&lt;/svg>"/>'),
    "file": svg(f'<image href="data:;base64,{base64.b64encode(HOME.city.encode() * 3).decode()}"/>'),
    "font": svg(
        f"<style>a {{src: url(data:font/ttf;base64,{base64.b64encode(b'true' * 9).decode()})}}</style>"
    ),
    "name of a namespace": svg(f'<g xmlns:x="geo:{HOME.latitude},{HOME.longitude}"/>'),
    "entities": svg("<title>&place;</title>", head=f'<!DOCTYPE svg [<!ENTITY place "{PLACE}">]>'),
    "entity": svg("<text>&place;</text>"),
    "another document": b"<gpx><svg/></gpx>",
    "two roots": svg() + svg(),
    "no end": svg()[:-8],
    "a wrong end": svg("<g></h>"),
    "attribute twice": svg('<g id="a" id="b"/>'),
    "a wrong encoding": svg(head='<?xml version="1.0" encoding="UTF-7"?>'),
    "deep": svg("<g>" * 300 + "</g>" * 300),
}
"""Drawings that need what tells a place, and files that readers may read in another way."""
PLAIN = svg(
    "<title>Quince</title><!-- by Rosa -->",
    '<sodipodi:namedview pagecolor="#fff" inkscape:zoom="1.5"><inkscape:grid id="c"/></sodipodi:namedview>',
    "<metadata>" + WORK.format("<dc:title>Quince</dc:title>") + "</metadata>",
    '<g transform="matrix(47.804 0 0 13.042 12.34 9.12)"><polygon points="47.804,13.042 12.345,9.125"/></g>',
    '<circle cx="47.80453" cy="13.04229" r="1.2345" fill=\'#8d6\'/><text>Q &amp; A</text>',
    "<style>/*<![CDATA[*/.a{stroke-width:12.345;opacity:47.804}/*]]>*/</style><script>draw()</script>",
    f'<a href="https://example.org/a.html">{SHAPE}</a><use xlink:href="#a" xlink:title="Rosa"/>',
    head='<?xml version="1.0" standalone="no"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"'
    ' "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n<?xml-stylesheet href="a.css"?>\n',
)
SEEDS = (PLAIN, *HIDING.values(), *REFUSED.values())
