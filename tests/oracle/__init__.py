"""A second reading of the policy language, written from docs/policy-language.md alone."""
