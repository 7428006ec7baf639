"""The canonical form of policy files: one standard order, quotes and indentation. Comments are kept."""
