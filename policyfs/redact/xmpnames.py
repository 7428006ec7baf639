"""Which XMP properties stay: an allow list of namespaces, and words that no kept name may hold.

A namespace that is not listed may say anything, so its properties go. Within listed ones a
name that speaks of a place goes, whatever the namespace, so that a reader that goes by prefix
and not by URI finds nothing either. Sources: ISO 16684-1, XMP specification part 2, IPTC Photo
Metadata 2023, MWG guidelines 2.0, and the vendors' own pages.
"""

from __future__ import annotations

import re
from typing import Final

RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML: Final = "http://www.w3.org/XML/1998/namespace"

KEPT_NAMESPACES: Final = frozenset(
    {
        *(RDF, XML, "adobe:ns:meta/", "http://purl.org/dc/elements/1.1/"),
        "http://ns.adobe.com/xap/1.0/",
        "http://ns.adobe.com/xap/1.0/mm/",
        "http://ns.adobe.com/xap/1.0/rights/",
        "http://ns.adobe.com/xap/1.0/bj/",
        "http://ns.adobe.com/xap/1.0/t/pg/",
        "http://ns.adobe.com/xap/1.0/g/",
        "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
        "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
        "http://ns.adobe.com/xap/1.0/sType/Version#",
        "http://ns.adobe.com/xap/1.0/sType/Job#",
        "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
        "http://ns.adobe.com/xap/1.0/sType/Font#",
        "http://ns.adobe.com/xap/1.0/sType/ManifestItem#",
        "http://ns.adobe.com/xmp/sType/Area#",
        "http://ns.adobe.com/xmp/Identifier/qual/1.0/",
        "http://ns.adobe.com/xmp/note/",
        "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
        "http://ns.adobe.com/creatorAtom/1.0/",
        "http://ns.adobe.com/photoshop/1.0/",
        "http://ns.adobe.com/camera-raw-settings/1.0/",
        "http://ns.adobe.com/camera-raw-saved-settings/1.0/",
        "http://ns.adobe.com/lightroom/1.0/",
        "http://ns.adobe.com/lens-correction-profile/1.0/",
        "http://ns.adobe.com/hdr-gain-map/1.0/",
        "http://ns.adobe.com/pdf/1.3/",
        "http://ns.adobe.com/tiff/1.0/",
        "http://ns.adobe.com/exif/1.0/",
        "http://ns.adobe.com/exif/1.0/aux/",
        "http://cipa.jp/exif/1.0/",
        "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
        "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "http://ns.useplus.org/ldf/xmp/1.0/",
        "http://creativecommons.org/ns#",
        "http://www.metadataworkinggroup.com/schemas/regions/",
        "http://www.metadataworkinggroup.com/schemas/keywords/",
        "http://ns.microsoft.com/photo/1.0",
        "http://ns.microsoft.com/photo/1.0/",
        "http://ns.microsoft.com/photo/1.1",
        "http://ns.microsoft.com/photo/1.2/",
        "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
        "http://ns.microsoft.com/photo/1.2/t/Region#",
        "http://ns.google.com/photos/1.0/camera/",
        "http://ns.google.com/photos/1.0/container/",
        "http://ns.google.com/photos/1.0/container/item/",
        "http://ns.google.com/photos/1.0/panorama/",
        "http://ns.apple.com/faceinfo/1.0/",
        "http://ns.apple.com/HDRGainMap/1.0/",
        "http://ns.apple.com/pixeldatainfo/1.0/",
        "http://www.digikam.org/ns/1.0/",
        "http://darktable.sf.net/",
    }
)

RDF_ATTRIBUTES: Final = frozenset({"about", "ID", "nodeID", "resource", "parseType", "datatype"})
"""Attributes that old RDF also writes without a prefix."""

_PARTS: Final = re.compile(
    "gps|latit|longit|altitud|location|country|province|postal|address|geotag|geoloc|"
    "coordinat|spatial|worldregion|landmark|timezone",
    re.IGNORECASE,
)
_WORDS: Final = frozenset(
    {
        *("lat", "lon", "lng", "city", "state", "adr", "geo", "place", "places", "coverage"),
        *("venue", "county", "street", "town", "village", "municipality", "zip", "pcode", "poi"),
    }
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_DIGESTS: Final = frozenset({"NativeDigest", "LegacyIPTCDigest", "EmbeddedXMPDigest", "MakerNote"})
_HARMLESS: Final = frozenset({"SubjectLocation"})  # a point in the picture, in pixels


def speaks_of_place(name: str) -> bool:
    """True for a property's local name that must go wherever it stands.

    Digests of metadata go too: they would confirm a guessed place.
    """
    if name in _HARMLESS:
        return False
    if name in _DIGESTS or _PARTS.search(name):
        return True
    return any(word.lower() in _WORDS for word in _WORD.findall(name))


def stays(namespace: str | None, name: str) -> bool:
    """Whether a property or element of this namespace (None: no namespace) and name is kept."""
    if namespace is None:
        return name in RDF_ATTRIBUTES
    return namespace in KEPT_NAMESPACES and not speaks_of_place(name)
