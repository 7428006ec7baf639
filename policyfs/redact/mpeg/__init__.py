"""MPEG transport streams and program streams (ISO/IEC 13818-1, 11172-1)."""
