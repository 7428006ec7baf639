"""Names of SVG (SVG 1.1, SVG 2, CSS) and of its editors: elements, attributes and namespaces that may stay.

An element or attribute that is not listed may tell anything, and is not drawn: it goes under every word.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.xmp.properties import RDF, XML, speaks_of_place

SVG: Final = "http://www.w3.org/2000/svg"
PAGE: Final = "http://www.w3.org/1999/xhtml"
XLINK: Final = "http://www.w3.org/1999/xlink"
EDITORS: Final = frozenset(
    {
        "http://www.inkscape.org/namespaces/inkscape",
        "http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd",
        "http://inkscape.sourceforge.net/DTD/sodipodi-0.dtd",
    }
)
"""Namespaces of editors, whose names are listed nowhere: under `location` alone their data is searched."""
KNOWN_NAMESPACES: Final = frozenset(
    {SVG, PAGE, XLINK, XML, RDF, "http://purl.org/dc/elements/1.1/", "http://creativecommons.org/ns#"}
    | {"http://web.resource.org/cc/"}
)
WORDS: Final = frozenset({"title", "desc"})
CODE: Final = frozenset({"style", "script"})


def _names(*lists: str) -> frozenset[str]:
    return frozenset(name for one in lists for name in one.split())


DRAWN: Final = _names("text tspan tref textPath altGlyph flowRoot flowPara flowSpan flowDiv flowLine a")
ELEMENTS: Final = (
    WORDS
    | CODE
    | DRAWN
    | _names(
        "svg g defs symbol use switch marker metadata view path rect circle ellipse line polyline polygon"
        " image foreignObject linearGradient radialGradient stop pattern mesh meshgradient meshrow"
        " meshpatch hatch hatchpath solidcolor clipPath mask filter feBlend feColorMatrix"
        " feComponentTransfer feComposite feConvolveMatrix feDiffuseLighting feDisplacementMap"
        " feDistantLight feDropShadow feFlood feFuncA feFuncB feFuncG feFuncR feGaussianBlur feImage"
        " feMerge feMergeNode feMorphology feOffset fePointLight feSpecularLighting feSpotLight feTile"
        " feTurbulence animate animateColor animateMotion animateTransform set mpath discard cursor font"
        " font-face font-face-src font-face-uri font-face-format font-face-name glyph missing-glyph hkern"
        " vkern color-profile flowRegion flowRegionExclude altGlyphDef altGlyphItem glyphRef"
    )
)
PAGE_ELEMENTS: Final = _names(
    "a b body br center code div em font h1 h2 h3 h4 h5 h6 hr i li ol p pre s small span strong sub"
    " sup table tbody td th thead tr u ul"
)
SHAPES: Final = _names(
    "d points path viewBox x y x1 y1 x2 y2 cx cy r rx ry fx fy fr dx dy width height offset refX refY"
    " values keyTimes keySplines keyPoints rotate stroke-width stroke-dasharray font-size opacity"
)
"""Attributes with the numbers of a shape."""
_STRUCTURE: Final = _names(
    "id class style href transform gradientTransform patternTransform gradientUnits patternUnits"
    " patternContentUnits clipPathUnits maskUnits maskContentUnits filterUnits primitiveUnits"
    " markerUnits markerWidth markerHeight orient preserveAspectRatio spreadMethod version baseProfile"
    " zoomAndPan enable-background contentScriptType contentStyleType type media lang space base role"
    " tabindex focusable crossorigin target rel download externalResourcesRequired requiredFeatures"
    " requiredExtensions systemLanguage viewTarget pathLength startOffset method side spacing"
    " textLength lengthAdjust xmlns"
)
_EFFECTS: Final = _names(
    "in in2 result mode operator k1 k2 k3 k4 stdDeviation edgeMode bias divisor kernelMatrix"
    " kernelUnitLength order targetX targetY preserveAlpha surfaceScale diffuseConstant"
    " specularConstant specularExponent limitingConeAngle azimuth elevation z pointsAtX pointsAtY"
    " pointsAtZ scale xChannelSelector yChannelSelector radius baseFrequency numOctaves seed"
    " stitchTiles slope intercept amplitude exponent tableValues filterRes attributeName attributeType"
    " begin dur end min max restart repeatCount repeatDur fill from to by calcMode additive accumulate"
    " origin"
)
"""Attributes of filters and animations."""
_PRESENTATION: Final = _names(
    "alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation"
    " color-interpolation-filters color-profile color-rendering cursor direction display"
    " dominant-baseline fill-opacity fill-rule filter flood-color flood-opacity font font-family"
    " font-size-adjust font-stretch font-style font-variant font-weight glyph-orientation-horizontal"
    " glyph-orientation-vertical image-rendering isolation kerning letter-spacing lighting-color"
    " line-height marker marker-end marker-mid marker-start mask mask-type mix-blend-mode overflow"
    " paint-order pointer-events shape-inside shape-padding shape-rendering solid-color solid-opacity"
    " stop-color stop-opacity stroke stroke-dashoffset stroke-linecap stroke-linejoin"
    " stroke-miterlimit stroke-opacity text-anchor text-decoration text-rendering text-align"
    " text-indent text-orientation text-overflow transform-box transform-origin unicode-bidi"
    " vector-effect visibility white-space word-spacing writing-mode"
)
_FONTS: Final = _names(
    "unicode unicode-range glyph-name arabic-form horiz-adv-x horiz-origin-x horiz-origin-y"
    " vert-adv-y vert-origin-x vert-origin-y units-per-em panose-1 ascent descent alphabetic"
    " ideographic mathematical hanging cap-height x-height accent-height bbox underline-position"
    " underline-thickness strikethrough-position strikethrough-thickness overline-position"
    " overline-thickness stemv stemh g1 g2 u1 u2 k string name local rendering-intent widths"
    " v-alphabetic v-hanging v-ideographic v-mathematical format"
)
_PAGES: Final = _names(
    "align valign border cellpadding cellspacing colspan rowspan face size dir actuate arcrole show"
    " aria-hidden aria-labelledby aria-describedby aria-roledescription"
)
"""Attributes of links, and of pages in drawings."""
_DRAWING: Final = SHAPES | _STRUCTURE | _EFFECTS | _PRESENTATION | _FONTS | _PAGES
STYLES: Final = (
    SHAPES
    | _EFFECTS
    | _PRESENTATION - {"font-family"}
    | _names("style transform gradientTransform patternTransform enable-background startOffset textLength")
)
"""Attributes in which numbers are lengths, colours and the like."""
_ON_EVENT: Final = re.compile(r"on[a-z]{3,20}")
_PEOPLE: Final = frozenset({"title", "alt", "aria-label", "data-name"})


def attribute_tells(namespace: str, local: str, *, linked: bool) -> Tells | None:
    """Return the categories of an attribute; None if the drawing needs it. linked: True for one of a link.

    An attribute of an editor tells everything but a place, except by its name or value.
    """
    if namespace in EDITORS:
        return UNKNOWN if speaks_of_place(local) else UNKNOWN & ~Tells.LOCATION
    if namespace not in (SVG, XLINK, XML):
        return UNKNOWN
    if local in _PEOPLE:
        return Tells.PEOPLE
    if _ON_EVENT.fullmatch(local) or (linked and local == "href"):
        return NOTHING
    return None if local in _DRAWING else UNKNOWN
