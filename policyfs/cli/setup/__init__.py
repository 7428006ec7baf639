"""`init`: policy, site and mounts from the services and containers of a machine that use one library."""
