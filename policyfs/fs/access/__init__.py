"""The gate of a mount: decisions, the facts and views that they depend on, and the record of decisions."""
