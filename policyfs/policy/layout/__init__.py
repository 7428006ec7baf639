"""The text of policies that commands write: quotes, and values on one line."""
