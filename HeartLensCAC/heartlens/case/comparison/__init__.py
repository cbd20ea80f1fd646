"""Two scans of one person, and two readings of one scan."""
