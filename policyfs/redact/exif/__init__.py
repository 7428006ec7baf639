"""EXIF and TIFF directories: tags, maker notes, the walk."""
