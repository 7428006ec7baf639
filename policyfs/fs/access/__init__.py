"""The gate: decisions, the facts and views they depend on, and their record."""
