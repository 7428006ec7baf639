"""Parts of several commands: output, times, files of policies."""
