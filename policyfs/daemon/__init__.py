"""The daemon: built, run, watched and ended; what it says of itself."""
