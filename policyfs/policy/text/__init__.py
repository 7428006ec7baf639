"""The text of a policy: from YAML to the model, with all errors at once."""
