"""Scans with labels: where they come from, the shards they lie in, and how they are split and sampled."""
