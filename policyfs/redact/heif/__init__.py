"""HEIF: HEIC, AVIF and related formats."""
