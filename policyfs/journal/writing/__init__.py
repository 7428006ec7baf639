"""The writer of the journal: intake, commit, segments in progress."""
