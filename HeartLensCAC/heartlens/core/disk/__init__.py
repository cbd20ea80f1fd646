"""What the operating systems do differently: names that nobody else has, locks, renaming, and who may read."""
