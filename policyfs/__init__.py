"""policyfs: an access-control file system for media (see docs/architecture.md)."""
