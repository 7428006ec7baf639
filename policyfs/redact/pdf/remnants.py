"""Remnants of a PDF's programs that tell nothing: comments with a constant text, unused objects without text.

Both lie where anything may lie, so each has a form of its own here, and anything else goes.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.pdf.objects import Node
from policyfs.redact.pdf.private_keys import STANDARD_KEYS

MAX_BYTES: Final = 1 << 12
"""Maximum size of comments that may stay."""
_OF_A_PROGRAM: Final = Tells.DEVICE | Tells.OTHER
_OPTION: Final = (
    rb"(?:-[qf]|-P-?|-[rg]\d{1,5}(?:x\d{1,5})?|\?|-[dsS](?:All|Alpha|Anti|Auto|BATCH|Bits|Color|Colors|Compatibility"
    rb"|Compress|Conversion|Crop|DEVICE|DefaultRGB|Depth|Detect|Device|Downsample|Duplicate|EPS|Embed|Encode|FIXED"
    rb"|FastWebView|Filter|First|Fit|Fonts|Graphics|Gray|ICC|Image|Images|JPEG|Last|Level|MEDIA|Max|Model|Mono|NOCACHE"
    rb"|NOINTERPOLATE|NOPAUSE|NOPROMPT|NOSAFER|NOOUTERSAVE|Optimize|Output|PAPERSIZE|PARANOID|PDF|PDFA|PDFSETTINGS"
    rb"|PDFX|PSFit|Page|Pages|Policy|Preserve|Process|Profile|QUIET|Q|Rendering|Resolution|Rotate|SAFER|Strategy"
    rb"|Subset|Text|Threads|Threshold|Type|Use|stdout|File|Annots|Num|A){1,7}"
    rb"(?:=(?:\?|\d{1,6}(?:\.\d{1,2})?|true|false|/?(?:pdfwrite|ps2write|eps2write|screen|ebook|printer|prepress|default"
    rb"|s?RGB|CMYK|Gray|Device(?:RGB|CMYK|Gray)|LeaveColorUnchanged|UseDeviceIndependentColor|None|All|PageByPage"
    rb"|Bicubic|Subsample|Average|(?:DCT|Flate)Encode|a[0-5]|letter|legal)))?)"
)
"""An option of Ghostscript, which hides the names of files by itself (?)."""
_COMMENT: Final = (
    rb"%(?:(?P<mark>[-=*#.~+_%])(?P=mark)*"
    rb"|QDF-\d\.\d|QDF: ignore_newline"  # qpdf
    rb"|% (?:Original object ID: \d{1,10} \d{1,5}|Page \d{1,6}|Contents for page \d{1,6})"
    rb"|% Object stream: object \d{1,10}, index \d{1,6}(?:; original object ID: \d{1,10}(?: \d{1,5})?)?"
    rb"|(?:\x93\x8c\x8b\x9e ReportLab Generated| ReportLab generated) PDF document"
    rb"(?: -- digest)? \(?(?:http://www\.reportlab\.com|opensource)\)?"
    rb"| created by (?:Pillow|PIL) PDF driver| Written by MuPDF \d{1,2}(?:\.\d{1,3}){1,2}"
    rb"|iText-(?:Core-)?\d{1,2}(?:\.\d{1,2}){1,3}"
    rb"|(?:Begin|End)ExifToolUpdate(?: \d{1,9})?"
    rb"|PCLm \d\.\d"
    rb"| \d{1,5}"  # cairo: the number of a page
    rb"|%Invocation: (?:path/)?(?:gs|gsc|gswin(?:32|64)c?)(?: " + _OPTION + rb"){0,60}"
    rb")?"
)
_COMMENTS: Final = re.compile(rb"(?:" + _COMMENT + rb"(?:[\0\t\n\x0c\r ]*[\r\n]|[ \t]*\Z))*")
_MAX_NUMBERS: Final = 1
_NUMBER: Final = re.compile(rb"\d{1,7}")
_WORDS: Final = (b"null", b"true", b"false", b"0")


def is_constant(text: bytes, hide: Tells) -> bool:
    """Return True if the comments between or in objects may stay: each has a constant text, which tells only
    the program.
    """
    short = not hide & _OF_A_PROGRAM and len(text) <= MAX_BYTES
    return not text or (short and _COMMENTS.fullmatch(text) is not None)


def tells_nothing(node: Node) -> bool:
    """Return True if an object has no data of its own: only references, keys and names of the standard, and
    at most one whole number besides zeros.
    """
    waiting, numbers = [node], 0
    while waiting:
        here = waiting.pop()
        if here.kind == "dict":
            if any(key not in STANDARD_KEYS for key, _, _ in here.members):
                return False
            waiting += [value for _, _, value in here.members]
        elif here.kind == "word" and here.text not in _WORDS:
            numbers += 1
            if numbers > _MAX_NUMBERS or _NUMBER.fullmatch(here.text) is None:
                return False
        elif here.kind == "string" or (here.kind == "name" and here.text not in STANDARD_KEYS):
            return False
        waiting += here.items
    return True
