"""Redacted bytes: frozen copies, leased files, and the plans that both go by."""
