"""`owner`: the recorded owners of files."""
