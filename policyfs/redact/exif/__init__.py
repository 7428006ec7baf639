"""EXIF and TIFF: tags, maker notes, and the walk over directories."""
