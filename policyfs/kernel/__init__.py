"""The parts of the kernel's FUSE protocol that pyfuse3 and libfuse lack, and nothing else (layer 2)."""
