"""What the slices of one volume must share, the order they lie in, and their HU."""
