"""policyfs: an access-control file system for media (see docs/architecture.md)."""

__version__ = "0.1.0"
