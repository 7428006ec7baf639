"""HEIF: HEIC, AVIF and their kin."""
