"""Raw photos and whole TIFF files."""
