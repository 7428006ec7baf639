"""Matroska and WebM files."""
