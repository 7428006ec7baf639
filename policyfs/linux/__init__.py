"""Interfaces of the kernel other than FUSE: system calls, mounts, capabilities, seccomp (layer 1)."""
