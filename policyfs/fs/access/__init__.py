"""Access: decisions on requests, facts about files, the views of files, and records of decisions."""
