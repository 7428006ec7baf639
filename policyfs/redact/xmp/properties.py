"""Categories of XMP properties: a list of namespaces and of the names in them.

A namespace that is not listed may tell anything, so every word of a policy removes its properties. Some
readers find a property by its prefix, and ignore the URI of its namespace. So in every listed namespace, a
property tells a place if its name has a word for places. If an unlisted name has other words, too
("ModelCity"), the property has two sorts of categories: LOCATION, and the default of the namespace. Sources:
ISO 16684-1, XMP specification part 2, IPTC Photo Metadata 2023, MWG guidelines 2.0, and the vendors' own
pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.xmp.vendor_properties import DEPTH_MAP, FACES, OPTICS, ORIGINAL, REST, VENDORS, Namespace
from policyfs.redact.xmp.vendor_properties import named as _named

__all__ = [
    "DIGESTS",
    "IDENTIFYING",
    "NATIVE_DIGEST",
    "NUMBERS",
    "PICTURES",
    "RDF",
    "RDF_ATTRIBUTES",
    "STRUCTURAL",
    "XML",
]

RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML: Final = "http://www.w3.org/XML/1998/namespace"


_RDF: Final = _named(
    REST,
    (NOTHING, "RDF Description li Seq Bag Alt about nodeID ID resource parseType datatype value type"),
)
_EXIF: Final = _named(
    REST,
    (LOCATION | TIME, "GPSTimeStamp GPSDateStamp GPSDateTime"),
    (TIME, "DateTimeOriginal DateTimeDigitized OffsetTime OffsetTimeOriginal OffsetTimeDigitized"),
    (TIME, "SubSecTime SubSecTimeOriginal SubSecTimeDigitized SubsecTime SubsecTimeOriginal"),
    (TIME, "SubsecTimeDigitized TimeZoneOffset"),
    (DEVICE, "ImageUniqueID DeviceSettingDescription BodySerialNumber SerialNumber LensMake LensModel"),
    (DEVICE, "LensSerialNumber LensSpecification LensInfo Lens CameraFirmware RAWDevelopingSoftware"),
    (DEVICE, "ImageEditingSoftware MetadataEditingSoftware ImageNumber"),
    (DEVICE | PEOPLE, "CameraOwnerName OwnerName"),
    (PEOPLE, "UserComment ImageTitle Photographer ImageEditor RelatedSoundFile"),
    (NOTHING, "ExifVersion FlashpixVersion ColorSpace PixelXDimension PixelYDimension Gamma"),
    (NOTHING, "ComponentsConfiguration InteroperabilityIndex"),
    (OTHER, "ExposureTime FNumber ExposureProgram SpectralSensitivity ISOSpeedRatings OECF SensitivityType"),
    (OTHER, "ShutterSpeedValue ApertureValue BrightnessValue ExposureBiasValue MaxApertureValue Flash"),
    (OTHER, "SubjectDistance MeteringMode LightSource FocalLength SubjectArea FlashEnergy Fired Return"),
    (OTHER, "Mode Function RedEyeMode SpatialFrequencyResponse FocalPlaneXResolution Columns Rows Values"),
    (OTHER, "FocalPlaneYResolution FocalPlaneResolutionUnit SubjectLocation ExposureIndex SensingMethod"),
    (OTHER, "FileSource SceneType CFAPattern CustomRendered ExposureMode WhiteBalance DigitalZoomRatio"),
    (OTHER, "FocalLengthIn35mmFilm SceneCaptureType GainControl Contrast Saturation Sharpness Names"),
    (OTHER, "SubjectDistanceRange CompressedBitsPerPixel PhotographicSensitivity RecommendedExposureIndex"),
    (OTHER, "StandardOutputSensitivity ISOSpeed ISOSpeedLatitudeyyy ISOSpeedLatitudezzz CompositeImage"),
    (OTHER, "AmbientTemperature Humidity Pressure WaterDepth Acceleration CameraElevationAngle Settings"),
    (OTHER, "Temperature CompositeImageCount CompositeImageExposureTimes"),
)
_TIFF: Final = _named(
    REST,
    (DEVICE, "Make Model Software HostComputer"),
    (PEOPLE, "Artist Copyright ImageDescription"),
    (TIME, "DateTime"),
    (NOTHING, "ImageWidth ImageLength BitsPerSample Compression PhotometricInterpretation Orientation"),
    (NOTHING, "SamplesPerPixel PlanarConfiguration YCbCrSubSampling YCbCrPositioning XResolution"),
    (NOTHING, "YResolution ResolutionUnit TransferFunction WhitePoint PrimaryChromaticities"),
    (NOTHING, "YCbCrCoefficients ReferenceBlackWhite"),
)
_DC: Final = _named(
    REST,
    (TIME, "date"),
    (DEVICE, "identifier"),
    (PEOPLE, "contributor creator description publisher relation rights subject title"),
    (PEOPLE | DEVICE, "source"),
    (OTHER, "format language type"),
)
_XMP: Final = _named(
    REST,
    (TIME, "CreateDate ModifyDate MetadataDate"),
    (DEVICE, "CreatorTool Identifier"),
    (PEOPLE, "Nickname Author Description Title Keywords"),
    (DEVICE | PEOPLE, "BaseURL"),
    (OTHER, "Rating RatingPercent Label Advisory Format Thumbnails PageInfo"),
)
_MANAGED: Final = _named(
    REST,
    (DEVICE, "DocumentID InstanceID OriginalDocumentID VersionID SaveID RenditionOf"),
    (OTHER, "History Ingredients Pantry DerivedFrom ManagedFrom RenditionClass RenditionParams Versions"),
    (DEVICE | PEOPLE, "LastURL Manager ManageTo ManageUI ManagerVariant PreservedFileName"),
)
_EVENT: Final = _named(
    REST,
    (TIME, "when"),
    (DEVICE, "softwareAgent instanceID parameters"),
    (OTHER, "action changed"),
)
_REFERENCE: Final = _named(
    DEVICE | PEOPLE,
    (TIME, "lastModifyDate"),
    (DEVICE, "documentID instanceID originalDocumentID versionID"),
    (OTHER, "renditionClass renditionParams fromPart toPart partMapping maskMarkers alternatePaths"),
)
_VERSION: Final = _named(REST, (TIME, "modifyDate"), (PEOPLE, "modifier comments"), (OTHER, "event version"))
_DYNAMIC: Final = _named(
    REST,
    (TIME, "releaseDate shotDate audioModDate videoModDate metadataModDate startTimecode altTimecode"),
    (TIME, "timeFormat timeValue shotDay"),
    (DEVICE, "cameraModel cameraLabel cameraMove"),
    (DEVICE | PEOPLE, "tapeName altTapeName"),
    (PEOPLE, "album artist client comment composer copyright director directorPhotography engineer genre"),
    (PEOPLE, "instrument logComment lyrics projectName projectRef scene shotName speakerPlacement markers"),
    (PEOPLE, "name Tracks discNumber trackNumber partOfCompilation cuePointType guid"),
    (PEOPLE, "absPeakAudioFilePath relativePeakAudioFilePath"),
    (OTHER, "audioChannelType audioCompressor audioSampleRate audioSampleType"),
    (OTHER, "beatSpliceParams duration fileDataRate good introTime key loop numberOfBeats outCue"),
    (OTHER, "pullDown relativeTimestamp resampleParams scaleType"),
    (OTHER, "shotSize stretchMode takeNumber tempo timeScaleParams timeSignature videoAlphaMode"),
    (OTHER, "videoAlphaPremultipleColor videoAlphaUnityIsTransparent videoColorSpace videoCompressor"),
    (OTHER, "videoFieldOrder videoFrameRate videoFrameSize videoPixelAspectRatio videoPixelDepth"),
    (OTHER, "startTime value scale frameRate trackName trackType cameraAngle shotNumber startTimeScale"),
)
_PHOTOSHOP: Final = _named(
    REST,
    (TIME, "DateCreated"),
    (DEVICE, "DocumentAncestors"),
    (PEOPLE, "AuthorsPosition CaptionWriter Category Credit Headline Instructions Source"),
    (PEOPLE, "SupplementalCategories TextLayers LayerName LayerText"),
    (DEVICE | PEOPLE, "TransmissionReference"),
    (OTHER, "ColorMode ICCProfile Urgency SidecarForExtension"),
)
_RAW_SETTINGS: Final = _named(
    OTHER,
    (DEVICE, "CameraProfile CameraProfileDigest CameraModelRestriction LensProfileName Version"),
    (DEVICE, "LensProfileFilename LensProfileDigest LensProfileMatchKeyExifMake"),
    (DEVICE, "LensProfileMatchKeyExifModel LensProfileMatchKeyCameraModelName"),
    (DEVICE, "LensProfileMatchKeyLensInfo LensProfileMatchKeyLensID LensProfileMatchKeyLensName"),
    (PEOPLE, "Description CorrectionName MaskName"),  # of a preset; of a mask, which people may rename
    (REST, "RawFileName NegativeCachePath Contact ContactInfo Copyright"),
)
_CORE: Final = _named(
    REST,
    (PEOPLE, "CreatorContactInfo CiEmailWork CiTelWork CiUrlWork SubjectCode AltTextAccessibility"),
    (PEOPLE, "ExtDescrAccessibility"),
    (PEOPLE, "CiAdrCity CiAdrCtry CiAdrExtadr CiAdrPcode CiAdrRegion"),  # the creator's address
    (OTHER, "IntellectualGenre Scene"),
)
_EXTENSION: Final = _named(
    PEOPLE,
    (TIME, "CircaDateCreated CopyrightYear IptcLastEdited metadataLastEdited TemporalCoverage"),
    (TIME, "PublicationEvent"),
    (TIME | PEOPLE, "AODateCreated AOCircaDateCreated"),
    (DEVICE, "DigImageGUID DigitalImageGUID RecDevice"),
    (LOCATION, "RatingRegion"),
    (DEVICE | PEOPLE, "RegistryId RegItemId RegOrgId parentId FeedIdentifier"),
    (OTHER, "DigitalSourceType DigitalSourcefileType MaxAvailHeight MaxAvailWidth ContainerFormat Rating"),
    (OTHER, "audioBitRate audioBitRateMode audioBitsPerSample audioChannelCount videoBitRate"),
    (OTHER, "videoBitRateMode videoDisplayAspectRatio videoEncodingProfile videoStreamsCount"),
    (OTHER, "VisualColour ReleaseReady StreamReady VideoShotType StylePeriod"),
)
_PLUS: Final = _named(
    PEOPLE,
    (TIME, "FirstPublicationDate LicenseEndDate LicenseStartDate LicenseTransactionDate"),
    (LOCATION | PEOPLE, "LicensorRegion"),  # as LicensorCity and LicensorCountry
)
_GAIN_MAP: Final = _named(
    REST,
    (NOTHING, "Version GainMapMin GainMapMax Gamma OffsetSDR OffsetHDR HDRCapacityMin HDRCapacityMax"),
    (NOTHING, "BaseRenditionIsHDR"),
)
_DOCUMENT: Final = _named(
    UNKNOWN,  # some programs write people's additions to a PDF's information here, too
    (PEOPLE, "Keywords Title Author Subject Copyright Marked"),
    (DEVICE | PEOPLE, "Creator Producer"),
    (TIME, "CreationDate ModDate"),
    (OTHER, "PDFVersion Trapped"),
)
_META: Final = _named(REST, (NOTHING, "xmpmeta xapmeta"), (DEVICE, "xmptk xaptk"))
_SHAPES: Final = _named(OTHER)

_XAP: Final = "http://ns.adobe.com/xap/1.0/"
_PREVIEW: Final = _XAP + "g/img/"
_NAMESPACES: Final[Mapping[str, Namespace]] = MappingProxyType(
    {
        RDF: _RDF,
        XML: _named(REST, (NOTHING, "lang space")),
        "adobe:ns:meta/": _META,
        "http://purl.org/dc/elements/1.1/": _DC,
        _XAP: _XMP,
        _XAP + "mm/": _MANAGED,
        _XAP + "rights/": _named(REST, (PEOPLE, "Certificate Marked Owner UsageTerms WebStatement")),
        _XAP + "bj/": _named(PEOPLE | DEVICE),
        _XAP + "t/pg/": _named(OTHER),
        _XAP + "g/": _named(OTHER),
        _XAP + "sType/ResourceRef#": _REFERENCE,
        _XAP + "sType/ResourceEvent#": _EVENT,
        _XAP + "sType/Version#": _VERSION,
        _XAP + "sType/Job#": _named(PEOPLE | DEVICE),
        _XAP + "sType/Dimensions#": _SHAPES,
        _XAP + "sType/Font#": _SHAPES,
        _XAP + "sType/ManifestItem#": _named(REST),
        "http://ns.adobe.com/xmp/sType/Area#": _SHAPES,
        "http://ns.adobe.com/xmp/Identifier/qual/1.0/": _named(REST),
        # The digest that names an extended packet, which goes.
        "http://ns.adobe.com/xmp/note/": _named(REST, (UNKNOWN, "HasExtendedXMP")),
        "http://ns.adobe.com/xmp/1.0/DynamicMedia/": _DYNAMIC,
        "http://ns.adobe.com/creatorAtom/1.0/": _named(REST),
        "http://ns.adobe.com/photoshop/1.0/": _PHOTOSHOP,
        "http://ns.adobe.com/camera-raw-settings/1.0/": _RAW_SETTINGS,
        "http://ns.adobe.com/camera-raw-saved-settings/1.0/": _RAW_SETTINGS,
        "http://ns.adobe.com/lightroom/1.0/": _named(PEOPLE),
        "http://ns.adobe.com/lens-correction-profile/1.0/": _named(DEVICE),
        "http://ns.adobe.com/hdr-gain-map/1.0/": _GAIN_MAP,
        "http://ns.adobe.com/hdr-metadata/1.0/": _named(OTHER),
        "http://ns.adobe.com/pdf/1.3/": _DOCUMENT,
        "http://ns.adobe.com/tiff/1.0/": _TIFF,
        "http://ns.adobe.com/exif/1.0/": _EXIF,
        "http://ns.adobe.com/exif/1.0/aux/": _named(
            DEVICE,
            (DEVICE | PEOPLE, "OwnerName"),
            (OTHER, "FlashCompensation ApproximateFocusDistance DistortionCorrectionAlreadyApplied"),
        ),
        "http://cipa.jp/exif/1.0/": _EXIF,
        "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": _CORE,
        "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": _EXTENSION,
        "http://ns.useplus.org/ldf/xmp/1.0/": _PLUS,
        "http://creativecommons.org/ns#": _named(PEOPLE, (TIME, "deprecatedOn")),
        "http://www.metadataworkinggroup.com/schemas/regions/": FACES,
        # Keywords below other keywords, which may be places.
        "http://www.metadataworkinggroup.com/schemas/keywords/": _named(PEOPLE, (UNKNOWN, "Children")),
        _PREVIEW: _named(UNKNOWN, (OTHER, "width height format image")),
        **VENDORS,
    }
)

PICTURES: Final = frozenset(
    {(DEPTH_MAP, "Data"), (DEPTH_MAP, "Confidence"), (ORIGINAL, "Data"), (_PREVIEW, "image")}
)
"""XMP properties that hold a picture in base64, as pairs (namespace, name)."""
NUMBERS: Final = OPTICS | {
    ("http://ns.adobe.com/camera-raw-settings/1.0/", name)
    for name in ("PointColors", *(f"UprightTransform_{number}" for number in range(6)))
}
"""(namespace, name) of lists of numbers, which are not searched for coordinates."""
RDF_ATTRIBUTES: Final = frozenset({"about", "ID", "nodeID", "resource", "parseType", "datatype"})
"""Names of RDF attributes that old RDF also writes without a namespace prefix."""
IDENTIFYING: Final = frozenset({"about", "ID", "nodeID"})
"""Names of RDF attributes with values that may identify the document."""
STRUCTURAL: Final = frozenset(
    {
        ("adobe:ns:meta/", "xmpmeta"),
        *((RDF, name) for name in ("RDF", "Description", "Seq", "Bag", "Alt")),
    }
)
"""Elements that hold no text of their own, as pairs (namespace, name)."""

_PARTS: Final = re.compile(
    "(?i:gps[a-z]*|(?:latit|longit|altitud|location|country|province|postal|address|geotag|geoloc|"
    "coordinat|spatial|worldregion|landmark|timezone)(?-i:[a-z]*))"
)
_WORDS: Final = frozenset(
    {
        *("lat", "lon", "lng", "city", "state", "adr", "geo", "place", "places", "coverage"),
        *("venue", "county", "street", "town", "village", "municipality", "zip", "pcode", "poi"),
    }
)
_DETAILS: Final = frozenset(
    {
        *("absolute", "accuracy", "code", "created", "id", "info", "name", "position", "ref", "relative"),
        *("shot", "shown", "status", "sub", "tag", "type"),
    }
)
"""Words that say in more detail what a place is, and tell nothing besides the place ("LocationCreated")."""
NATIVE_DIGEST: Final = re.compile(r"\s*((?:\d{1,5},){0,200}\d{1,5});[0-9A-Fa-f]{32}\s*")
_PLAIN_NUMBERS: Final = re.compile(r"[-+0-9.,;:eE \t\r\n]{1,4096}")
_LONG_LIST: Final = re.compile(r"\s*[-+0-9.eE]+(?:(?:[\s,;:]+[-+0-9.eE]+){3,400})?\s*")
"""Pattern of one number, or of a list of at least four: two or three may be a place, and are searched."""
_GPS_TAGS_END: Final = 0x40
_GPS_IFD: Final = 34853
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WORKFLOW_STATE: Final = ("http://ns.adobe.com/AcrobatAdhocWorkflow/1.0/", "state")
DIGESTS: Final = frozenset({"NativeDigest", "LegacyIPTCDigest", "EmbeddedXMPDigest", "MakerNote"})
_HARMLESS: Final = frozenset({"SubjectLocation", "RetouchAreaSourceState", "SourceState"})
"""Names with a word for places that tell none: a point in the picture, the source of a retouch."""
_SPEAKING: Final = (
    (DEVICE, re.compile(r"(?i:serial|uniqueid|firmware|guid(?!e)|hostname)|(?:^|[a-z])(?:Make|Model)\b")),
    (TIME, re.compile(r"[Dd]ate(?![a-z])|DateTime|[Tt]imestamp|(?i:timezone)")),
    (
        PEOPLE,
        re.compile(
            r"[Pp]erson|[Aa]rtist|[Aa]uthor|[Cc]aption|[Kk]eyword|[Cc]opyright|[Oo]wner|[Ee]mail"
            r"|(?i:address|postal|street)"
        ),
    ),
)
"""Categories that an unlisted name has by its words, besides those of its namespace."""


def speaks_of_place(name: str) -> bool:
    """Return True if a property's local name stands for a place ("City") in any namespace.

    Also return True for a digest of metadata, which would confirm a guess of the place.
    """
    if name in _HARMLESS:
        return False
    if name in DIGESTS or _PARTS.search(name):
        return True
    return any(word.lower() in _WORDS for word in _WORD.findall(name))


_NO_PLACE: Final = re.compile(r"\s*(?:[-+]?0{0,3}(?:\.0{0,10})?|\d\.\d\.\d\.\d|WGS[- ]?84|[AV])\s*")


def is_no_place(value: str) -> bool:
    """Return True if the value of a property about places tells none: no value, zero, or the version, the
    status or the datum of a GPS receiver (2.3.0.0, V, WGS-84). Cameras without a position write these.
    """
    return _NO_PLACE.fullmatch(value) is not None


def _only_place(name: str) -> bool:
    """Return True if all words of a place in a name are the place's: "GPSLatitudeRef", not "ModelCity"."""
    words = _WORD.findall(_PARTS.sub(" ", name))
    return name.isascii() and all(word.lower() in _WORDS | _DETAILS for word in words)


def needs_value(namespace: str | None, name: str) -> bool:
    """Return True if the categories of a property depend on its value: tells_by_value() returns these."""
    return (namespace, name) == _WORKFLOW_STATE or (name in DIGESTS and is_known(namespace or ""))


def tells_by_value(name: str, value: str) -> Tells:
    """Return the categories of the state of a workflow in Acrobat (a digit), or of a digest of metadata.

    value: the text of the property. A digest may list its tags.

    Adobe's digests list their tags (XMP specification part 3, section 3.3): without GPS tags a digest
    confirms no guess of a place.
    """
    if name == _WORKFLOW_STATE[1]:
        return OTHER if value.strip() in ("0", "1") else UNKNOWN
    found = NATIVE_DIGEST.fullmatch(value) if name == "NativeDigest" else None
    if found is None:
        return UNKNOWN
    numbers = {int(number) for number in found[1].split(",")}
    placed = _GPS_IFD in numbers or any(number < _GPS_TAGS_END for number in numbers)
    return UNKNOWN if placed else REST


def numbers_in(namespace: str | None, local: str) -> re.Pattern[str] | None:
    """Return the pattern of a property's numbers; None if no numbers are expected in the property."""
    if (namespace, local) in NUMBERS:
        return _PLAIN_NUMBERS if (namespace, local) in OPTICS else _LONG_LIST
    return NATIVE_DIGEST if local == "NativeDigest" else None


def tells(namespace: str | None, name: str) -> Tells:
    """Return the categories of the data in a property or element, by namespace (None: no namespace) and
    name.
    """
    if namespace is None:
        return NOTHING if name in RDF_ATTRIBUTES else UNKNOWN
    known = _NAMESPACES.get(namespace)
    if known is None or name in DIGESTS:
        return UNKNOWN
    place = LOCATION if speaks_of_place(name) else NOTHING
    told = known.names.get(name)
    if told is not None:
        return told | place
    told = place if place and _only_place(name) else known.default | place
    for part in (part for part, pattern in _SPEAKING if pattern.search(name)):
        told |= part
    return told


class Property(NamedTuple):
    """Facts about a property by its name. The fields are named like functions and sets of this module."""

    tells: Tells
    needs_value: bool
    structural: bool
    numbers: re.Pattern[str] | None
    picture: bool


@lru_cache(maxsize=4096)
def describe(namespace: str | None, name: str) -> Property:
    """Return what a packet's scanner needs to know of a name, looked up once for many photos."""
    return Property(
        tells(namespace, name),
        needs_value(namespace, name),
        (namespace, name) in STRUCTURAL,
        numbers_in(namespace, name),
        (namespace, name) in PICTURES,
    )


def is_known(namespace: str) -> bool:
    """Return True if a namespace is listed. Properties of other namespaces never stay."""
    return namespace in _NAMESPACES
