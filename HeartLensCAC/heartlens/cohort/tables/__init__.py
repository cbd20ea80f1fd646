"""The tables of a cohort: what they hold, and how they are written."""
