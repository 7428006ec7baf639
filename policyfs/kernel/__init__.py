"""What pyfuse3 and libfuse lack of the kernel's FUSE protocol, and nothing else (layer 2)."""
