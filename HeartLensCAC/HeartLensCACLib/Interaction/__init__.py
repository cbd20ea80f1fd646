"""Mouse and keys, there only while the module is open."""
