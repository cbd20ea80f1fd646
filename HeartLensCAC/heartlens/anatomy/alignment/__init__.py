"""One heart in two scans: where a place of the first lies in the second."""
