"""The trail (the audit log) as pure logic: events, their lines, the hash chain, searches (layer 1)."""
