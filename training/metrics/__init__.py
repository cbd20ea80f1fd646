"""Agreement and overlap, as formulas over arrays."""
