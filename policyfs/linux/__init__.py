"""The kernel beside FUSE: system calls, mounts, capabilities, seccomp (layer 1)."""
