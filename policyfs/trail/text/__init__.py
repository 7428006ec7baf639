"""Texts for people: sentences, reports, exports."""
