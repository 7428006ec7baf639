"""The parts of the kernel's FUSE protocol that pyfuse3 and libfuse lack, and the access vectors (layer 2)."""
