"""The gate: decisions, the facts they hang on, their views, and their record."""
