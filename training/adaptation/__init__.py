"""A bundle that goes on learning: from what the readers of a site sign, and from scans that nobody labeled."""
