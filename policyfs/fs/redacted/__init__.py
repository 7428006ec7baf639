"""Redacted bytes: frozen copies, leased files, and the plans for both."""
