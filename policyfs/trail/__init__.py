"""The trail (the audit log) as pure logic: events, their lines, the chain of lines, readers (layer 1)."""
