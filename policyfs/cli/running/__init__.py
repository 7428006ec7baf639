"""`status`, `reload`, `umount`: commands on running mounts."""
