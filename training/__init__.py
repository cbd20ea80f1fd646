"""Building and judging the models of HeartLens, offline; run from a checkout."""
