"""`doctor`: checks of the machine and of stores."""
