"""XMP namespaces of makers and programs: Google, Apple, Microsoft, photo managers and editors.

Namespaces of standards and of Adobe are in properties.py, which also uses the namespaces of this module.
Sources: the vendors' pages, and files of their programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells

_LOCATION: Final = Tells.LOCATION
_DEVICE: Final = Tells.DEVICE
_TIME: Final = Tells.TIME
_PEOPLE: Final = Tells.PEOPLE
_OTHER: Final = Tells.OTHER
REST: Final = UNKNOWN & ~_LOCATION
"""Categories of an unlisted name in a listed namespace: no place, but perhaps anything else."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Categories of a namespace's properties: a dictionary for the named properties, and a default for all
    others.
    """

    default: Tells
    names: Mapping[str, Tells] = field(default_factory=lambda: MappingProxyType({}))


def named(default: Tells, *rows: tuple[Tells, str]) -> Namespace:
    return Namespace(
        default, MappingProxyType({name: tells for tells, names in rows for name in names.split()})
    )


FACES: Final = named(_PEOPLE)
_MICROSOFT: Final = named(
    REST,
    (_TIME, "DateAcquired"),
    (_DEVICE, "CameraSerialNumber LensManufacturer LensModel FlashManufacturer FlashModel"),
    (_DEVICE, "CreatorAppId CreatorOpenWithUIOptions"),
    (_PEOPLE, "LastKeywordXMP LastKeywordIPTC RegionInfo Regions Region PersonDisplayName Rectangle"),
    (_PEOPLE, "PersonEmailDigest PersonLiveIdCID PersonLiveCID PersonSourceID DateRegionsValid"),
    (_OTHER, "Rating ItemSubType"),
)
_GOOGLE_CAMERA: Final = named(
    UNKNOWN,
    # Start of a motion photo's video: readers need this number, and it tells nothing.
    (NOTHING, "MicroVideo MicroVideoOffset MicroVideoVersion MicroVideoPresentationTimestampUs"),
    (NOTHING, "MotionPhoto MotionPhotoVersion MotionPhotoPresentationTimestampUs"),
    (_DEVICE | _TIME, "BurstID CreationsBurstID"),
    (_OTHER, "BurstPrimary SpecialTypeID DisableAutoCreation DisableSuggestedAction PortraitVersion"),
)
_GOOGLE_CONTAINER: Final = named(
    UNKNOWN, (NOTHING, "Directory Item Mime Semantic Length Padding Label URI DataURI Version")
)
_PANORAMA: Final = named(
    REST,
    (NOTHING, "UsePanoramaViewer ProjectionType FullPanoWidthPixels FullPanoHeightPixels"),
    (NOTHING, "CroppedAreaImageWidthPixels CroppedAreaImageHeightPixels CroppedAreaLeftPixels"),
    (NOTHING, "CroppedAreaTopPixels InitialViewHeadingDegrees InitialViewPitchDegrees"),
    (NOTHING, "InitialViewRollDegrees InitialHorizontalFOVDegrees InitialVerticalFOVDegrees"),
    (NOTHING, "InitialCameraDolly LargestValidInteriorRectLeft LargestValidInteriorRectTop"),
    (NOTHING, "LargestValidInteriorRectWidth LargestValidInteriorRectHeight"),
    (_OTHER, "PoseHeadingDegrees PosePitchDegrees PoseRollDegrees SourcePhotosCount ExposureLockUsed"),
    (_DEVICE, "CaptureSoftware StitchingSoftware"),
    (_TIME, "FirstPhotoDate LastPhotoDate"),
)
_DEPTH: Final = named(
    UNKNOWN,
    (_OTHER, "Format Near Far Mime Units MeasureType ConfidenceMime ImageWidth ImageHeight Data Confidence"),
    (_DEVICE, "Manufacturer Model Software"),
)
_APPLE_GAIN_MAP: Final = named(REST, (NOTHING, "HDRGainMapVersion HDRGainMapHeadroom"))
_APPLE_PIXELS: Final = named(
    REST, (NOTHING, "AuxiliaryImageType AuxiliaryImageSubType IntMaxValue IntMinValue NativeFormat"),
    (NOTHING, "StoredFormat FloatMaxValue FloatMinValue"),
)  # fmt: skip
_DIGIKAM: Final = named(
    REST,
    (_PEOPLE, "TagsList CaptionsAuthorNames"),
    (_PEOPLE | _TIME, "CaptionsDateTimeStamps"),
    (_DEVICE, "ImageUniqueID LensCorrectionSettings"),
    (_DEVICE | _PEOPLE, "picasawebGPhotoId"),
    (_OTHER, "ColorLabel PickLabel"),
)
_DARKTABLE: Final = named(
    _OTHER,
    (_TIME, "import_timestamp change_timestamp export_timestamp print_timestamp"),
    (_DEVICE | _PEOPLE, "derived_from"),
    # Settings of a module as packed bytes. Some hold the names of the camera and the lens, or a text.
    (_DEVICE | _PEOPLE | _OTHER, "params history_params"),
    (_PEOPLE | _OTHER, "mask_name multi_name history_multi_name"),
)
_GIMP: Final = named(REST, (_DEVICE, "API Platform Version"), (_TIME, "TimeStamp"))
_ACDSEE: Final = named(
    REST,
    (UNKNOWN, "categories collections"),
    (_TIME, "datetime"),
    (_PEOPLE, "caption author notes keywords"),
    (_OTHER, "rating tagged colorlabel"),
)
_PHOTO_MECHANIC: Final = named(
    REST, (_DEVICE, "PMVersion Prefs"), (_TIME, "TimeCreated"), (_OTHER, "Tagged ColorClass EditStatus")
)
_APPLE_DEPTH: Final = named(
    REST,
    (NOTHING, "DepthDataVersion Accuracy Filtered Quality AbsoluteDepth"),
    (_OTHER, "IntrinsicMatrix IntrinsicMatrixReferenceWidth IntrinsicMatrixReferenceHeight PixelSize"),
    (_OTHER, "ExtrinsicMatrix LensDistortionCoefficients InverseLensDistortionCoefficients"),
    (_OTHER, "LensDistortionCenterOffsetX LensDistortionCenterOffsetY"),
)
# Optics of drones' cameras, which mapping programs need. Angles of the sun are removed: together with the
# time they tell the place.
_DJI: Final = named(
    UNKNOWN,
    (_OTHER, "BandName BandFreq Irradiance VignettingData VignettingFlag VignettingPolynomial BlackLevel"),
    (_OTHER, "CalibratedFocalLength CalibratedOpticalCenterX CalibratedOpticalCenterY DewarpFlag SensorGain"),
    (_OTHER, "SensorGainAdjustment SensorIndex ExposureTime CalibratedHMatrix DewarpHMatrix PhaseAlign"),
)
_PIX4D: Final = named(
    UNKNOWN,
    (_OTHER, "BandName CentralWavelength WavelengthFWHM BandSensitivity VignettingCenter RigCameraIndex"),
    (
        _OTHER,
        "VignettingPolynomial VignettingPolynomial2DName VignettingPolynomial2D ModelType PrincipalPoint",
    ),
    (_OTHER, "PerspectiveFocalLength PerspectiveFocalLengthUnits PerspectiveDistortion FisheyePolynomial"),
    (_OTHER, "FisheyeAffineMatrix Irradiance IrradianceGain IrradianceExposureTime IrradianceCalibration"),
    (_OTHER, "BlackCurrent PrincipalPoint SensorModel ColorTransform GyroRate"),
)
_MICASENSE: Final = named(
    UNKNOWN, (_OTHER, "RadiometricCalibration ImagerTemperatureC DarkRowValue PressureCoefficient")
)
# Only one measure of the light stays: several together give the sun's height.
_DLS: Final = named(
    UNKNOWN,
    (_OTHER, "CenterWavelength Bandwidth SpectralIrradiance"),
    (_DEVICE, "SensorId"),
    (_TIME, "TimeStamp"),
)
# DICOM's properties. The hospital's name is not listed, because it tells a place. Ids and free texts are not
# listed, because they may hold this name.
_DICOM: Final = named(
    UNKNOWN,
    (REST, "PatientName PatientSex PatientDOB SeriesNumber SeriesModality SeriesDateTime StudyDateTime"),
    (REST, "EquipmentManufacturer"),
)
# A program may use any name here, in any language; the listed names are those of a PDF's information
# (pdf/keys.py). Adobe writes a colon in a name as U+2182 and its code.
_PDFX: Final = named(
    UNKNOWN,
    (_PEOPLE, "Title Author Subject Keywords Company Manager Copyright Marked Comments WebStatement"),
    (_PEOPLE, "AAPL\u2182003AKeywords AAPL\u2182003aKeywords APTL\u2182003AKeywords APTL\u2182003aKeywords"),
    (_DEVICE, "Creator Producer CreatorTool PTEX.Fullbanner"),
    (_TIME, "CreationDate ModDate SourceModified LastModified"),
    (_OTHER, "Trapped GTS_PDFXVersion GTS_PDFXConformance"),
)
_DCTERMS: Final = named(
    UNKNOWN,
    (_TIME, "available created date dateAccepted dateCopyrighted dateSubmitted issued modified valid"),
    (_PEOPLE, "abstract alternative audience contributor creator description publisher rights rightsHolder"),
    (_PEOPLE, "accessRights license subject title tableOfContents provenance"),
    (_OTHER, "extent format medium type language conformsTo"),
)
# Descriptions of further namespaces, which PDF/A demands (ISO 19005-1, 6.7.8). Programs write constants. But
# a program's own namespace may name its maker, and a description may be any text.
_PDFA_SCHEMA: Final = named(
    UNKNOWN,
    (_OTHER, "schemas property valueType field category type name"),
    (REST, "schema namespaceURI prefix description"),
)
_APPLE_BLUR: Final = named(UNKNOWN, (_OTHER, "SimulatedAperture EffectStrength Version"))

DEPTH_MAP: Final = "http://ns.google.com/photos/1.0/depthmap/"
ORIGINAL: Final = "http://ns.google.com/photos/1.0/image/"
VENDORS: Final[Mapping[str, Namespace]] = MappingProxyType(
    {
        "http://ns.microsoft.com/photo/1.0": _MICROSOFT,
        "http://ns.microsoft.com/photo/1.0/": _MICROSOFT,
        "http://ns.microsoft.com/photo/1.1": _MICROSOFT,
        "http://ns.microsoft.com/photo/1.2/": _MICROSOFT,
        "http://ns.microsoft.com/photo/1.2/t/RegionInfo#": FACES,
        "http://ns.microsoft.com/photo/1.2/t/Region#": FACES,
        "http://ns.google.com/photos/1.0/camera/": _GOOGLE_CAMERA,
        "http://ns.google.com/photos/1.0/container/": _GOOGLE_CONTAINER,
        "http://ns.google.com/photos/1.0/container/item/": _GOOGLE_CONTAINER,
        "http://ns.google.com/photos/1.0/panorama/": _PANORAMA,
        DEPTH_MAP: _DEPTH,
        ORIGINAL: named(UNKNOWN, (_OTHER, "Mime Data")),
        "http://ns.apple.com/faceinfo/1.0/": FACES,
        "http://ns.apple.com/HDRGainMap/1.0/": _APPLE_GAIN_MAP,
        "http://ns.apple.com/pixeldatainfo/1.0/": _APPLE_PIXELS,
        "http://www.digikam.org/ns/1.0/": _DIGIKAM,
        "http://darktable.sf.net/": _DARKTABLE,
        "http://ns.google.com/photos/1.0/focus/": named(
            UNKNOWN, (_OTHER, "BlurAtInfinity FocalDistance FocalPointX FocalPointY")
        ),
        "http://ns.apple.com/depthData/1.0/": _APPLE_DEPTH,
        "http://ns.apple.com/depthBlurEffect/1.0/": _APPLE_BLUR,
        "http://ns.apple.com/portraitEffectsMatte/1.0/": named(
            UNKNOWN, (NOTHING, "PortraitEffectsMatteVersion")
        ),
        "http://ns.apple.com/semanticSegmentationMatte/1.0/": named(
            UNKNOWN, (NOTHING, "SemanticSegmentationMatteVersion")
        ),
        "http://www.gimp.org/xmp/": _GIMP,
        "http://ns.acdsee.com/iptc/1.0/": _ACDSEE,
        "http://ns.camerabits.com/photomechanic/1.0/": _PHOTO_MECHANIC,
        "http://www.dji.com/drone-dji/1.0/": _DJI,
        "http://pix4d.com/camera/1.0": _PIX4D,
        "http://pix4d.com/camera/1.0/": _PIX4D,
        "http://micasense.com/MicaSense/1.0/": _MICASENSE,
        "http://micasense.com/DLS/1.0/": _DLS,
        "http://purl.org/dc/terms/": _DCTERMS,
        "http://ns.adobe.com/DICOM/": _DICOM,
        # Documents: additions of programs and people to a PDF's information; kinds of PDF.
        "http://ns.adobe.com/pdfx/1.3/": _PDFX,
        "http://ns.adobe.com/illustrator/1.0/": named(UNKNOWN, (_OTHER, "Type StartupProfile")),
        "http://www.aiim.org/pdfa/ns/id/": named(UNKNOWN, (_OTHER, "part conformance amd rev corr")),
        "http://www.aiim.org/pdfua/ns/id/": named(UNKNOWN, (_OTHER, "part amd rev corr")),  # ISO 14289
        "http://www.aiim.org/pdfe/ns/id/": named(UNKNOWN, (_OTHER, "ISO_PDFEVersion")),  # ISO 24517
        **dict.fromkeys(
            (
                "http://www.aiim.org/pdfa/ns/extension/",
                *(f"http://www.aiim.org/pdfa/ns/{part}#" for part in ("schema", "property", "type", "field")),
            ),
            _PDFA_SCHEMA,
        ),
        "http://ns.adobe.com/AcrobatAdhocWorkflow/1.0/": named(
            UNKNOWN, (_OTHER, "state version workflowType")
        ),
        "http://www.npes.org/pdfx/ns/id/": named(UNKNOWN, (_OTHER, "GTS_PDFXVersion GTS_PDFXConformance")),
    }
)
"""A dictionary from the URI of a namespace to the categories of its properties, for properties.tells()."""

OPTICS: Final = frozenset(
    (uri, name)
    for uri in (
        "http://www.dji.com/drone-dji/1.0/",
        "http://pix4d.com/camera/1.0",
        "http://pix4d.com/camera/1.0/",
    )
    for name, told in VENDORS[uri].names.items()
    if told == _OTHER
)
"""(namespace, name) about optics: a list of plain numbers is not searched for coordinates."""
