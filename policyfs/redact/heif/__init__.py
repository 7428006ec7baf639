"""HEIF files: HEIC, AVIF and related formats."""
