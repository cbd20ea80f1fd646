"""Which slices belong together: stacks within a series, series that were one, and whose they are."""
