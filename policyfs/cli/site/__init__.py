"""`up`, `down`, `unit`, `compose`: the mounts of a site."""
