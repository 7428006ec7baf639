"""`audit`: the actions that read, search and verify the trail."""
