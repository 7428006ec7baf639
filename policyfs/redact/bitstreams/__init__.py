"""Coded pictures in any container: units of H.264, H.265, H.266 and AV1, and the messages in them."""
