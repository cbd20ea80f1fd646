"""What is written of two scans of one person, and of two readings of one scan."""
