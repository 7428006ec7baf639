"""Privileges of a process and their removal: uids, capabilities, Landlock, seccomp, namespaces."""
