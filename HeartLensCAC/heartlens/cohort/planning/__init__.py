"""Which scans there are, and which of them are scored."""
