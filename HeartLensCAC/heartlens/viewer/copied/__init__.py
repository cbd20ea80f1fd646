"""A case in one file that opens without a server: to be shown and sent on, and not to be changed."""
