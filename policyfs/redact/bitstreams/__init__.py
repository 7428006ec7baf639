"""Coded pictures in any container: units of H.264, H.265, H.266, AV1 and MPEG, and the messages in them."""
