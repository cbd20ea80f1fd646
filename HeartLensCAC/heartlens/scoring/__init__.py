"""The sums: Agatston, volume, mass and density, one formula a file; `report` puts them together."""
