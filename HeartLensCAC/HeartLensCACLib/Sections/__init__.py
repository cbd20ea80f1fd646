"""The sections of the panel, from input to signature; each knows its widgets and nothing of the others."""
