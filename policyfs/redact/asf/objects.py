"""Objects of ASF: a GUID, a size and data. Their GUIDs, by name."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import ByteSource

HEAD_BYTES: Final = 24
_GUIDS: Final = MappingProxyType(
    {
        "header": "75B22630-668E-11CF-A6D9-00AA0062CE6C",
        "data": "75B22636-668E-11CF-A6D9-00AA0062CE6C",
        "simple index": "33000890-E5B1-11CF-89F4-00A0C90349CB",
        "index": "D6E229D3-35DA-11D1-9034-00A0C90349BE",
        "media index": "FEB103F8-12AD-4C64-840F-2A1D2F7AD48C",
        "timecode index": "3CB73FD0-0C4A-4803-953D-EDF7B6228F0C",
        "file properties": "8CABDCA1-A947-11CF-8EE4-00C00C205365",
        "stream properties": "B7DC0791-A9B7-11CF-8EE6-00C00C205365",
        "header extension": "5FBF03B5-A92E-11CF-8EE3-00C00C205365",
        "codec list": "86D15240-311D-11D0-A3A4-00A0C90348F6",
        "marker": "F487CD01-A951-11CF-8EE6-00C00C205365",
        "mutual exclusion": "D6E229DC-35DA-11D1-9034-00A0C90349BE",
        "error correction": "75B22635-668E-11CF-A6D9-00AA0062CE6C",
        "content description": "75B22633-668E-11CF-A6D9-00AA0062CE6C",
        "extended content description": "D2D0A440-E307-11D2-97F0-00A0C95EA850",
        "stream bitrates": "7BF875CE-468D-11D1-8D82-006097C9A2B2",
        "content encryption": "2211B3FB-BD23-11D2-B4B7-00A0C955FC6E",
        "extended content encryption": "298AE614-2622-4C17-B935-DAE07EE9289C",
        "advanced content encryption": "43058533-6981-49E6-9B74-AD12CB86D58C",
        "padding": "1806D474-CADF-4509-A4BA-9AABCB96AAE8",
        "extended stream properties": "14E6A5CB-C672-4332-8399-A96952065B5A",
        "advanced mutual exclusion": "A08649CF-4775-4670-8A16-6E35357566CD",
        "group mutual exclusion": "D1465A40-5A79-4338-B71B-E36B8FD6C249",
        "stream priorities": "D4FED15B-88D3-454F-81F0-ED5C45999E24",
        "bandwidth sharing": "A69609E6-517B-11D2-B6AF-00C04FD908E9",
        "languages": "7C4346A9-EFE0-4BFC-B229-393EDE415C85",
        "metadata": "C5F8CBEA-5BAF-4877-8467-AA8C44FA4CCA",
        "metadata library": "44231C94-9498-49D1-A141-1D134E457054",
        "index parameters": "D6E229DF-35DA-11D1-9034-00A0C90349BE",
        "media index parameters": "6B203BAD-3F11-48E4-ACA8-D7613DE2CFA7",
        "timecode index parameters": "F55E496D-9797-4B5D-8C8B-604DFE9BFB24",
        "index placeholder": "D9AADE20-7C17-4F9C-BC28-8555DD98E2A2",
        "compatibility": "26F18B5D-4584-47EC-9F5F-0E651F0452C9",
        "sound": "F8699E40-5B4D-11CF-A8FD-00805F5C442B",
        "pictures": "BC19EFC0-5B4D-11CF-A8FD-00805F5C442B",
        "file names": "E165EC0E-19ED-45D7-B4A7-25CBD1E28E9B",
    }
)
GUIDS: Final = MappingProxyType({name: UUID(text).bytes_le for name, text in _GUIDS.items()})
"""Name of an object, or of the sort of a stream -> its GUID as it is stored."""
_NAMES: Final = MappingProxyType({guid: name for name, guid in GUIDS.items()})


class Part(NamedTuple):
    """An object. name: "" if its GUID is unknown. start, end: the range of its data, which may be cut off by
    the end of the file or of the outer object. whole: True if it is not."""

    name: str
    at: int
    start: int
    end: int
    whole: bool


def parts(source: ByteSource, at: int, end: int, inner: Inner) -> Iterator[Part]:
    """Yield the objects in [at, end). Raises TooMuchError."""
    while at + HEAD_BYTES <= end:
        inner.budget.part()
        head = source.read(at, HEAD_BYTES)
        size = int.from_bytes(head[16:], "little")
        behind = at + max(size, HEAD_BYTES)
        name = _NAMES.get(head[:16], "")
        yield Part(name, at, at + HEAD_BYTES, min(behind, end), HEAD_BYTES <= size <= end - at)
        at = behind
