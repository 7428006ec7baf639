# Searches in the compressed data of a picture (_scan.c). Offsets are bytes; -1: nothing was found.

# The offset of the next marker's 0xff. in_scan: 0xff00 is a byte of data there, and restart markers (RST0 to
# RST7) are part of the scan (ITU-T T.81, B.1.1.5). A marker that the chunk cuts in two is not found. boxes: a
# file of boxes that begins before the marker ends the search, too.
def find_marker(chunk: bytes, in_scan: bool, boxes: bool = ..., /) -> int: ...

# The offset of the first file of ISO base media boxes whose head lies within the chunk: the size of its first
# box (16 to 1,279), "ftyp", and a brand of printable characters (ISO/IEC 14496-12, 4.3).
def find_boxes(chunk: bytes, /) -> int: ...
