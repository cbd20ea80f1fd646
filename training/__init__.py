"""Building and judging the models of HeartLens, offline; run from a checkout."""

import os

# numpy's matrix products are small here (a slice is laid on a view's grid), and many processes read slices at once.
# With a thread for each core they wait for each other by spinning: on two busy cores 105 ms of CPU a slice, alone 9.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
