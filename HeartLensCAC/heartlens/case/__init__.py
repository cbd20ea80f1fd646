"""A scored CT with its edits, how a reader corrects and signs it, and its folder on the disk."""
