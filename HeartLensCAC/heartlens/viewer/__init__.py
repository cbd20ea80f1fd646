"""A case in the browser: a server on this computer alone, and a page that needs nothing from anywhere else."""
