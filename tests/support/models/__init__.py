"""Models that a mount or a policy is compared with."""
