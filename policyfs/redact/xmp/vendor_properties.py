"""XMP namespaces of makers and programs: Google, Apple, Microsoft, photo managers and editors.

Namespaces of standards and of Adobe are in properties.py, which also uses the namespaces of this module.
Sources: the vendors' pages, and files of their programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells

REST: Final = UNKNOWN & ~LOCATION
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


FACES: Final = named(PEOPLE)
_MICROSOFT: Final = named(
    REST,
    (TIME, "DateAcquired"),
    (DEVICE, "CameraSerialNumber LensManufacturer LensModel FlashManufacturer FlashModel"),
    (DEVICE, "CreatorAppId CreatorOpenWithUIOptions"),
    (PEOPLE, "LastKeywordXMP LastKeywordIPTC RegionInfo Regions Region PersonDisplayName Rectangle"),
    (PEOPLE, "PersonEmailDigest PersonLiveIdCID PersonLiveCID PersonSourceID DateRegionsValid"),
    (OTHER, "Rating ItemSubType"),
)
_GOOGLE_CAMERA: Final = named(
    UNKNOWN,
    # Start of a motion photo's video: readers need this number, and it tells nothing.
    (NOTHING, "MicroVideo MicroVideoOffset MicroVideoVersion MicroVideoPresentationTimestampUs"),
    (NOTHING, "MotionPhoto MotionPhotoVersion MotionPhotoPresentationTimestampUs"),
    (DEVICE | TIME, "BurstID CreationsBurstID"),
    (OTHER, "BurstPrimary SpecialTypeID DisableAutoCreation DisableSuggestedAction PortraitVersion"),
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
    (OTHER, "PoseHeadingDegrees PosePitchDegrees PoseRollDegrees SourcePhotosCount ExposureLockUsed"),
    (DEVICE, "CaptureSoftware StitchingSoftware"),
    (TIME, "FirstPhotoDate LastPhotoDate"),
)
_DEPTH: Final = named(
    UNKNOWN,
    (OTHER, "Format Near Far Mime Units MeasureType ConfidenceMime ImageWidth ImageHeight Data Confidence"),
    (DEVICE, "Manufacturer Model Software"),
)
_APPLE_GAIN_MAP: Final = named(REST, (NOTHING, "HDRGainMapVersion HDRGainMapHeadroom"))
_APPLE_PIXELS: Final = named(
    REST, (NOTHING, "AuxiliaryImageType AuxiliaryImageSubType IntMaxValue IntMinValue NativeFormat"),
    (NOTHING, "StoredFormat FloatMaxValue FloatMinValue"),
)  # fmt: skip
_DIGIKAM: Final = named(
    REST,
    (PEOPLE, "TagsList CaptionsAuthorNames"),
    (PEOPLE | TIME, "CaptionsDateTimeStamps"),
    (DEVICE, "ImageUniqueID LensCorrectionSettings"),
    (DEVICE | PEOPLE, "picasawebGPhotoId"),
    (OTHER, "ColorLabel PickLabel"),
)
_DARKTABLE: Final = named(
    OTHER,
    (TIME, "import_timestamp change_timestamp export_timestamp print_timestamp"),
    (DEVICE | PEOPLE, "derived_from"),
    # Settings of a module as packed bytes. Some hold the names of the camera and the lens, or a text.
    (DEVICE | PEOPLE | OTHER, "params history_params"),
    (PEOPLE | OTHER, "mask_name multi_name history_multi_name"),
)
_GIMP: Final = named(REST, (DEVICE, "API Platform Version"), (TIME, "TimeStamp"))
_ACDSEE: Final = named(
    REST,
    (UNKNOWN, "categories collections"),
    (TIME, "datetime"),
    (PEOPLE, "caption author notes keywords"),
    (OTHER, "rating tagged colorlabel"),
)
_PHOTO_MECHANIC: Final = named(
    REST, (DEVICE, "PMVersion Prefs"), (TIME, "TimeCreated"), (OTHER, "Tagged ColorClass EditStatus")
)
_APPLE_DEPTH: Final = named(
    REST,
    (NOTHING, "DepthDataVersion Accuracy Filtered Quality AbsoluteDepth"),
    (OTHER, "IntrinsicMatrix IntrinsicMatrixReferenceWidth IntrinsicMatrixReferenceHeight PixelSize"),
    (OTHER, "ExtrinsicMatrix LensDistortionCoefficients InverseLensDistortionCoefficients"),
    (OTHER, "LensDistortionCenterOffsetX LensDistortionCenterOffsetY"),
)
# Optics of drones' cameras, which mapping programs need. Angles of the sun are removed: together with the
# time they tell the place.
_DJI: Final = named(
    UNKNOWN,
    (OTHER, "BandName BandFreq Irradiance VignettingData VignettingFlag VignettingPolynomial BlackLevel"),
    (OTHER, "CalibratedFocalLength CalibratedOpticalCenterX CalibratedOpticalCenterY DewarpFlag SensorGain"),
    (OTHER, "SensorGainAdjustment SensorIndex ExposureTime CalibratedHMatrix DewarpHMatrix PhaseAlign"),
)
_PIX4D: Final = named(
    UNKNOWN,
    (OTHER, "BandName CentralWavelength WavelengthFWHM BandSensitivity VignettingCenter RigCameraIndex"),
    (
        OTHER,
        "VignettingPolynomial VignettingPolynomial2DName VignettingPolynomial2D ModelType PrincipalPoint",
    ),
    (OTHER, "PerspectiveFocalLength PerspectiveFocalLengthUnits PerspectiveDistortion FisheyePolynomial"),
    (OTHER, "FisheyeAffineMatrix Irradiance IrradianceGain IrradianceExposureTime IrradianceCalibration"),
    (OTHER, "BlackCurrent PrincipalPoint SensorModel ColorTransform GyroRate"),
)
_MICASENSE: Final = named(
    UNKNOWN, (OTHER, "RadiometricCalibration ImagerTemperatureC DarkRowValue PressureCoefficient")
)
# Only one measure of the light stays: several together give the sun's height.
_DLS: Final = named(
    UNKNOWN,
    (OTHER, "CenterWavelength Bandwidth SpectralIrradiance"),
    (DEVICE, "SensorId"),
    (TIME, "TimeStamp"),
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
    (PEOPLE, "Title Author Subject Keywords Company Manager Copyright Marked Comments WebStatement"),
    (PEOPLE, "AAPL\u2182003AKeywords AAPL\u2182003aKeywords APTL\u2182003AKeywords APTL\u2182003aKeywords"),
    (DEVICE, "Creator Producer CreatorTool PTEX.Fullbanner"),
    (TIME, "CreationDate ModDate SourceModified LastModified"),
    (OTHER, "Trapped GTS_PDFXVersion GTS_PDFXConformance"),
)
_DCTERMS: Final = named(
    UNKNOWN,
    (TIME, "available created date dateAccepted dateCopyrighted dateSubmitted issued modified valid"),
    (PEOPLE, "abstract alternative audience contributor creator description publisher rights rightsHolder"),
    (PEOPLE, "accessRights license subject title tableOfContents provenance"),
    (OTHER, "extent format medium type language conformsTo"),
)
# Descriptions of further namespaces, which PDF/A demands (ISO 19005-1, 6.7.8). Programs write constants. But
# a program's own namespace may name its maker, and a description may be any text.
_PDFA_SCHEMA: Final = named(
    UNKNOWN,
    (OTHER, "schemas property valueType field category type name"),
    (REST, "schema namespaceURI prefix description"),
)
_APPLE_BLUR: Final = named(UNKNOWN, (OTHER, "SimulatedAperture EffectStrength Version"))

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
        ORIGINAL: named(UNKNOWN, (OTHER, "Mime Data")),
        "http://ns.apple.com/faceinfo/1.0/": FACES,
        "http://ns.apple.com/HDRGainMap/1.0/": _APPLE_GAIN_MAP,
        "http://ns.apple.com/pixeldatainfo/1.0/": _APPLE_PIXELS,
        "http://www.digikam.org/ns/1.0/": _DIGIKAM,
        "http://darktable.sf.net/": _DARKTABLE,
        "http://ns.google.com/photos/1.0/focus/": named(
            UNKNOWN, (OTHER, "BlurAtInfinity FocalDistance FocalPointX FocalPointY")
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
        "http://ns.adobe.com/illustrator/1.0/": named(UNKNOWN, (OTHER, "Type StartupProfile")),
        "http://www.aiim.org/pdfa/ns/id/": named(UNKNOWN, (OTHER, "part conformance amd rev corr")),
        "http://www.aiim.org/pdfua/ns/id/": named(UNKNOWN, (OTHER, "part amd rev corr")),  # ISO 14289
        "http://www.aiim.org/pdfe/ns/id/": named(UNKNOWN, (OTHER, "ISO_PDFEVersion")),  # ISO 24517
        **dict.fromkeys(
            (
                "http://www.aiim.org/pdfa/ns/extension/",
                *(f"http://www.aiim.org/pdfa/ns/{part}#" for part in ("schema", "property", "type", "field")),
            ),
            _PDFA_SCHEMA,
        ),
        "http://ns.adobe.com/AcrobatAdhocWorkflow/1.0/": named(
            UNKNOWN, (OTHER, "state version workflowType")
        ),
        "http://www.npes.org/pdfx/ns/id/": named(UNKNOWN, (OTHER, "GTS_PDFXVersion GTS_PDFXConformance")),
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
    if told == OTHER
)
"""(namespace, name) about optics: a list of plain numbers is not searched for coordinates."""
