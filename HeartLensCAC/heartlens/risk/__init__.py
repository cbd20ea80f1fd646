"""What a score means: category, CAC-DRS, percentile and arterial age, from published tables."""
