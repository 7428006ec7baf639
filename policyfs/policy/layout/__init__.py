"""The canonical form of policy files: order, quotes and indentation, with every comment where it belongs."""
