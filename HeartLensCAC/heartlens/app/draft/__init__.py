"""The command `heartlens draft`, and the one endpoint that it may ask."""
