"""The trail as pure logic: what an event is, how it becomes a line, how lines are chained and read."""
