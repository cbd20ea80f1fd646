"""A result in sentences, and what holds any re-wording of them to it."""
