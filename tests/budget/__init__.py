"""The budgets of the project: how much code, text, commands and options it may have."""
