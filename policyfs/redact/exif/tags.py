"""The known tags of TIFF and EXIF, and the categories of each tag.

The tables are allow lists on purpose: a private tag may hold anything, even a place. So every word of a
policy removes a tag that is in no table. Such a tag stays only if its value has no information
(empty_values.py). Sources: TIFF 6.0, TIFF/EP, Exif 2.32 and 3.0 (CIPA DC-008), CIPA DC-007 (multi-picture
format), Microsoft's photo tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, Tells
from policyfs.redact.exif.rules import How, Rule, Rules, numbers

TYPE_SIZES: Final = {
    1: 1,  # BYTE
    2: 1,  # ASCII
    3: 2,  # SHORT
    4: 4,  # LONG
    5: 8,  # RATIONAL
    6: 1,  # SBYTE
    7: 1,  # UNDEFINED
    8: 2,  # SSHORT
    9: 4,  # SLONG
    10: 8,  # SRATIONAL
    11: 4,  # FLOAT
    12: 8,  # DOUBLE
    13: 4,  # IFD
    129: 1,  # UTF-8 (Exif 3.0)
}
"""A dictionary from a field type to the size in bytes of one value."""

TEXT_TYPES: Final = frozenset({1, 2, 6, 7, 129})

GPS_IFD: Final = 0x8825
EXIF_IFD: Final = 0x8769
INTEROP_IFD: Final = 0xA005
SUB_IFDS: Final = 0x014A
MAKER_NOTE: Final = 0x927C
XMP: Final = 0x02BC
IPTC: Final = 0x83BB
PHOTOSHOP: Final = 0x8649
PRINT_IM: Final = 0xC4A5
JPEG_OFFSET: Final = 0x0201
JPEG_LENGTH: Final = 0x0202
STRIP_OFFSETS: Final = 0x0111
STRIP_LENGTHS: Final = 0x0117
TILE_OFFSETS: Final = 0x0144
TILE_LENGTHS: Final = 0x0145
MPF_ENTRIES: Final = 0xB002

GPS_TAGS_END: Final = 0x40
"""GPS tags are below this number. Exif 2.32 has 0x00 to 0x1f; later versions may add some."""


IMAGE: Final = "IFD"
EXIF: Final = "ExifIFD"
INTEROP: Final = "InteropIFD"
GPS: Final = "GPS"
"""Roles of TIFF directories. The role of a directory decides which tags are known in it."""

POINTERS: Final = MappingProxyType({EXIF_IFD: EXIF, INTEROP_IFD: INTEROP, GPS_IFD: GPS, SUB_IFDS: IMAGE})
"""Tags that refer to directories -> the roles of these directories."""
NESTED: Final = MappingProxyType({XMP: How.XMP, IPTC: How.IIM, PHOTOSHOP: How.IRB, MAKER_NOTE: How.NOTE})
"""Tags with values that have cleaners of their own -> the types of these values."""


@dataclass(frozen=True, slots=True)
class TagTable:
    """The known tags of one sort of TIFF structure, by the roles of its directories.

    name: the format's name in findings. following: the categories of the next directory (of a thumbnail). If
    one of them is hidden, the whole directory is removed.
    """

    name: str
    rules: Mapping[str, Rules]
    following: Tells = NOTHING


DNG_NUMBERS: Final = tuple(
    numbers(
        "c612 c613 c616 c617 c618 c619 c61a c61b c61c c61d c61e c61f c620 c621 c622 c623 c624 c625 c626 c627"
        " c628 c629 c62a c62b c62c c62d c62e c631 c632 c633 c65a c65b c65c c68d c68e c68f c690 c691 c692 c6bf"
    )
)
"""Versions, levels, matrices and other numbers that programs copy from a DNG into a picture made from it."""

_Row = tuple[int, str, Tells]

_PICTURE: Final[tuple[_Row, ...]] = (
    (0x000B, "ProcessingSoftware", DEVICE),
    (0x00FE, "SubfileType", NOTHING),
    (0x00FF, "OldSubfileType", NOTHING),
    (0x0100, "ImageWidth", NOTHING),
    (0x0101, "ImageHeight", NOTHING),
    (0x0102, "BitsPerSample", NOTHING),
    (0x0103, "Compression", NOTHING),
    (0x0106, "PhotometricInterpretation", NOTHING),
    (0x0107, "Thresholding", NOTHING),
    (0x0108, "CellWidth", NOTHING),
    (0x0109, "CellLength", NOTHING),
    (0x010A, "FillOrder", NOTHING),
    (0x010D, "DocumentName", PEOPLE),
    (0x010E, "ImageDescription", PEOPLE),
    (0x010F, "Make", DEVICE),
    (0x0110, "Model", DEVICE),
    (STRIP_OFFSETS, "StripOffsets", NOTHING),
    (0x0112, "Orientation", NOTHING),
    (0x0115, "SamplesPerPixel", NOTHING),
    (0x0116, "RowsPerStrip", NOTHING),
    (STRIP_LENGTHS, "StripByteCounts", NOTHING),
    (0x0118, "MinSampleValue", NOTHING),
    (0x0119, "MaxSampleValue", NOTHING),
    (0x011A, "XResolution", NOTHING),
    (0x011B, "YResolution", NOTHING),
    (0x011C, "PlanarConfiguration", NOTHING),
    (0x011D, "PageName", PEOPLE),
    (0x011E, "XPosition", OTHER),
    (0x011F, "YPosition", OTHER),
    (0x0120, "FreeOffsets", OTHER),
    (0x0121, "FreeByteCounts", OTHER),
    (0x0122, "GrayResponseUnit", NOTHING),
    (0x0123, "GrayResponseCurve", NOTHING),
    (0x0124, "T4Options", NOTHING),
    (0x0125, "T6Options", NOTHING),
    (0x0128, "ResolutionUnit", NOTHING),
    (0x0129, "PageNumber", OTHER),
    (0x012D, "TransferFunction", NOTHING),
    (0x0131, "Software", DEVICE),
    (0x0132, "ModifyDate", TIME),
    (0x013B, "Artist", PEOPLE),
    (0x013C, "HostComputer", DEVICE),
    (0x013D, "Predictor", NOTHING),
    (0x013E, "WhitePoint", NOTHING),
    (0x013F, "PrimaryChromaticities", NOTHING),
    (0x0140, "ColorMap", NOTHING),
    (0x0141, "HalftoneHints", NOTHING),
    (0x0142, "TileWidth", NOTHING),
    (0x0143, "TileLength", NOTHING),
    (TILE_OFFSETS, "TileOffsets", NOTHING),
    (TILE_LENGTHS, "TileByteCounts", NOTHING),
    (0x0146, "BadFaxLines", NOTHING),
    (0x0147, "CleanFaxData", NOTHING),
    (0x0148, "ConsecutiveBadFaxLines", NOTHING),
    (SUB_IFDS, "SubIFDs", NOTHING),
    (0x014C, "InkSet", NOTHING),
    (0x014D, "InkNames", OTHER),
    (0x014E, "NumberOfInks", NOTHING),
    (0x0150, "DotRange", NOTHING),
    (0x0151, "TargetPrinter", DEVICE),
    (0x0152, "ExtraSamples", NOTHING),
    (0x0153, "SampleFormat", NOTHING),
    (0x0154, "SMinSampleValue", NOTHING),
    (0x0155, "SMaxSampleValue", NOTHING),
    (0x015A, "Indexed", NOTHING),
    (0x015B, "JPEGTables", NOTHING),
    (0x0200, "JPEGProc", NOTHING),
    (JPEG_OFFSET, "ThumbnailOffset", NOTHING),
    (JPEG_LENGTH, "ThumbnailLength", NOTHING),
    (0x0203, "JPEGRestartInterval", NOTHING),
    (0x0205, "JPEGLosslessPredictors", NOTHING),
    (0x0206, "JPEGPointTransforms", NOTHING),
    (0x0207, "JPEGQTables", NOTHING),
    (0x0208, "JPEGDCTables", NOTHING),
    (0x0209, "JPEGACTables", NOTHING),
    (0x0211, "YCbCrCoefficients", NOTHING),
    (0x0212, "YCbCrSubSampling", NOTHING),
    (0x0213, "YCbCrPositioning", NOTHING),
    (0x0214, "ReferenceBlackWhite", NOTHING),
    (XMP, "XMP", NOTHING),
    (0x4746, "Rating", OTHER),
    (0x4749, "RatingPercent", OTHER),
    (0x828D, "CFARepeatPatternDim", NOTHING),
    (0x828E, "CFAPattern2", NOTHING),
    (0x828F, "BatteryLevel", OTHER),
    (0x8298, "Copyright", PEOPLE),
    (IPTC, "IPTC", NOTHING),
    (PHOTOSHOP, "Photoshop", NOTHING),
    (EXIF_IFD, "ExifIFD", NOTHING),
    (0x8773, "ICC_Profile", NOTHING),
    (GPS_IFD, "GPSInfo", LOCATION),
    (0x9C9B, "XPTitle", PEOPLE),
    (0x9C9C, "XPComment", PEOPLE),
    (0x9C9D, "XPAuthor", PEOPLE),
    (0x9C9E, "XPKeywords", PEOPLE),
    (0x9C9F, "XPSubject", PEOPLE),
    (PRINT_IM, "PrintIM", OTHER),
    (0xC614, "UniqueCameraModel", DEVICE),
    (0xC615, "LocalizedCameraModel", DEVICE),
    (0xC62F, "CameraSerialNumber", DEVICE),
    (0xC6D2, "PanasonicTitle", PEOPLE),
    (0xC6D3, "PanasonicTitle2", PEOPLE),
    (0xC71B, "PreviewDateTime", TIME),
    (0xEA1D, "OffsetSchema", OTHER),
    (0x9A00, "XiaomiModel", DEVICE),
    (0xFDE8, "OwnerName", DEVICE | PEOPLE),
    (0xFDE9, "SerialNumber", DEVICE),
    (0xFDEA, "Lens", DEVICE),
    (0xFE4C, "RawFile", PEOPLE),
    (0xFE4D, "Converter", DEVICE),
    (0xFE4E, "RawWhiteBalance", OTHER),
    *((tag, f"Raw 0x{tag:04x}", OTHER) for tag in numbers("fe51 fe52 fe53 fe54 fe55 fe56 fe57 fe58")),
    *((tag, f"DNG 0x{tag:04x}", NOTHING) for tag in DNG_NUMBERS),
)
_EXIF: Final[tuple[_Row, ...]] = (
    (0x829A, "ExposureTime", OTHER),
    (0x829D, "FNumber", OTHER),
    (0x8822, "ExposureProgram", OTHER),
    (0x8824, "SpectralSensitivity", OTHER),
    (0x8827, "ISO", OTHER),
    (0x8828, "OECF", OTHER),
    (0x8829, "Interlace", OTHER),
    (0x882A, "TimeZoneOffset", TIME),
    (0x882B, "SelfTimerMode", OTHER),
    (0x8830, "SensitivityType", OTHER),
    (0x8831, "StandardOutputSensitivity", OTHER),
    (0x8832, "RecommendedExposureIndex", OTHER),
    (0x8833, "ISOSpeed", OTHER),
    (0x8834, "ISOSpeedLatitudeyyy", OTHER),
    (0x8835, "ISOSpeedLatitudezzz", OTHER),
    (0x9000, "ExifVersion", NOTHING),
    (0x9003, "DateTimeOriginal", TIME),
    (0x9004, "CreateDate", TIME),
    (0x9010, "OffsetTime", TIME),
    (0x9011, "OffsetTimeOriginal", TIME),
    (0x9012, "OffsetTimeDigitized", TIME),
    (0x9101, "ComponentsConfiguration", NOTHING),
    (0x9102, "CompressedBitsPerPixel", OTHER),
    (0x9201, "ShutterSpeedValue", OTHER),
    (0x9202, "ApertureValue", OTHER),
    (0x9203, "BrightnessValue", OTHER),
    (0x9204, "ExposureCompensation", OTHER),
    (0x9205, "MaxApertureValue", OTHER),
    (0x9206, "SubjectDistance", OTHER),
    (0x9207, "MeteringMode", OTHER),
    (0x9208, "LightSource", OTHER),
    (0x9209, "Flash", OTHER),
    (0x920A, "FocalLength", OTHER),
    (0x920B, "FlashEnergy", OTHER),
    (0x920C, "SpatialFrequencyResponse", OTHER),
    (0x920D, "Noise", OTHER),
    (0x920E, "FocalPlaneXResolution", OTHER),
    (0x920F, "FocalPlaneYResolution", OTHER),
    (0x9210, "FocalPlaneResolutionUnit", OTHER),
    (0x9211, "ImageNumber", DEVICE),
    (0x9212, "SecurityClassification", PEOPLE),
    (0x9213, "ImageHistory", DEVICE | TIME | PEOPLE),
    (0x9214, "SubjectArea", OTHER),
    (0x9215, "ExposureIndex", OTHER),
    (0x9216, "TIFF-EPStandardID", OTHER),
    (0x9217, "SensingMethod", OTHER),
    (0x9286, "UserComment", PEOPLE),
    (0x9290, "SubSecTime", TIME),
    (0x9291, "SubSecTimeOriginal", TIME),
    (0x9292, "SubSecTimeDigitized", TIME),
    (0x9400, "AmbientTemperature", OTHER),
    (0x9401, "Humidity", OTHER),
    (0x9402, "Pressure", OTHER),
    (0x9403, "WaterDepth", OTHER),
    (0x9404, "Acceleration", OTHER),
    (0x9405, "CameraElevationAngle", OTHER),
    (0xA000, "FlashpixVersion", NOTHING),
    (0xA001, "ColorSpace", NOTHING),
    (0xA002, "ExifImageWidth", NOTHING),
    (0xA003, "ExifImageHeight", NOTHING),
    (0xA004, "RelatedSoundFile", PEOPLE),
    (INTEROP_IFD, "InteropIFD", NOTHING),
    (0xA20B, "FlashEnergy", OTHER),
    (0xA20C, "SpatialFrequencyResponse", OTHER),
    (0xA20D, "Noise", OTHER),
    (0xA20E, "FocalPlaneXResolution", OTHER),
    (0xA20F, "FocalPlaneYResolution", OTHER),
    (0xA210, "FocalPlaneResolutionUnit", OTHER),
    (0xA211, "ImageNumber", DEVICE),
    (0xA212, "SecurityClassification", PEOPLE),
    (0xA213, "ImageHistory", DEVICE | TIME | PEOPLE),
    (0xA214, "SubjectLocation", OTHER),
    (0xA215, "ExposureIndex", OTHER),
    (0xA216, "TIFF-EPStandardID", OTHER),
    (0xA217, "SensingMethod", OTHER),
    (0xA300, "FileSource", OTHER),
    (0xA301, "SceneType", OTHER),
    (0xA302, "CFAPattern", OTHER),
    (0xA401, "CustomRendered", OTHER),
    (0xA402, "ExposureMode", OTHER),
    (0xA403, "WhiteBalance", OTHER),
    (0xA404, "DigitalZoomRatio", OTHER),
    (0xA405, "FocalLengthIn35mmFormat", OTHER),
    (0xA406, "SceneCaptureType", OTHER),
    (0xA407, "GainControl", OTHER),
    (0xA408, "Contrast", OTHER),
    (0xA409, "Saturation", OTHER),
    (0xA40A, "Sharpness", OTHER),
    (0xA40B, "DeviceSettingDescription", DEVICE),
    (0xA40C, "SubjectDistanceRange", OTHER),
    (0xA420, "ImageUniqueID", DEVICE),
    (0xA430, "OwnerName", DEVICE | PEOPLE),
    (0xA431, "SerialNumber", DEVICE),
    (0xA432, "LensInfo", DEVICE),
    (0xA433, "LensMake", DEVICE),
    (0xA434, "LensModel", DEVICE),
    (0xA435, "LensSerialNumber", DEVICE),
    (0xA436, "ImageTitle", PEOPLE),
    (0xA437, "Photographer", PEOPLE),
    (0xA438, "ImageEditor", PEOPLE),
    (0xA439, "CameraFirmware", DEVICE),
    (0xA43A, "RAWDevelopingSoftware", DEVICE),
    (0xA43B, "ImageEditingSoftware", DEVICE),
    (0xA43C, "MetadataEditingSoftware", DEVICE),
    (0xA460, "CompositeImage", OTHER),
    (0xA461, "CompositeImageCount", OTHER),
    (0xA462, "CompositeImageExposureTimes", OTHER),
    (0xA500, "Gamma", NOTHING),
)
_INTEROP: Final[tuple[_Row, ...]] = (
    (0x0001, "InteropIndex", NOTHING),
    (0x0002, "InteropVersion", NOTHING),
    (0x1000, "RelatedImageFileFormat", OTHER),
    (0x1001, "RelatedImageWidth", OTHER),
    (0x1002, "RelatedImageHeight", OTHER),
)
_PLACES: Final = "0 1 2 3 4 5 6 8 9 a b c d e f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1e 1f"
_GPS: Final[tuple[_Row, ...]] = (
    *((tag, f"GPS 0x{tag:02x}", LOCATION) for tag in numbers(_PLACES)),
    (0x07, "GPSTimeStamp", LOCATION | TIME),
    (0x1D, "GPSDateStamp", LOCATION | TIME),
)
_MPF: Final[tuple[_Row, ...]] = (
    (0xB000, "MPFVersion", NOTHING),
    (0xB001, "NumberOfImages", NOTHING),
    (MPF_ENTRIES, "MPImageList", NOTHING),
    (0xB003, "ImageUIDList", DEVICE),
    (0xB004, "TotalFrames", NOTHING),
    (0xB101, "MPIndividualNum", NOTHING),
    (0xB201, "PanOrientation", NOTHING),
    (0xB202, "PanOverlapH", NOTHING),
    (0xB203, "PanOverlapV", NOTHING),
    (0xB204, "BaseViewpointNum", NOTHING),
    (0xB205, "ConvergenceAngle", NOTHING),
    (0xB206, "BaselineLength", NOTHING),
    (0xB207, "VerticalDivergence", NOTHING),
    (0xB208, "AxisDistanceX", NOTHING),
    (0xB209, "AxisDistanceY", NOTHING),
    (0xB20A, "AxisDistanceZ", NOTHING),
    (0xB20B, "YawAngle", OTHER),
    (0xB20C, "PitchAngle", OTHER),
    (0xB20D, "RollAngle", OTHER),
    (0xB20E, "PanOrder", NOTHING),
)


def _rules(*groups: tuple[_Row, ...]) -> Rules:
    return MappingProxyType({tag: _rule(tag, tells) for rows in groups for tag, _, tells in rows})


def _rule(tag: int, tells: Tells) -> Rule:
    how = How.DIRECTORY if tag in POINTERS else NESTED.get(tag, How.VALUE)
    return Rule(tells, how, POINTERS.get(tag, ""))


def _names(*groups: tuple[_Row, ...]) -> Mapping[int, str]:
    return MappingProxyType({tag: name for rows in groups for tag, name, _ in rows})


_IMAGE_NAMES: Final = MappingProxyType({**_names(_PICTURE, _EXIF, _MPF), MAKER_NOTE: "MakerNote"})
NAMES: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        IMAGE: _IMAGE_NAMES,
        EXIF: _IMAGE_NAMES,
        INTEROP: _names(_INTEROP),
        GPS: _names(_GPS),
    }
)
"""A dictionary from the role of a directory to the names of its tags in findings."""

EXIF_TABLE: Final = TagTable(
    "EXIF",
    MappingProxyType(
        {
            # Some writers mix up these two directories. So each of the two tables has the tags of both.
            IMAGE: _rules(_PICTURE, _EXIF),
            EXIF: _rules(_PICTURE, _EXIF),
            INTEROP: _rules(_INTEROP),
            GPS: _rules(_GPS),
        }
    ),
    following=Tells.OTHER,
)

MPF_TABLE: Final = TagTable("MPF", MappingProxyType({IMAGE: _rules(_MPF)}))
