"""Matroska and WebM."""
