"""The keeper of a mount: the parent of its daemons, which share its table of descriptors."""
