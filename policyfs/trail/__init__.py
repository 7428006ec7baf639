"""The trail as pure logic: events, their lines, the chain of lines, and readers (layer 1)."""
