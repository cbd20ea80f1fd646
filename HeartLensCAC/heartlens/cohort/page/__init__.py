"""The page of a cohort: what became of the scans, and what they show together."""
